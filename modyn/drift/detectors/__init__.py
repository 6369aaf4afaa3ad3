"""Detectors: they look at numbers one by one and say where their distribution changed."""

from modyn.drift.detectors.adwin import ADWIN
from modyn.drift.detectors.ddm import DDM
from modyn.drift.detectors.detector import Detector
from modyn.drift.detectors.eddm import EDDM
from modyn.drift.detectors.kswin import KSWIN
from modyn.drift.detectors.page_hinkley import PageHinkley

__all__ = ["ADWIN", "DDM", "EDDM", "KSWIN", "Detector", "PageHinkley"]
