"""Cells are kept, methods are all there, and what is said of them adds up."""

from __future__ import annotations

import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.picture import dots, pictures
from benchmarks.section import Dot, Dots, Section, Table
from benchmarks.selecting.buffers import AfterEach, ends
from benchmarks.selecting.cells import Kept, Name, Result
from benchmarks.selecting.comparing import FEWER, FULL, SHARES, UNIFORM, Comparison, Curve
from benchmarks.selecting.methods import METHODS, PARTS, WHOLE
from benchmarks.selecting.streams import Samples, hashed, made
from modyn import downsampling, policies
from modyn.policies.checks import check_trigger

pytest.importorskip("torch")


def result(value, busy=1.0):
    return Result(value=value, wall=busy, busy=busy, steps=10, trained=int(1000 * busy))


def name(method, share, seed=0, stream="air"):
    return Name("policies", stream, method, f"{share / 10:g} %", seed)


def a_campaign(method, value, busy):
    """Return results of plain ways, where all data is right of 80 percent, and of a method."""
    kept = Kept(None)
    for seed in range(3):
        kept.add(name(FULL, WHOLE, seed), result(80 + seed / 100))
        for share in SHARES:
            kept.add(name(FEWER, share, seed), result(70 + share / 100, share / WHOLE))
            kept.add(name(UNIFORM, share, seed), result(69 + share / 100, share / WHOLE))
            kept.add(name(method, share, seed), result(value + seed / 100, busy))
    return Comparison(kept, range(3), ["air"])


def test_every_policy_and_downsampler_is_one_of_the_methods():
    known = set()
    for method in METHODS:
        given = method.make(500, 1000)
        known |= {type(given[key]) for key in ("selection", "downsampling") if key in given}
    not_compared = {"InfoBatch", "Schedule"}  # on MNIST; no method

    for module, base in (
        (policies, policies.Selection),
        (downsampling, downsampling.Downsampler),
    ):
        for public in set(module.__all__) - not_compared:
            kind = getattr(module, public)
            if isinstance(kind, type) and issubclass(kind, base) and kind is not base:
                assert kind in known, public


def test_methods_keep_the_share_that_they_are_said_to_keep():
    for method in METHODS:
        for share in method.shares:
            given = method.make(share, 1000)
            for policy in given.values():
                if hasattr(policy, "size"):
                    assert policy.size == PARTS * 1000 * share // WHOLE // 2
                elif getattr(policy, "ratio", 100) != 100:
                    assert policy.ratio / policy.ratio_max == share / WHOLE


def test_results_are_there_when_a_campaign_goes_on(tmp_path):
    path = tmp_path / "cells.jsonl"
    Kept(path).add(name(FULL, WHOLE), dataclasses.replace(result(80.0), more={"windows": [1.5]}))
    Kept(path).add(name(UNIFORM, 500), result(79.0))

    again = Kept(path)

    assert again[name(FULL, WHOLE)].more == {"windows": [1.5]}
    assert [found.value for _, found in again.of(method=UNIFORM)] == [79.0]
    assert name(UNIFORM, 250) not in again


def test_the_plain_ways_are_as_good_as_the_best_of_them_for_the_seconds():
    curve = Curve.through([(1.0, 81.0), (0.25, 70.0), (0.5, 60.0)])

    assert [curve.at(price) for price in (0.1, 0.25, 0.5, 1.0, 9.0)] == [70, 70, 75.5, 81, 81]


def test_a_method_is_better_only_where_it_beats_the_plain_ways():
    for value, busy, steps, cost in (
        (79.0, 0.25, "better", "better"),
        (79.0, 1.0, "better", "worse"),
    ):
        found = a_campaign("loss", value, busy)

        assert found.at_equal_steps("loss", 250).verdict == steps
        assert found.at_equal_seconds("loss", 250).verdict == cost
    assert found.at_equal_steps(UNIFORM, 250).verdict == "even"
    assert found.to_full("loss", 250) == pytest.approx((-1.0, 1.0))


def test_a_campaign_that_is_not_over_says_what_it_has():
    kept = Kept(None)
    kept.add(name(FULL, WHOLE), result(80.0))
    kept.add(name("loss", 250), result(79.0))
    found = Comparison(kept, range(3), ["air", "cve"])

    assert found.summary().rows == [
        [FULL, "+0.00", "", "", "1.00", "", "", "1"],
        ["loss", "", "-1.00", "", "", "1.00", "", "0, 1, 0"],
    ]
    assert len(found.tables()) == 1
    assert len(found.gains().rows) == 1


def test_dots_out_of_the_picture_are_said():
    figure = a_campaign("loss", 20.0, 0.5).dots()[0]
    far = dots(json.loads(json.dumps(dataclasses.asdict(figure))))

    assert ElementTree.fromstring(far).tag.endswith("svg")
    assert "-51.5" in far


def test_a_section_of_dots_has_a_picture_for_each():
    rows = [("presampling", "newest", [Dot("50 %", -0.5, -1.0, 0.0)])]
    section = Section(id="S4", title="all", about="", dots=[Dots("a", "points", rows)] * 2)
    section.tables.append(Table("t", ["", "x"], [["a", 1]]))

    drawn = pictures(json.loads(json.dumps(section.as_json())))

    assert [file for file, _ in drawn] == ["S4.svg", "S4-2.svg"]


def test_a_stream_is_made_once_and_thinned_evenly(tmp_path):
    samples = Samples(np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10))

    first = made(tmp_path / "some", lambda: samples, limit=5)
    again = made(tmp_path / "some", lambda: pytest.fail("it is there"))

    assert first.labels.tolist() == again.labels.tolist() == [0, 2, 4, 6, 8]
    assert first.timestamps.tolist() == [0, 1, 2, 3, 4]


def test_words_fall_into_the_same_places_whatever_is_around_them():
    assert np.array_equal(hashed("Buffer, overflow"), hashed("overflow (buffer)"))


def test_a_task_ends_where_its_classes_do():
    labels = np.array([3, 1, 3, 1, 0, 2, 0, 2, 5, 4, 5])

    assert ends(labels) == (4, 8, 11)


def test_the_trigger_after_each_task_keeps_the_promises_of_a_trigger():
    check_trigger(AfterEach(positions=(5, 17, 60)))
