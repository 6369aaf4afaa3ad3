"""`metadata` in pipeline.yaml, in Python and on the command line; nothing connects."""

from __future__ import annotations

from pathlib import Path

import pytest

from modyn.errors import ConfigError
from modyn.pipelines import Metadata, Pipeline, rundir, strict_yaml
from tests.python.config_texts import MINIMAL, parsed
from tests.python.streams import drifting, pipeline

URL = "postgresql://reader@db.example/metadata"
SECRET = "s3cret-of-the-test"


def refusal(metadata: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(MINIMAL + metadata)
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("", None),
        ("metadata: null\n", None),
        (f"metadata: {URL}\n", Metadata(url=URL)),
        ("metadata: service=modyn\n", Metadata(url="service=modyn")),
        (
            f"metadata: {{url: '{URL}', layout: blocks, hash_partition_modulus: 4, unlogged: true,"
            " connections: 3, lease_seconds: 5, retry_seconds: 0, publish: true}\n",
            Metadata(
                url=URL,
                layout="blocks",
                hash_partition_modulus=4,
                unlogged=True,
                connections=3,
                lease_seconds=5.0,
                retry_seconds=0.0,
                publish=True,
            ),
        ),
    ],
)
def test_a_file_says_where_metadata_lies(section, expected):
    assert parsed(MINIMAL + section).metadata == expected


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("metadata: 5\n", "t: metadata: should be a URL, or a section with the key url"),
        ("metadata: []\n", "t: metadata: should be a URL, or a section with the key url"),
        ("metadata: {layout: rows}\n", "t: metadata.url: this key is required"),
        ("metadata: {url: 5}\n", "t: metadata.url: should be a URL"),
        (
            f"metadata: {{url: '{URL}', layout: row}}\n",
            "t: metadata.layout: should be 'rows' or 'blocks', got 'row'",
        ),
        (
            f"metadata: {{url: '{URL}', hash_partition_modulus: 0}}\n",
            "t: metadata.hash_partition_modulus: should be greater than or equal to 1, got 0",
        ),
        (
            f"metadata: {{url: '{URL}', lease_second: 3}}\n",
            "t: metadata.lease_second: unknown key; did you mean 'lease_seconds'?",
        ),
        (
            f"metdata: {URL}\n",
            "t: metdata: unknown key; did you mean 'metadata'?",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(section, message):
    assert refusal(section) == message.replace("t:", "pipeline.yaml:", 1)


@pytest.mark.parametrize(
    "section",
    [
        f"metadata: postgresql://me:{SECRET}@host/db\n",
        f"metadata: host=host password={SECRET}\n",
        f"metadata: {{url: 'postgresql://me:{SECRET}@host/db'}}\n",
        f"metadata: {{url: 'postgresql://me:{SECRET}@host/db', layuot: rows}}\n",
        f"metadata: ['postgresql://me:{SECRET}@host/db']\n",
        f"metadata: {{url: ['postgresql://me:{SECRET}@host/db']}}\n",
        f"metadata: {{url: {{a: 'postgresql://me:{SECRET}@host/db'}}}}\n",
    ],
)
def test_a_password_is_refused_and_never_shown(section):
    assert SECRET not in refusal(section)


def test_the_message_about_a_password_says_what_to_do():
    message = refusal(f"metadata: postgresql://me:{SECRET}@host/db\n")

    assert message.startswith("pipeline.yaml: metadata: take the password out of the URL: PGPASS")


def test_blanks_around_a_url_are_no_part_of_it():
    assert Metadata(url=" service=metadata ").url == "service=metadata"


def test_where_metadata_lies_is_no_part_of_what_a_run_computes(tmp_path):
    stream = drifting(tmp_path / "stream", count=200)

    plain = pipeline(stream)
    placed = pipeline(stream, metadata=URL)
    special = pipeline(stream, metadata=Metadata(url=URL, layout="blocks", retry_seconds=1.5))

    assert placed.metadata == Metadata(url=URL)
    assert plain.describe() == placed.describe() == special.describe()
    assert "metadata" not in strict_yaml.load(plain.config_text(), "t")
    assert strict_yaml.load(placed.config_text(), "t")["metadata"] == URL
    section = strict_yaml.load(special.config_text(), "t")["metadata"]
    assert section == {"url": URL, "layout": "blocks", "retry_seconds": 1.5}
    assert parsed(special.config_text().decode()).metadata == special.metadata


def test_a_password_in_python_is_refused_and_never_shown(tmp_path):
    stream = drifting(tmp_path / "stream", count=200)

    with pytest.raises(ConfigError, match="take the password out of the URL") as caught:
        pipeline(stream, metadata=f"postgresql://me:{SECRET}@host/db")
    assert SECRET not in str(caught.value)


def test_what_is_given_wins_over_the_file(tmp_path):
    drifting(tmp_path / "clicks", count=200).close()
    file = tmp_path / "p.yaml"
    file.write_text(MINIMAL + f"metadata: {{url: '{URL}', layout: blocks}}\n")

    def made(**more: object) -> Metadata | str | None:
        return Pipeline.from_yaml(file, tmp_path, **more).metadata

    assert made() == Metadata(url=URL, layout="blocks")
    assert made(metadata="service=b") == Metadata(url="service=b", layout="blocks")
    assert made(metadata=Metadata(url="service=b")) == Metadata(url="service=b")


def place(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / name.replace("_", ".")).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "url", "message"),
    [
        ({"ledger_sqlite": "x"}, URL, "go on without metadata, or choose another output dir"),
        ({"metadata": URL + "\n"}, None, rf"go on with --metadata {URL}"),
        ({"metadata": "service=a\n"}, None, r"go on with --metadata service=a "),
        ({"metadata": "host=a dbname=b\n"}, None, r"go on with --metadata 'host=a dbname=b' "),
        ({"metadata": "service=a\n"}, URL, "if the database has moved, write its URL to"),
    ],
)
def test_a_run_does_not_change_its_place(tmp_path, files, url, message):
    with pytest.raises(ConfigError, match=message):
        rundir.check_place(place(tmp_path, **files), url)


@pytest.mark.parametrize(
    ("files", "url"),
    [
        ({}, None),
        ({}, URL),
        ({"ledger_sqlite": ""}, None),
        ({"ledger_sqlite": ""}, URL),
        ({"ledger_sqlite": "x"}, None),
        ({"metadata": URL + "\n"}, URL),
    ],
)
def test_a_run_stays_in_its_place(tmp_path, files, url):
    rundir.check_place(place(tmp_path, **files), url)
    rundir.prepare(tmp_path, b"pipeline: {}\n", url)

    rundir.check_place(tmp_path, url)
    assert (tmp_path / "metadata").exists() == (url is not None)
    assert not (url is not None and (tmp_path / "ledger.sqlite").exists())
