"""Reports: one page per run, and one that compares runs.  Each is a single file without links out.

Examples
--------
>>> from modyn.report import write_comparison, write_run
"""

from modyn.report.comparison import write_comparison
from modyn.report.runpage import write_run

__all__ = ["write_comparison", "write_run"]
