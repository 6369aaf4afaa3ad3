"""pipeline.yaml: presampling, and what selects."""

from __future__ import annotations

import json

import pytest

from modyn import policies
from modyn.errors import ConfigError
from modyn.pipelines import schema_presampling
from modyn.policies import LabelBalanced, NewData, Random
from tests.python.config_texts import MINIMAL, parsed


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{strategy: No, ratio: 100}", NewData(tail_triggers=3)),
        ("{strategy: Random, ratio: 7}", Random(ratio=7, tail_triggers=3)),
        (
            "{strategy: LabelBalanced, ratio: 1, ratio_max: 8, force_column_balancing: true}",
            LabelBalanced(ratio=1, ratio_max=8, tail_triggers=3, force_column_balancing=True),
        ),
    ],
)
def test_presampling_becomes_a_policy(section, expected):
    strategy = f"{{name: CoresetStrategy, tail_triggers: 3, presampling_config: {section}}}"
    text = MINIMAL.replace("{name: NewDataStrategy, tail_triggers: 0}", strategy)

    assert parsed(text).selection == expected


TRIED = [
    ("Random", {"ratio": 7, "ratio_max": 9}),
    ("RandomNoReplacement", {"ratio": 7}),
    ("LabelBalanced", {"ratio": 7, "force_column_balancing": True}),
    ("TriggerBalanced", {"ratio": 7, "force_required_target_size": True}),
    ("TimeStratified", {"ratio": 7, "every": "2d"}),
    ("Weighted", {"ratio": 7, "by": "timestamp", "half_life": "30d", "floor": 0}),
    ("MostRecent", {"ratio": 7}),
    ("TopBySignal", {"ratio": 7, "signal": "loss", "largest": False, "unseen": "last"}),
    ("QuantileBand", {"signal": "loss", "low": 0.25, "high": 1, "trainings": 2}),
    ("Reservoir", {"size": 70}),
    ("ClassBalancedReservoir", {"size": 70}),
    ("GDumb", {"size": 70}),
]


def with_strategy(strategy):
    text = MINIMAL.replace("{name: NewDataStrategy, tail_triggers: 0}", json.dumps(strategy))
    return parsed(text)


@pytest.mark.parametrize(("name", "parameters"), TRIED)
def test_a_presampling_strategy_is_the_policy_of_that_name(name, parameters):
    kind = getattr(policies, name)
    limit = {} if "size" in parameters else {"limit": 11}
    expected = kind(**parameters, **limit, tail_triggers=None)
    presampling = {"strategy": name, **parameters}
    strategy = {"name": "CoresetStrategy", "tail_triggers": None, **limit}

    found = with_strategy({**strategy, "presampling_config": presampling}).selection

    assert found == expected
    assert schema_presampling.section(found) == presampling
    if "size" in parameters:
        with pytest.raises(ConfigError, match=f"limit is not for {name}, whose size says"):
            with_strategy({**strategy, "limit": 5, "presampling_config": presampling})
        with pytest.raises(ConfigError, match="selection_strategy: tail_triggers must be None, go"):
            with_strategy({**strategy, "tail_triggers": 1, "presampling_config": presampling})


def test_every_presampling_strategy_was_tried():
    assert sorted(schema_presampling.STRATEGIES) == sorted(name for name, _ in TRIED)


def test_a_limit_without_presampling_draws_uniformly():
    found = with_strategy({"name": "CoresetStrategy", "tail_triggers": 1, "limit": 9}).selection

    assert found == NewData(tail_triggers=1, limit=9, limit_reset="sampleUAR")
    assert schema_presampling.section(found) == {"strategy": "No", "ratio": 100}


def test_freshness_is_a_strategy_of_its_own():
    strategy = {
        "name": "FreshnessSamplingStrategy",
        "tail_triggers": None,
        "unused_data_ratio": 30,
        "limit": 9,
    }

    found = with_strategy(strategy).selection

    assert found == policies.FreshnessSampling(unused_data_ratio=30, limit=9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tail_triggers": 2},
            "tail_triggers must be None, got 2: which samples were used is abou",
        ),
        ({"unused_data_ratio": 100}, "unused_data_ratio must be 1 to 99, got 100"),
        ({"unused_data_ratio": 0}, "unused_data_ratio must be 1 to 99, got 0"),
        ({"unused_data_ratio": 1.5}, "unused_data_ratio: should be a valid integer, got 1.5"),
        ({"storage_backend": "local"}, "storage_backend local is for NewDataStrategy"),
        ({"limit": 0}, "limit must be at least 1, or -1 for no limit, got 0"),
    ],
)
def test_d26_what_freshness_cannot_be_is_refused(changes, message):
    strategy = {"name": "FreshnessSamplingStrategy", "unused_data_ratio": 3, "tail_triggers": None}

    with pytest.raises(ConfigError, match=message):
        with_strategy(strategy | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tail_triggers": 0}, "tail_triggers must be at least 1, or None: with 0 there is one"),
        ({"storage_backend": "local"}, "storage_backend local is for NewDataStrategy"),
    ],
)
def test_d26_what_presampling_cannot_be_is_refused(changes, message):
    strategy = {
        "name": "CoresetStrategy",
        "tail_triggers": 1,
        "presampling_config": {"strategy": "TriggerBalanced", "ratio": 5},
    }

    with pytest.raises(ConfigError, match=message):
        with_strategy(strategy | changes)
