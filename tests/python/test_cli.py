"""The command line: what it says and with which code it ends, whatever it is given."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import modyn
from modyn import cli, listing
from modyn.pipelines import Run
from tests.python.cli_bench import ROOT, Bench
from tests.python.plausible import plausible_run


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def process(*words: object, **more):
    return subprocess.run(
        [sys.executable, "-m", "modyn.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **more,
    )


# Help ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", "run", "validate", "report", "ls"])
def test_every_command_has_help(bench, command):
    result = bench.modyn(*command.split(), "--help")

    assert result.exit_code == 0
    assert "Usage: modyn" in result.output


def test_help_needs_no_torch_and_no_plotly():
    script = (
        "import sys, modyn.cli\n"
        "try: modyn.cli.app(['validate', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'plotly', 'pandas', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )

    found = result.stdout.splitlines()[-1]
    assert "torch" not in found
    assert "plotly" not in found


def test_validate_imports_no_torch(bench):
    file = bench.file()
    script = (
        "import sys, modyn.cli\n"
        f"try: modyn.cli.app(['validate', {str(file)!r}])\n"
        "except SystemExit as error: assert not error.code\n"
        "assert 'torch' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True)


# Running ------------------------------------------------------------------------------------------


def test_run_does_all_and_says_where_the_report_is(bench):
    result = bench.run(bench.file("one"), bench.file("two", epochs=2))

    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "one: 600 samples" in result.stdout
    assert "one: done after 4 trainings" in result.stdout
    run = Run.open(bench.out / "one")
    assert run.finished
    row = next(line for line in result.stdout.splitlines() if line.lstrip().startswith("one "))
    assert f"{run.score('Accuracy'):.4f}" in row
    assert f"{run.totals['samples_trained']:,}" in row
    assert f"report: {bench.out / 'report.html'}" in result.stdout
    for page in ("one/report.html", "two/report.html", "report.html"):
        text = (bench.out / page).read_text(encoding="utf-8")
        assert "one" in text or page.startswith("two")


def test_a_run_that_is_finished_is_left_as_it_is(bench):
    bench.run(bench.file())
    digest = Run.open(bench.out / "small").digest()

    result = bench.run(bench.file())

    assert result.exit_code == 0
    assert "small: finished already" in result.stdout
    assert Run.open(bench.out / "small").digest() == digest


def test_a_run_killed_before_its_first_commit_begins_anew(bench):
    (bench.out / "small").mkdir(parents=True)
    (bench.out / "small" / "ledger.sqlite").touch()  # the file is there before its tables

    result = bench.run(bench.file())

    assert result.exit_code == 0, result.output
    assert Run.open(bench.out / "small").finished


def test_no_file_runs_if_any_is_wrong(bench):
    good, bad = bench.file("good"), bench.file("bad", epochs="ten")

    result = bench.run(good, bad)

    assert result.exit_code == 2
    assert "bad.yaml: training.epochs_per_trigger" in result.stderr
    assert not bench.out.exists()


def test_a_changed_pipeline_does_not_go_on_in_an_old_run(bench):
    bench.run(bench.file())

    result = bench.run(bench.file(epochs=5))

    assert result.exit_code == 2
    assert "epochs_per_trigger" in result.stderr
    assert "Traceback" not in result.output


def test_code_of_a_module_runs_only_if_it_is_allowed(bench, monkeypatch):
    (bench.folder / "own_models.py").write_text(
        "import torch\n"
        "def linear(num_classes):\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, num_classes))\n"
    )
    monkeypatch.chdir(bench.folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = bench.file(model="own_models:linear", config="")

    refused = bench.run(file)
    allowed = bench.run(file, more=("--allow", "own_models"))

    assert refused.exit_code == 2
    assert "--allow own_models" in refused.stderr
    assert allowed.exit_code == 0, allowed.output


def test_without_plotly_a_run_ends_well_and_says_how_to_get_the_report(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)

    result = bench.run(bench.file())
    again = bench.modyn("report", bench.out)

    assert result.exit_code == 0
    assert "pip install 'modyn[report]'" in result.stderr
    assert "Accuracy" in result.stdout
    assert again.exit_code == 1
    assert "pip install 'modyn[report]'" in again.stderr


# Bad input ----------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_its_place_and_the_nearest_one(bench):
    file = bench.file()
    file.write_text(file.read_text().replace("batch_size: 32", "batch_sise: 32"))

    for result in (bench.run(file), bench.modyn("validate", file)):
        assert result.exit_code == 2
        wanted = f"modyn: {file}: training.batch_sise: unknown key; did you mean 'batch_size'?"
        assert wanted in result.stderr.splitlines()


def test_a_missing_file_is_named(bench):
    for result in (bench.run(Path("nowhere.yaml")), bench.modyn("validate", "nowhere.yaml")):
        assert result.exit_code == 2
        assert result.stderr == "modyn: nowhere.yaml: no such file or directory\n"


def test_a_value_of_the_wrong_type_is_named(bench):
    result = bench.run(bench.file(epochs="'2'"))

    assert result.exit_code == 2
    assert "training.epochs_per_trigger" in result.stderr
    assert "'2'" in result.stderr


def test_a_model_that_does_not_fit_the_records_is_named(bench):
    result = bench.run(bench.file(config="num_features: 5"))

    assert result.exit_code == 2
    assert "num_features is 5" in result.stderr
    assert "float32[4]" in result.stderr


def test_records_of_another_dtype_are_refused(bench):
    with modyn.Dataset.create(bench.folder / "texts" / "stream", schema={"text": "bytes"}) as data:
        data.append({"text": [b"a"] * 200}, labels=[0] * 200, timestamps=range(200))

    result = bench.modyn(
        *("run", bench.file(), "--out", bench.out, "--datasets", bench.folder / "texts")
    )

    assert result.exit_code == 2
    assert "model MLP takes numbers, but the field 'text' holds bytes" in result.stderr


def test_an_empty_dataset_is_named(bench):
    modyn.Dataset.create(bench.folder / "none" / "stream", schema={"dense": "float32[4]"}).close()

    result = bench.modyn(
        *("run", bench.file(), "--out", bench.out, "--datasets", bench.folder / "none")
    )

    assert result.exit_code == 2
    assert result.stderr == f"modyn: {bench.folder / 'none' / 'stream'}: the dataset is empty\n"


def test_a_missing_dataset_is_named_with_the_script_that_makes_it(bench):
    (bench.folder / "prepare.py").touch()

    result = bench.modyn("run", bench.file(), "--out", bench.out, "--datasets", "nowhere")

    assert result.exit_code == 2
    assert "data.dataset_id: there is no dataset 'stream' in nowhere" in result.stderr
    assert f"python {bench.folder / 'prepare.py'} --datasets nowhere" in result.stderr


def test_a_damaged_dataset_is_named(bench):
    manifest = bench.datasets / "stream" / "manifest"
    data = bytearray(manifest.read_bytes())
    data[20] ^= 0xFF
    manifest.write_bytes(data)

    result = bench.run(bench.file())

    assert result.exit_code == 1
    assert str(manifest) in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", ["'../up'", "/root", ".hidden", '"a\\nb"', "report.html"])
def test_a_name_that_is_no_folder_is_refused(bench, name):
    file = bench.file()
    file.write_text(file.read_text().replace("name: small", f"name: {name}"))

    result = bench.run(file)

    assert result.exit_code == 2
    assert "pipeline.name" in result.stderr
    assert not bench.out.exists()


def test_two_pipelines_of_one_name_are_refused(bench):
    result = bench.run(bench.file(), bench.file())

    assert result.exit_code == 2
    assert "is that of" in result.stderr


def test_out_must_be_a_folder(bench):
    bench.out.touch()

    result = bench.run(bench.file())

    assert result.exit_code == 2
    assert f"{bench.out}: is a file" in result.stderr


def test_a_label_that_is_no_class_is_named(bench):
    rng = np.random.default_rng(0)
    with modyn.Dataset.create(bench.folder / "odd" / "stream", schema={"x": "float32[4]"}) as data:
        x = rng.normal(size=(200, 4)).astype(np.float32)
        data.append({"x": x}, labels=[7] * 200, timestamps=range(200))

    words = ("run", bench.file(), "--out", bench.out, "--datasets", bench.folder / "odd")
    result = bench.modyn(*words)

    assert result.exit_code == 2
    assert "7" in result.stderr
    assert "Traceback" not in result.output


def test_what_own_code_raises_is_a_message_too(bench, monkeypatch):
    (bench.folder / "broken_models.py").write_text(
        "import torch\n"
        "class Broken(torch.nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.linear = torch.nn.Linear(4, num_classes)\n"
        "    def forward(self, dense):\n"
        "        return {}['scores']\n"
    )
    monkeypatch.chdir(bench.folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = bench.file(model="broken_models:Broken", config="")

    result = bench.run(file, more=("--allow", "broken_models"))

    assert result.exit_code == 1
    assert "modyn: KeyError: 'scores' (--debug shows where)" in result.stderr
    assert "Traceback" not in result.output


def test_debug_shows_the_traceback():
    quiet, loud = (process("report", "nowhere", *more) for more in ((), ("--debug",)))

    assert quiet.returncode == 2
    assert quiet.stderr == "modyn: nowhere: there is no such folder\n"
    assert loud.returncode != 0
    assert "Traceback" in loud.stderr


def test_validate_says_which_files_are_right(bench):
    good, bad = bench.file("good"), bench.file("bad", epochs=0)

    result = bench.modyn("validate", good, bad)

    assert result.exit_code == 2
    assert result.stdout == f"{good}: ok, pipeline 'good'\n"
    assert "bad.yaml" in result.stderr


def test_validate_runs_no_code_of_a_file(bench):
    (bench.folder / "trap.py").write_text("open('sprung', 'w')")
    file = bench.file(model="trap:model")

    result = process("validate", file, cwd=bench.folder)

    assert result.returncode == 0, result.stderr
    assert not (bench.folder / "sprung").exists()


# Interruption -------------------------------------------------------------------------------------


def test_an_interrupted_run_says_how_to_go_on_and_does(bench):
    file = bench.file("long", epochs=100_000)
    words = ["run", file, "--out", bench.out, "--datasets", bench.datasets]
    with subprocess.Popen(
        [sys.executable, "-m", "modyn.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as child:
        assert "long: 600 samples" in child.stdout.readline()
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=120)

    assert child.returncode == 130
    command = " ".join(map(str, words))
    assert stderr == f"modyn: interrupted; what was done is kept; to go on: modyn {command}\n"
    assert not Run.open(bench.out / "long").finished
    assert "unfinished" in bench.modyn("ls", bench.out).output


# Listing and reports ------------------------------------------------------------------------------


def test_ls_lists_datasets_and_runs(bench):
    bench.run(bench.file())
    modyn.Dataset.create(bench.datasets / "nothing", schema={"x": "float32"}).close()

    result = bench.modyn("ls", bench.folder)

    assert result.exit_code == 0
    assert re.search(
        r"datasets/stream +600 +1969-12-31 23:58:20 +1970-01-01 00:08:19", result.output
    )
    assert re.search(r"datasets/nothing +0 +- +- ", result.output)
    assert re.search(r"runs/small +finished +4 +1,500 ", result.output)


def test_ls_shows_what_is_broken_beside_what_is_not(bench):
    bench.run(bench.file("whole"), bench.file("broken"))
    (bench.out / "broken" / "ledger.sqlite").write_bytes(b"no ledger" * 1000)
    (bench.datasets / "stream" / "manifest").write_bytes(b"no manifest" * 100)

    result = bench.modyn("ls", bench.folder)

    assert result.exit_code == 0, result.output
    assert re.search(r"runs/whole +finished", result.output)
    assert re.search(r"runs/broken +broken", result.output)
    assert re.search(r"datasets/stream .*cannot be read", result.output)


def test_ls_of_nothing_says_so(tmp_path):
    result = CliRunner().invoke(cli.app, ["ls", str(tmp_path)])

    assert result.exit_code == 0
    assert "no datasets and no runs" in result.output


def test_report_writes_the_pages_anew(bench):
    bench.run(bench.file("one"), bench.file("two"))
    pages = [bench.out / name for name in ("one/report.html", "two/report.html", "report.html")]
    for page in pages:
        page.unlink()

    all_runs = bench.modyn("report", bench.out)
    assert all_runs.exit_code == 0
    assert all(page.exists() for page in pages)

    pages[0].unlink()
    one_run = bench.modyn("report", bench.out / "one")
    assert one_run.stdout == f"report: {pages[0]}\n"
    assert pages[0].exists()


def test_report_leaves_out_what_is_no_run(bench):
    bench.run(bench.file("one"), bench.file("two"))
    (bench.out / "two" / "ledger.sqlite").write_bytes(b"no ledger" * 1000)

    result = bench.modyn("report", bench.out)

    assert result.exit_code == 0
    assert "left out" in result.stderr
    assert "one" in (bench.out / "report.html").read_text(encoding="utf-8")


def test_report_of_nothing_is_an_error(tmp_path):
    result = CliRunner().invoke(cli.app, ["report", str(tmp_path)])

    assert result.exit_code == 2
    assert "holds no runs" in result.stderr


def test_the_summary_is_two_tables_where_one_has_no_room(tmp_path, monkeypatch):
    runs = [plausible_run(tmp_path / name, name=name) for name in ("monthly-all", "monthly-half")]
    for width, tables in ((80, 2), (160, 1)):
        console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
        monkeypatch.setattr(listing, "_console", lambda c=console: c)
        with console.file:
            listing.print_summary(runs)
            text = console.export_text()
        assert text.count("pipeline") == tables
        assert text.count("monthly-half") == tables
        assert f"{runs[0].score('Accuracy'):.4f}" in text
