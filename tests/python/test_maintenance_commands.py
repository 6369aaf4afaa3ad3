"""The commands that check, mend, compact, erase and export: what they say."""

from __future__ import annotations

import base64
import json

import pytest
from typer.testing import CliRunner

import modyn
from modyn import cli
from modyn.errors import CorruptError
from tests.python.kept_samples import SCHEMA, home, poke
from tests.reference.format import crc32c

__all__ = ["home"]  # fixtures


def command(*words, **more):
    return CliRunner().invoke(cli.app, [str(word) for word in words], prog_name="modyn", **more)


@pytest.mark.parametrize(
    "words",
    [
        *("dataset", "audit"),
        *(f"dataset {name}" for name in ("info", "verify", "repair", "compact", "erase", "export")),
    ],
)
def test_every_command_has_help(words):
    result = command(*words.split(), "--help")

    assert result.exit_code == 0
    assert "Usage: modyn" in result.output


def test_info_says_what_is_there(home):
    text = command("dataset", "info", home).stdout
    found = json.loads(command("dataset", "info", home, "--json").stdout)

    assert "11,987 living of 12,000" in text
    assert "3 of them not compacted yet" in text
    assert found["living"] == 11_987
    assert found["erased_not_compacted"] == 3
    assert found["commits"] == 6
    assert found["segments"] == 2
    assert found["classes"] == 5
    assert sum(found["labels"].values()) == 11_987
    assert found["time"]["from"] == "2023-11-14 22:13:20"
    assert found["schema"] == SCHEMA
    blocks = sum(file.stat().st_blocks for file in home.iterdir())
    assert found["bytes_on_disk"]["total"] == 512 * blocks


def test_verify_ends_with_1_where_something_is_wrong(home):
    assert command("dataset", "verify", home).exit_code == 0
    poke(home / "000001.seg", 500, b"x" * 40)

    result = command("dataset", "verify", home)
    found = json.loads(command("dataset", "verify", home, "--json").stdout)

    assert result.exit_code == 1
    assert "000001.seg" in result.stdout
    assert "records block" in result.stdout
    assert found["ok"] is False
    assert found["findings"][0]["file"] == "000001.seg"


def test_repair_says_what_it_does_and_what_is_left(home):
    poke(home / "manifest", -3 * 128 + 20, b"??")
    poke(home / "000001.seg", 500, b"x" * 40)

    dry = command("dataset", "repair", "--dry-run", home)
    done = command("dataset", "repair", home)
    last = command("dataset", "repair", "--erase-damaged", home)

    assert (dry.exit_code, done.exit_code, last.exit_code) == (1, 1, 0)
    assert "nothing was changed" in dry.stdout
    assert "manifest.before-repair-1" in done.stdout
    assert "--erase-damaged" in done.stdout
    assert "nothing is damaged" in last.stdout


def test_erase_asks_unless_told_not_to(home):
    args = ("dataset", "erase", home, "--reason", "left", "--keys", "1,2,5-9,7000")

    refused = command(*args, input="n\n")
    assert refused.exit_code == 1
    assert "erase 7 samples?" in refused.stdout
    assert len(modyn.Dataset.open(home).keys()) == 11_987

    done = command(*args, "--yes")
    assert done.exit_code == 0
    assert "7 samples erased" in done.stdout
    assert len(modyn.Dataset.open(home).keys()) == 11_980
    assert "0 samples erased" in command(*args, "--yes").stdout


def test_erase_takes_times_labels_and_files_of_keys(home, tmp_path):
    (tmp_path / "keys").write_text("11 12\n20-22, 30\n")
    args = ("dataset", "erase", home, "--reason", "left", "--yes")

    by_file = command(*args, "--keys-file", tmp_path / "keys")
    by_time = command(*args, "--until", "2023-11-14T22:15:20", "--label", "1")
    by_zone = command(*args, "--until", "2023-11-14T23:15:20+01:00")
    by_number = command(*args, "--since", 1_700_000_000 + 11_999 * 60)

    assert "6 samples erased" in by_file.stdout
    assert "1 samples erased" in by_time.stdout
    assert "1 samples erased" in by_zone.stdout
    assert "1 samples erased" in by_number.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--keys", "1-x"], "neither a key"),
        (["--keys", "9-5"], "ends before it begins"),
        (["--keys", "12000"], "no sample has key 12000"),
        (["--since", "yesterday"], "neither a number nor an ISO date"),
        ([], "say which samples"),
    ],
)
def test_erase_refuses_what_makes_no_sense(home, words, says):
    result = command("dataset", "erase", home, "--reason", "left", "--yes", *words)

    assert result.exit_code == 2
    assert says in result.stderr


def test_audit_says_whose_bytes_are_still_there(home):
    before = command("audit", home)
    compacted = command("dataset", "compact", home)
    after = command("audit", home)
    found = json.loads(command("audit", home, "--json").stdout)

    assert before.exit_code == after.exit_code == 0
    assert "user 4711 left" in before.stdout
    assert "wrong [labels]" in before.stdout
    assert "keys 7000, 9000-9001" in before.stdout
    assert "3 erased samples are gone" in compacted.stdout
    assert "no byte of an erased sample" in after.stdout
    assert found["erased_not_compacted"] == 0
    assert [event["action"] for event in found["events"]][:3] == ["erase", "compact", "erase"]


def test_audit_ends_with_1_where_the_journal_was_changed(home):
    poke(home / "events", 150, b"?")

    result = command("audit", home)

    assert result.exit_code == 1
    assert "events" in result.stderr


def test_export_takes_its_format_from_the_name(home, tmp_path):
    result = command("dataset", "export", home, "--out", tmp_path / "a.jsonl", "--keys", "0-2")
    wrong = command("dataset", "export", home, "--out", tmp_path / "a.xls")

    assert "3 samples" in result.stdout
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [0, 1, 2]
    assert base64.b64decode(lines[2]["word"]) == b"\2\2"
    assert wrong.exit_code == 2
    assert "say the format" in wrong.stderr


@pytest.mark.parametrize("words", ["dataset info", "dataset verify", "dataset repair", "audit"])
def test_what_is_no_dataset_is_wrong_input(tmp_path, words):
    result = command(*words.split(), tmp_path / "nowhere")

    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert "Errno" not in result.stderr


def test_a_whole_record_that_cannot_follow_is_a_finding(tmp_path):
    """It opens for nobody, so that verify must not call it a torn tail."""
    home = tmp_path / "d"
    with modyn.Dataset.create(home, schema={"x": "int8"}, labels=False) as dataset:
        dataset.append({"x": [1, 2]}, timestamps=[0, 0])
    manifest = (home / "manifest").read_bytes()
    uuid, last = manifest[16:32], manifest[-128:]
    record = last[:8] + (2).to_bytes(8, "little") + (1).to_bytes(8, "little") + last[24:120]
    record += last[124:]  # the chain is right, the count is not
    record += crc32c(record, crc32c(uuid)).to_bytes(4, "little")
    (home / "manifest").write_bytes(manifest + record)

    with pytest.raises(CorruptError, match="commit 2"):
        modyn.Dataset.open(home)
    assert not modyn.verify(home).ok
    modyn.repair(home)
    assert modyn.verify(home).ok
    assert modyn.Dataset.open(home).fetch([0, 1])["x"].tolist() == [1, 2]
