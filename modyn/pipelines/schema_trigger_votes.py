"""How several votes become one decision, in drift triggers and ensembles of triggers.

A rule of one's own is a function, which a file cannot hold.
"""

from typing import Annotated, Literal

from pydantic import Field

from modyn.pipelines.sections import Count, Section, tagged
from modyn.policies import aggregation


class MajorityVote(Section):
    """More than half of all votes."""

    id: Literal["MajorityVote"]

    def settings(self) -> aggregation.AggregationStrategy:
        return aggregation.MajorityVote()


class AtLeastN(Section):
    """So many votes or more."""

    id: Literal["AtLeastN"]
    n: Count

    def settings(self) -> aggregation.AggregationStrategy:
        return aggregation.AtLeastN(n=self.n)


Votes = Annotated[
    MajorityVote | AtLeastN,
    Field(discriminator="id"),
    tagged("id", ("Custom",), "MajorityVote", "AtLeastN"),
]
