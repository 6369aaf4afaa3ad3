"""Few samples that stand for many: greedy methods over feature vectors, in C.

A sample is a vector: the gradient of its loss with respect to the model's outputs, or an
embedding. All take float32 features of shape (n, d) and a number of samples to choose, and answer
rows; ties go to the lowest row, so give rows in the order of their keys. Memory is that of the
features and a few numbers a sample: no matrix of samples by samples is ever built. The answer
does not depend on the number of threads.
"""

from modyn.coresets.features import Features
from modyn.coresets.greedy import GREEDY, Greedy
from modyn.coresets.locations import Centers, Facilities, craig, facility_location, kcenter
from modyn.coresets.matching import Herd, Matching, gradient_match, herding
from modyn.coresets.spread import Greedily, d_optimal, graph_cut, log_determinant

__all__ = [
    "GREEDY",
    "Features",
    "Greedy",
    "Centers",
    "Facilities",
    "Greedily",
    "Herd",
    "Matching",
    "craig",
    "d_optimal",
    "facility_location",
    "gradient_match",
    "graph_cut",
    "herding",
    "kcenter",
    "log_determinant",
]
