"""From files to samples of a dataset, each byte of each file once."""

from modyn.ingest.files import ingest
from modyn.ingest.report import IngestReport

__all__ = ["IngestReport", "ingest"]
