"""Reports: a page per run, one that compares runs, one of a choice, and one of a backtest.

Each is a single file without links out.

Examples
--------
>>> from modyn.report import write_comparison, write_run
"""

from modyn.report.backtestpage import write_backtest
from modyn.report.choices import write_choices
from modyn.report.comparison import write_comparison
from modyn.report.runpage import write_run

__all__ = ["write_backtest", "write_choices", "write_comparison", "write_run"]
