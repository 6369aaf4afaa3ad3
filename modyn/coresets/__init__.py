"""Few samples that stand for many: greedy methods over feature vectors, in C.

A sample is a vector: the gradient of its loss with respect to the model's outputs, or an
embedding. All take float32 features of shape (n, d) and an exact number of samples to choose, and
answer rows; ties go to the lowest row, so give rows in the order of their keys. Memory is that of
the features and a few numbers a sample: no matrix of samples by samples is ever built. The answer
does not depend on the number of threads.
"""

from modyn.coresets.features import Features
from modyn.coresets.greedy import Greedy
from modyn.coresets.locations import Centers, Facilities, craig, facility_location, kcenter

__all__ = [
    "Features",
    "Greedy",
    "Centers",
    "Facilities",
    "craig",
    "facility_location",
    "kcenter",
]
