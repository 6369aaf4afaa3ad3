"""Backtesting: trigger policies held against what runs recorded, without training.

Examples
--------
>>> from modyn.backtesting import Cost, backtest, oracle
"""

from modyn.backtesting.backtest import backtest
from modyn.backtesting.cost import Cost
from modyn.backtesting.oracle import oracle
from modyn.backtesting.result import Backtest, Entry
from modyn.backtesting.scripted import AtPositions

__all__ = ["AtPositions", "Backtest", "Cost", "Entry", "backtest", "oracle"]
