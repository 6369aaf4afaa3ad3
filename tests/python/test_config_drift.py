"""Drift triggers in pipeline.yaml: all metrics, the names that users know, and what is refused."""

from __future__ import annotations

import inspect

import pytest

from modyn import drift, policies
from modyn.errors import ConfigError
from modyn.pipelines import Pipeline, config
from modyn.pipelines.schema_drift_metrics import METRICS
from modyn.policies import (
    AmountWindowingStrategy,
    DataAmountTrigger,
    DataDriftTrigger,
    TimeTrigger,
    TimeWindowingStrategy,
)
from modyn.policies.aggregation import AtLeastN, MajorityVote
from modyn.policies.criteria import (
    DynamicQuantileThresholdCriterion,
    DynamicRollingAverageThresholdCriterion,
    ThresholdDecisionCriterion,
)
from modyn.policies.drift import Metric
from tests.python.config_texts import FULL
from tests.python.streams import drifting, pipeline

STATIC = "decision_criterion: {id: ThresholdDecisionCriterion, threshold: 0.5}"
HALF = ThresholdDecisionCriterion(threshold=0.5)
HEAD = FULL[: FULL.index("trigger:\n  id")]
TAIL = FULL[FULL.index("selection_strategy:") :]


def read(trigger: str) -> policies.Trigger:
    """The policy of a section."""
    lines = "".join(f"  {line}\n" for line in trigger.strip().splitlines())
    return config.parse(f"{HEAD}trigger:\n{lines}{TAIL}".encode()).trigger("s")


def with_metric(metric: str) -> policies.Trigger:
    return read(
        f"id: DataDriftTrigger\nevaluation_interval_data_points: 250\nmetrics: {{a: {{{metric}}}}}"
    )


def test_a_whole_section_stands_for_its_policy() -> None:
    found = read(
        """
id: DataDriftTrigger
evaluation_interval_data_points: 250
warmup_intervals: 15
warmup_policy: {id: TimeTrigger, every: "1y"}
windowing_strategy: {id: TimeWindowingStrategy, limit_ref: "5y", limit_cur: "2y"}
sample_size: null
aggregation_strategy: {id: AtLeastN, n: 2}
reset_history_on_model: true
metrics:
  mmd:
    id: MMD
    num_pca_component: 8
    decision_criterion: {id: DynamicQuantileThresholdCriterion, window_size: 15}
  moved:
    id: KS
    of: features
    fields: [dense]
    decision_criterion: {id: DynamicRollingAverageThresholdCriterion, absolute: true}
  classes:
    id: PSI
    num_permutations: 99
    of: predictions
    score: p_value
    decision_criterion: {id: ThresholdDecisionCriterion, threshold: 0.01}
"""
    )

    assert found == DataDriftTrigger(
        evaluation_interval_data_points=250,
        warmup_intervals=15,
        warmup_policy=TimeTrigger(every="1y"),
        windowing_strategy=TimeWindowingStrategy(limit_ref="5y", limit_cur="2y"),
        sample_size=None,
        aggregation_strategy=AtLeastN(n=2),
        reset_history_on_model=True,
        metrics={
            "mmd": Metric(
                metric=drift.MMD(num_pca_component=8),
                decision_criterion=DynamicQuantileThresholdCriterion(window_size=15),
            ),
            "moved": Metric(
                metric=drift.KS(),
                decision_criterion=DynamicRollingAverageThresholdCriterion(absolute=True),
                of="features",
                fields=("dense",),
            ),
            "classes": Metric(
                metric=drift.PSI(num_permutations=99),
                decision_criterion=ThresholdDecisionCriterion(threshold=0.01),
                of="predictions",
                score="p_value",
            ),
        },
    )


def test_what_is_left_out_is_as_users_know_it() -> None:
    found = with_metric(f"id: MMD, {STATIC}")

    assert isinstance(found, DataDriftTrigger)
    assert found.windowing_strategy == AmountWindowingStrategy(amount_ref=1000, amount_cur=1000)
    assert found.aggregation_strategy == MajorityVote()
    assert found.sample_size == 5000
    assert found.metrics["a"].of == "embeddings"
    assert found.warmup_intervals is None


def test_files_may_say_whether_a_criterion_needs_calibration() -> None:
    fixed = "decision_criterion: {id: ThresholdDecisionCriterion, threshold: 1, "

    found = with_metric(f"id: KS, {fixed}needs_calibration: false}}")

    assert found == with_metric(f"id: KS, {fixed}}}")
    with pytest.raises(ValueError, match="needs_calibration"):
        with_metric(f"id: KS, {fixed}needs_calibration: true}}")


