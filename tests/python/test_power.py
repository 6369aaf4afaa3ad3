"""What was acknowledged survives a loss of power, on a real file system."""

from __future__ import annotations

import os

import pytest

from tests.power import cut_store, loopfs


@pytest.fixture(scope="module", autouse=True)
def loop_devices():
    """Skip, and say why, where there can be no such file system."""
    if reason := loopfs.unavailable():
        pytest.skip(reason)


@pytest.mark.parametrize(
    "cuts", [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.long)]
)
def test_what_was_acknowledged_survives_a_loss_of_power(rand, cuts):
    done = cut_store.campaign(cuts=cuts, seed=rand.seed)

    assert done.cuts == cuts
    assert done.steps > 0


def test_the_disk_loses_what_was_not_synced():
    with loopfs.LoopFs() as disk:
        for name in ("kept", "lost"):
            file = os.open(disk.path / name, os.O_CREAT | os.O_WRONLY)
            os.write(file, b"content")
            if name == "kept":
                os.fsync(file)
            os.close(file)
        disk.cut()
        disk.remount()
        kept = (disk.path / "kept").read_bytes()
        lost = (disk.path / "lost").exists() and (disk.path / "lost").read_bytes()

    assert kept == b"content"
    assert not lost


def test_no_other_file_system_is_cut():
    with loopfs.LoopFs() as disk:
        other = disk.path
        disk.path = disk.image.parent
        with pytest.raises(loopfs.RefusedError):
            disk.cut()
        disk.path = other

    assert not disk.image.parent.exists()
