"""How far two windows of samples are apart, and when a series of numbers has changed."""

from modyn.drift.base import Distance, DriftMetric
from modyn.drift.binned import KL, PSI, Hellinger, JensenShannon, TotalVariation
from modyn.drift.categories import ChiSquared, GTest
from modyn.drift.classifier import ClassifierAUC
from modyn.drift.mmd import MMD, Energy
from modyn.drift.moments import Frechet, MeanDistance
from modyn.drift.sliced import SlicedWasserstein
from modyn.drift.univariate import CVM, KS, DriftedRatio, Wasserstein

__all__ = [
    "CVM",
    "ChiSquared",
    "ClassifierAUC",
    "Distance",
    "DriftMetric",
    "DriftedRatio",
    "Energy",
    "Frechet",
    "GTest",
    "Hellinger",
    "JensenShannon",
    "KL",
    "KS",
    "MMD",
    "MeanDistance",
    "PSI",
    "SlicedWasserstein",
    "TotalVariation",
    "Wasserstein",
]
