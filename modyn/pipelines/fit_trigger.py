"""Whether a trigger policy fits what it will look at: found out before anything is trained."""

from collections.abc import Iterator, Mapping
from math import prod

from modyn.dataset import Dataset
from modyn.errors import ConfigError
from modyn.inputs import Field
from modyn.metrics import Metric, RocAuc
from modyn.pipelines.settings import BORDERS, NUMERIC, Model, Training
from modyn.policies import DataDriftTrigger, DetectorTrigger, Trigger
from modyn.policies.base import inner_policies
from modyn.policies.detector import NEEDS_LABELS
from modyn.policies.drift import Metric as Looked
from modyn.policies.judging import JudgingTrigger

__all__ = ["check_fits", "judged_metrics"]


def check_fits(
    trigger: Trigger, dataset: Dataset, model: Model, training: Training, place: str = "trigger"
) -> None:
    """Refuse a trigger that would fail in the middle of a run, and policies within it.

    Raises
    ------
    ConfigError
        Naming the place.
    """
    for name, inner in inner_policies(trigger):
        if isinstance(inner, Trigger):
            check_fits(inner, dataset, model, training, f"{place}.{name}")
    classes = _classes(model, training)
    if isinstance(trigger, DataDriftTrigger):
        for name, looked in trigger.metrics.items():
            _check_look(looked, dataset, classes, f"{place}.metrics.{name}")
    if isinstance(trigger, DetectorTrigger) and trigger.of in NEEDS_LABELS:
        _check_labels(dataset, f"{place}.of: {trigger.of}")
    if isinstance(trigger, JudgingTrigger):
        _check_labels(dataset, f"{place}: its metrics")
        for metric in trigger.metrics:
            _check_classes(metric, classes, f"{place}.metrics")


def judged_metrics(trigger: Trigger) -> Iterator[Metric]:
    """Return what a trigger, and those within it, measure on the stream."""
    for _, inner in inner_policies(trigger):
        if isinstance(inner, Trigger):
            yield from judged_metrics(inner)
    if isinstance(trigger, JudgingTrigger):
        yield from trigger.metrics


def _classes(model: Model, training: Training) -> int | None:
    """Return of how many classes the model gives probabilities; None where that is not known."""
    if model.factory is not None or model.id != "MLP":
        return None
    outputs, criterion = model.config.get("num_classes", 1), training.optimization_criterion.name
    if criterion in NUMERIC:
        return 2 if criterion in BORDERS and outputs == 1 else None
    return int(outputs)


def _check_look(metric: Looked, dataset: Dataset, classes: int | None, place: str) -> None:
    """Refuse what is compared of samples where they do not have it."""
    width: int | None = None
    if metric.of == "labels":
        _check_labels(dataset, f"{place}.of: labels")
    if metric.of == "predictions":
        width = classes
    if metric.of == "features":
        width = _width(dataset.schema, metric.fields, place)
    components = getattr(metric.metric, "num_pca_component", None)
    if components is not None and width is not None and components > width:
        raise ConfigError(
            f"{place}.num_pca_component is {components}, but {metric.of} are {width} numbers"
        )


def _width(schema: Mapping[str, str], names: tuple[str, ...] | None, place: str) -> int:
    """Return how many numbers of a record are compared."""
    numbers = {}
    for name, kind in schema.items():
        field = Field.parse(f"{name}: {kind}")
        if field.dtype is not None:
            numbers[name] = prod(field.shape)
    for name in names or ():
        if name not in numbers:
            what = f"{schema[name]} are no numbers" if name in schema else "there is no such field"
            raise ConfigError(f"{place}.fields: {name!r}: {what}; there are {', '.join(numbers)}")
    if not numbers:
        raise ConfigError(f"{place}.of: features: no field of the dataset holds numbers")
    return sum(numbers[name] for name in names or numbers)


def _check_labels(dataset: Dataset, what: str) -> None:
    if not dataset.view.has_labels:
        raise ConfigError(f"{what} need labels, and the dataset {dataset.path} has none")


def _check_classes(metric: Metric, classes: int | None, place: str) -> None:
    """Refuse a metric of fewer classes than the model gives."""
    if classes is None or metric.classes is None:
        return
    if classes > metric.classes or (isinstance(metric, RocAuc) and classes != metric.classes):
        raise ConfigError(
            f"{place}: {metric.name} has {metric.classes} classes, the model gives {classes}"
        )
