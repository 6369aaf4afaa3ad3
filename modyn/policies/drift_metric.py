"""One way to look for drift: a distance, of what, and which distances are drift."""

import math
from dataclasses import dataclass
from typing import Literal

from modyn.drift.base import Distance, DriftMetric
from modyn.drift.categories import Contingency
from modyn.policies.checked import check_stands_for
from modyn.policies.criteria import DecisionCriterion, ThresholdDecisionCriterion, Verdict
from modyn.policies.window_rows import LOOKS, Look, What

__all__ = ["Metric"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to look for drift.

    Parameters
    ----------
    metric : DriftMetric
        The distance of two windows, such as `modyn.drift.MMD()`.
    decision_criterion : DecisionCriterion
        Which distances are drift.
    of : {"embeddings", "predictions", "features", "labels"}
        What of the samples is compared: what goes into the last layer of the newest model, its
        class probabilities, the numbers of the records, or the labels that are known by now.
    fields : tuple of str or None
        Which fields of the records, for "features"; by default all that hold numbers.
    score : {"distance", "p_value"}
        What the criterion is asked about. Lower p-values are worse; the metric must be one that
        gives them.
    """

    metric: DriftMetric
    decision_criterion: DecisionCriterion
    of: What = "embeddings"
    fields: tuple[str, ...] | None = None
    score: Literal["distance", "p_value"] = "distance"

    def __post_init__(self) -> None:
        check_stands_for("metric", self.metric, "distance", "modyn.drift.MMD()")
        example = "ThresholdDecisionCriterion(threshold=0.5)"
        check_stands_for("decision_criterion", self.decision_criterion, "verdict", example)
        if self.of not in LOOKS:
            raise ValueError(f"of must be one of {', '.join(LOOKS)}, got {self.of!r}")
        if self.score not in ("distance", "p_value"):
            raise ValueError(f"score must be distance or p_value, got {self.score!r}")
        kind = type(self.metric).__name__
        if self.look.asks_a_model and isinstance(self.metric, Contingency):
            raise ValueError(
                f"{kind} compares categories, which {self.of} are not: look at features or labels"
            )
        self._check_p_value(kind)
        components = getattr(self.metric, "num_pca_component", None) or 1
        if self.of == "labels" and components > 1:
            raise ValueError(f"num_pca_component is {components}, but labels are one number each")
        if self.fields is not None:
            if self.of != "features":
                raise ValueError(f"fields are of features, not of {self.of}")
            if type(self.fields) not in (tuple, list):
                raise TypeError(f"fields must be a tuple of names, got {self.fields!r}")
            if not self.fields or len(set(self.fields)) != len(self.fields):
                raise ValueError(f"fields must be different names, at least one: {self.fields}")
            object.__setattr__(self, "fields", tuple(self.fields))

    def _check_p_value(self, kind: str) -> None:
        """Refuse p-values that there are none of, or that can never be low enough."""
        count = getattr(self.metric, "num_permutations", 0)
        if self.score != "p_value" or count == 0:
            return
        if count is None:
            raise ValueError(f"score is p_value, but {kind} gives none: ask it for permutations")
        least, rule = 1 / (count + 1), self.decision_criterion
        if isinstance(rule, ThresholdDecisionCriterion) and rule.threshold < least:
            raise ValueError(
                f"a p-value of {count} permutations is at least {least:g}, so that a threshold of "
                f"{rule.threshold:g} would never fire: ask for more permutations"
            )

    @property
    def look(self) -> Look:
        """What of the samples is compared."""
        return Look(of=self.of, fields=self.fields)

    def score_of(self, distance: Distance) -> float:
        """Return what the criterion is asked about.

        Raises
        ------
        ValueError
            When that is the p-value, and the metric gave none.
        """
        if self.score == "distance" or math.isnan(distance.value):
            return float(distance.value)
        if distance.p_value is None:
            kind = type(self.metric).__name__
            raise ValueError(f"score is p_value, but {kind} gives none: ask it for permutations")
        return float(distance.p_value)

    def verdict(self, score: float, history: list[float]) -> Verdict:
        """Return what the criterion makes of a score."""
        return self.decision_criterion.verdict(score, history, lower=self.score == "p_value")
