"""The key `metrics` of a drift trigger: distances of windows, and which of them are drift.

A metric of a file is a class of `modyn.drift`, and its keys are the parameters of the class, with
their types, defaults and rules; so are criteria.  A class that comes there needs one line here.
The other names are those that users of this kind of system know.  Options of theirs that never
decided anything are accepted; what would change a distance and is not built is refused.
"""

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_type_hints

from pydantic import Field, JsonValue, StringConstraints, create_model

from modyn import drift
from modyn.drift import DriftMetric
from modyn.pipelines.sections import Count, NonEmpty, Section, only
from modyn.policies import criteria
from modyn.policies.criteria import DecisionCriterion
from modyn.policies.drift import Metric

METRICS: dict[str, type[DriftMetric]] = {
    "MMD": drift.MMD,
    "Energy": drift.Energy,
    "KS": drift.KS,
    "CVM": drift.CVM,
    "Wasserstein": drift.Wasserstein,
    "Hellinger": drift.Hellinger,
    "JensenShannon": drift.JensenShannon,
    "KL": drift.KL,
    "PSI": drift.PSI,
    "TotalVariation": drift.TotalVariation,
    "ChiSquared": drift.ChiSquared,
    "GTest": drift.GTest,
    "MeanDistance": drift.MeanDistance,
    "DriftedRatio": drift.DriftedRatio,
    "ClassifierAUC": drift.ClassifierAUC,
    "SlicedWasserstein": drift.SlicedWasserstein,
    "Frechet": drift.Frechet,
}
CRITERIA: dict[str, type[DecisionCriterion]] = {
    "ThresholdDecisionCriterion": criteria.ThresholdDecisionCriterion,
    "DynamicQuantileThresholdCriterion": criteria.DynamicQuantileThresholdCriterion,
    "DynamicRollingAverageThresholdCriterion": criteria.DynamicRollingAverageThresholdCriterion,
}


def _keys(name: str, kind: Any) -> dict[str, Any]:
    """Return one key for each parameter of a class, and its id."""
    hints = get_type_hints(kind)
    keys: dict[str, Any] = {"id": (Literal[name], ...)}
    for field in fields(kind):
        default = ... if field.default is MISSING else field.default
        keys[field.name] = (hints[field.name], default)
    return keys


class CriterionSection(Section):
    """A section that stands for a decision criterion."""

    def settings(self) -> DecisionCriterion:
        values = {name: getattr(self, name) for name in type(self).model_fields}
        values.pop("needs_calibration", None)
        return CRITERIA[values.pop("id")](**values)


if TYPE_CHECKING:
    Criterion = CriterionSection
else:
    _CRITERIA = [
        create_model(
            name,
            __base__=CriterionSection,
            __doc__=kind.__doc__,
            **_keys(name, kind),
            needs_calibration=(Literal[kind.needs_calibration], kind.needs_calibration),
        )
        for name, kind in CRITERIA.items()
    ]
    Criterion = Annotated[Union[*_CRITERIA], Field(discriminator="id")]


class MetricSection(Section):
    """A section that stands for a distance and what is made of it."""

    decision_criterion: Criterion
    of: Literal["embeddings", "predictions", "features", "labels"] = "embeddings"
    fields: NonEmpty[str] | None = None
    score: Literal["distance", "p_value"] = "distance"

    def settings(self) -> Metric:
        return Metric(
            metric=self.metric(),
            decision_criterion=self.decision_criterion.settings(),
            of=self.of,
            fields=None if self.fields is None else tuple(self.fields),
            score=self.score,
        )

    def metric(self) -> DriftMetric:
        """Return the distance."""
        kept = set(type(self).model_fields) - set(MetricSection.model_fields) - {"id"}
        return METRICS[getattr(self, "id")](**{name: getattr(self, name) for name in kept})  # noqa: B009


_DeviceName = Annotated[str, StringConstraints(pattern=r"^(cpu|gpu|cuda:?[0-9]*)$")]