def test_every_metric_has_a_name_in_files() -> None:
    kinds = {name: getattr(drift, name) for name in drift.__all__}
    metrics = {name for name, kind in kinds.items() if hasattr(kind, "distance")}

    assert set(METRICS) == metrics - {"DriftMetric"}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_takes_the_parameters_of_its_class(name: str) -> None:
    defaults = METRICS[name]()
    parameters = "".join(
        f"{key}: {'null' if value is None else value}, ".replace("True", "true").replace(
            "False", "false"
        )
        for key, value in vars(defaults).items()
    )

    found = with_metric(f"id: {name}, of: labels, {parameters}{STATIC}")

    assert found.metrics["a"].metric == defaults
    assert set(vars(defaults)) == set(inspect.signature(METRICS[name]).parameters)


@pytest.mark.parametrize(
    ("section", "metric"),
    [
        ("id: AlibiDetectMmdDriftMetric, p_val: 0.1, device: 'cuda:0'", drift.MMD()),
        ("id: AlibiDetectMmdDriftMetric, threshold: 0.2, kernel: GaussianRBF", drift.MMD()),
        ("id: AlibiDetectMmdDriftMetric, num_permutations: 9", drift.MMD(num_permutations=9)),
        ("id: AlibiDetectKSDriftMetric, correction: fdr", drift.KS()),
        (
            "id: AlibiDetectKSDriftMetric, alternative_hypothesis: less",
            drift.KS(alternative="less"),
        ),
        ("id: AlibiDetectCVMDriftMetric, x_ref_preprocessed: true", drift.CVM()),
        (
            "id: EvidentlyModelDriftMetric, num_pca_component: 3, bootstrap: false",
            drift.ClassifierAUC(num_pca_component=3),
        ),
        (
            "id: EvidentlyRatioDriftMetric, component_stattest_threshold: 0.2",
            drift.DriftedRatio(component_stattest_threshold=0.2),
        ),
        (
            "id: EvidentlySimpleDistanceDriftMetric, distance_metric: cosine, threshold: 0.3",
            drift.MeanDistance(distance_metric="cosine"),
        ),
        ("id: EvidentlyHellingerDistanceDriftMetric", drift.Hellinger(bins="sturges")),
    ],
)
def test_names_that_users_know_stand_for_our_metrics(
    section: str, metric: drift.DriftMetric
) -> None:
    assert with_metric(f"{section}, {STATIC}").metrics["a"] == Metric(
        metric=metric, decision_criterion=HALF
    )


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (f"id: MDM, {STATIC}", "trigger.metrics.a: id 'MDM' is unknown; did you mean 'MMD'?"),
        (f"id: MMD, gama: 1.0, {STATIC}", "metrics.a.gama: unknown key; did you mean 'gamma'?"),
        ("id: MMD", "trigger.metrics.a.decision_criterion: this key is required"),
        (
            "id: MMD, decision_criterion: {id: ThresholdDecisionCriterion}",
            "trigger.metrics.a.decision_criterion.threshold: this key is required",
        ),
        (
            "id: MMD, decision_criterion: {id: DynamicQuantileThresholdCriterion}",
            "metrics.a: DynamicQuantileThresholdCriterion needs a warmup_policy to be calibrated",
        ),
        (
            "id: MMD, decision_criterion: {id: DynamicQuantileThresholdCriterion, quantile: 2.0}",
            "quantile must be",
        ),
        (f"id: MMD, num_permutations: 0, {STATIC}", "num_permutations must be at least 1, got 0"),
        (f"id: MMD, of: colours, {STATIC}", "trigger.metrics.a.of: "),
        (f"id: MMD, fields: [dense], {STATIC}", "fields are of features, not of embeddings"),
        (f"id: KS, score: p_value, {STATIC}", "score is p_value, but KS gives none: ask it"),
        (
            f"id: GTest, of: labels, num_pca_component: 2, {STATIC}",
            "trigger.metrics.a: GTest compares categories, which principal components are not",
        ),
        (
            f"id: AlibiDetectMmdDriftMetric, preprocessor: {{max_len: 9}}, {STATIC}",
            "metrics.a.preprocessor: ('max_len': 9) is not supported yet; available: None",
        ),
        (
            f"id: EvidentlySimpleDistanceDriftMetric, bootstrap: true, {STATIC}",
            "metrics.a.bootstrap: True is not supported yet; available: False",
        ),
        (
            f"id: AlibiDetectMmdDriftMetric, threshold: 0.1, num_permutations: 5, {STATIC}",
            "threshold and num_permutations exclude each other",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(metric: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        with_metric(metric)

    assert message in str(raised.value)


def test_functions_do_not_come_from_files() -> None:
    with pytest.raises(ConfigError, match="'Custom' is not supported yet; available: MajorityVote"):
        read(
            "id: DataDriftTrigger\nevaluation_interval_data_points: 250\n"
            f"metrics: {{a: {{id: MMD, {STATIC}}}}}\naggregation_strategy: {{id: Custom}}"
        )


WARM = """
id: DataDriftTrigger
evaluation_interval_data_points: 250
metrics: {a: {id: KS, of: features, decision_criterion: {id: DynamicQuantileThresholdCriterion}}}
warmup_intervals: 8
"""


def test_any_trigger_may_decide_in_the_warm_up() -> None:
    found = read(
        WARM
        + """
warmup_policy:
  id: EnsembleTrigger
  ensemble_strategy: {id: MajorityVote}
  subtriggers:
    often:
      id: DetectorTrigger
      evaluation_interval_data_points: 100
      warmup_intervals: 3
      warmup_policy: {id: DataIncorporationLatencyCostTrigger, evaluation_interval_data_points: 50,
                      incorporation_delay_per_training_second: 9.0}
"""
    )

    assert isinstance(found, DataDriftTrigger)
    assert isinstance(found.warmup_policy, policies.EnsembleTrigger)
    inner = found.warmup_policy.subtriggers["often"]
    assert isinstance(inner, policies.DetectorTrigger)
    assert inner.warmup_policy == policies.DataIncorporationLatencyCostTrigger(
        evaluation_interval_data_points=50, incorporation_delay_per_training_second=9.0
    )


DETECTOR = "warmup_policy: {id: DetectorTrigger, evaluation_interval_data_points"


@pytest.mark.parametrize(
    ("warmup", "message"),
    [
        ("warmup_policy: {id: TimeTriger, every: 1d}", "trigger.warmup_policy: id 'TimeTriger' is"),
        (f"{DETECTOR}: 0}}", "trigger.warmup_policy.evaluation_interval_data_points: "),
        (
            f"{DETECTOR}: 2001}}",
            "trigger: warmup_policy: DetectorTrigger looks every 2001 samples, and never does in a "
            "warm-up of 2000",
        ),
        (
            f"{DETECTOR}: 500, warmup_intervals: 4, "
            "warmup_policy: {id: DataAmountTrigger, num_samples: 9}}",
            "trigger: warmup_policy: DetectorTrigger warms up itself as long as it is asked, for "
            "2000 samples: name its warmup_policy instead",
        ),
        (
            f"{DETECTOR}: 5, warmup_policy: {{id: DetectorTrigger}}}}",
            "trigger.warmup_policy.warmup_policy.evaluation_interval_data_points: this key is",
        ),
    ],
)
def test_a_warm_up_that_makes_no_sense_is_refused_by_its_place(warmup: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(WARM + warmup)

    assert message in str(raised.value)


@pytest.mark.parametrize(
    "trigger",
    [
        DataDriftTrigger(
            evaluation_interval_data_points=9,
            warmup_intervals=2,
            warmup_policy=policies.PerformanceTrigger(
                evaluation_interval_data_points=5,
                decision_criteria={
                    "low": policies.StaticPerformanceThresholdCriterion(metric="Accuracy")
                },
            ),
            metrics={"a": Metric(metric=drift.KS(), decision_criterion=HALF)},
        ),
        DataDriftTrigger(
            evaluation_interval_data_points=9,
            metrics={
                "a": Metric(
                    metric=drift.KS(alternative="less", num_permutations=3),
                    decision_criterion=HALF,
                    of="features",
                    fields=("dense",),
                    score="p_value",
                )
            },
            sample_size=None,
        ),
        DataDriftTrigger(
            evaluation_interval_data_points=9,
            warmup_intervals=2,
            warmup_policy=DataAmountTrigger(num_samples=5),
            metrics={
                name: Metric(
                    metric=kind(),
                    decision_criterion=DynamicQuantileThresholdCriterion(quantile=0),
                    of="features",
                )
                for name, kind in METRICS.items()
            },
            windowing_strategy=TimeWindowingStrategy(limit_ref="3d", limit_cur="1d"),
            aggregation_strategy=AtLeastN(n=3),
            reset_windows_in_warmup=True,
        ),
    ],
)
def test_what_is_made_in_python_can_be_run_as_a_file(tmp_path, trigger) -> None:
    one = pipeline(drifting(tmp_path / "stream"), trigger=trigger)
    file = tmp_path / "file.yaml"
    file.write_bytes(one.config_text())

    other = Pipeline.from_yaml(file, datasets=tmp_path)

    assert other.describe() == one.describe()
    assert other.trigger == one.trigger
