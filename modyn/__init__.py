"""Train models continuously on growing data; see modyn.Dataset for where it begins."""

from modyn.dataset import Dataset
from modyn.loader import Loader

__all__ = ["Dataset", "Loader"]