class _AlibiDetect(MetricSection):
    """Embeddings come from the model, so that there is nothing to preprocess."""

    p_val: float = 0.05
    x_ref_preprocessed: bool = False
    preprocessor: Annotated[JsonValue, only(None)] = None


class AlibiDetectMmd(_AlibiDetect):
    """`modyn.drift.MMD`."""

    id: Literal["AlibiDetectMmdDriftMetric"]
    device: _DeviceName | None = None
    num_permutations: Count | None = None
    kernel: Annotated[str, only("GaussianRBF")] = "GaussianRBF"
    configure_kernel_from_x_ref: Annotated[bool, only(True)] = True
    threshold: float | None = None

    def metric(self) -> DriftMetric:
        if self.threshold is not None and self.num_permutations is not None:
            raise ValueError("threshold and num_permutations exclude each other")
        return drift.MMD(num_permutations=self.num_permutations)


class AlibiDetectKS(_AlibiDetect):
    """`modyn.drift.KS`."""

    id: Literal["AlibiDetectKSDriftMetric"]
    alternative_hypothesis: Literal["two-sided", "less", "greater"] = "two-sided"
    correction: Literal["bonferroni", "fdr"] = "bonferroni"

    def metric(self) -> DriftMetric:
        return drift.KS(alternative=self.alternative_hypothesis)


class AlibiDetectCVM(_AlibiDetect):
    """`modyn.drift.CVM`."""

    id: Literal["AlibiDetectCVMDriftMetric"]
    correction: Literal["bonferroni", "fdr"] = "bonferroni"

    def metric(self) -> DriftMetric:
        return drift.CVM()


class EvidentlyModel(MetricSection):
    """`modyn.drift.ClassifierAUC`."""

    id: Literal["EvidentlyModelDriftMetric"]
    num_pca_component: Count | None = None
    bootstrap: Annotated[bool, only(False)] = False
    quantile_probability: float = 0.95
    threshold: float = 0.55

    def metric(self) -> DriftMetric:
        return drift.ClassifierAUC(num_pca_component=self.num_pca_component)


class EvidentlyRatio(MetricSection):
    """`modyn.drift.DriftedRatio`."""

    id: Literal["EvidentlyRatioDriftMetric"]
    num_pca_component: Count | None = None
    component_stattest: Annotated[str, only("wasserstein")] = "wasserstein"
    component_stattest_threshold: float = 0.1
    threshold: float = 0.2

    def metric(self) -> DriftMetric:
        return drift.DriftedRatio(
            num_pca_component=self.num_pca_component,
            component_stattest_threshold=self.component_stattest_threshold,
        )


class EvidentlySimpleDistance(MetricSection):
    """`modyn.drift.MeanDistance`."""

    id: Literal["EvidentlySimpleDistanceDriftMetric"]
    num_pca_component: Count | None = None
    distance_metric: Literal["euclidean", "cosine", "cityblock", "chebyshev"] = "euclidean"
    bootstrap: Annotated[bool, only(False)] = False
    quantile_probability: float = 0.95
    threshold: float = 0.2

    def metric(self) -> DriftMetric:
        return drift.MeanDistance(
            num_pca_component=self.num_pca_component, distance_metric=self.distance_metric
        )


class EvidentlyHellingerDistance(MetricSection):
    """`modyn.drift.Hellinger`, in Sturges' bins."""

    id: Literal["EvidentlyHellingerDistanceDriftMetric"]

    def metric(self) -> DriftMetric:
        return drift.Hellinger(bins="sturges")


if TYPE_CHECKING:
    AnyMetric = MetricSection
else:
    _ALIASES = (
        *(AlibiDetectMmd, AlibiDetectKS, AlibiDetectCVM),
        *(EvidentlyModel, EvidentlyRatio, EvidentlySimpleDistance, EvidentlyHellingerDistance),
    )
    _METRICS = [
        create_model(name, __base__=MetricSection, __doc__=kind.__doc__, **_keys(name, kind))
        for name, kind in METRICS.items()
    ]
    AnyMetric = Annotated[Union[*_METRICS, *_ALIASES], Field(discriminator="id")]
