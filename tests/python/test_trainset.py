"""Training set files: what is written is what is read, and damage never passes for rows."""

from __future__ import annotations

import hashlib
import os
import threading

import numpy as np
import pytest

import modyn.errors
from modyn.trainset import TrainingSet
from tests.reference import selection as reference


def files(directory):
    return sorted(os.listdir(directory))


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 1000])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("uuid", [None, "00112233445566778899aabbccddeeff"])
def test_the_file_is_byte_for_byte_that_of_its_twin(tmp_path, rand, count, weighted, uuid):
    keys = rand.keys(count, below=2**64 - 1)
    weights = rand.numpy.random(count) if weighted else None

    written = TrainingSet.write(tmp_path, keys, weights, dataset_uuid=uuid)

    digest, content = reference.trainset_file(
        keys.tolist(),
        None if weights is None else weights.tolist(),
        bytes.fromhex(uuid or "00" * 16),
    )
    assert written.digest == digest
    assert files(tmp_path) == [f"{digest}.set"]
    assert (tmp_path / f"{digest}.set").read_bytes() == content
    assert written.dataset_uuid == uuid


@pytest.mark.parametrize("count", [0, 1, 1000, 300_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_was_written_is_read(tmp_path, rand, count, weighted):
    keys = rand.keys(count)
    weights = rand.numpy.random(count) if weighted else None

    read = TrainingSet.open(TrainingSet.write(tmp_path, keys, weights).path)

    assert len(read) == count
    assert read.keys.dtype == np.uint64
    assert np.array_equal(read.keys, keys)
    if weighted:
        assert np.array_equal(read.weights, weights)
    else:
        assert read.weights is None


def test_the_digest_is_blake2b_over_the_documented_bytes(tmp_path):
    written = TrainingSet.write(tmp_path, [2, 5, 9], [2.0, 0.5, 1.0])

    data = (tmp_path / f"{written.digest}.set").read_bytes()

    assert hashlib.blake2b(data[:40] + data[128:], digest_size=32).hexdigest() == written.digest
    assert written.digest == "d2c0108c116cb6a41f5d1a392dad164360263270bb3fc9907f64e63a33a1feda"


def test_keys_may_come_in_any_order(tmp_path, rand):
    keys, weights = rand.keys(100), rand.numpy.random(100)
    order = rand.numpy.permutation(100)

    one = TrainingSet.write(tmp_path, keys, weights)
    other = TrainingSet.write(tmp_path, keys[order], weights[order])

    assert one == other
    assert np.array_equal(other.weights, weights)


def test_another_content_has_another_digest(tmp_path):
    uuid = "ff" * 16
    digests = {
        TrainingSet.write(tmp_path, keys, weights, dataset_uuid=dataset).digest
        for keys, weights, dataset in [
            ([], None, None),
            ([], [], None),
            ([1], None, None),
            ([1], None, uuid),
            ([1], [1.0], None),
            ([1], [2.0], None),
            ([1, 2], None, None),
        ]
    }

    assert len(digests) == 7
    assert len(files(tmp_path)) == 7


def test_negative_zero_is_zero(tmp_path):
    one = TrainingSet.write(tmp_path, [1, 2], [0.0, 1.0])
    other = TrainingSet.write(tmp_path, [1, 2], [-0.0, 1.0])

    assert one == other


def test_a_set_that_is_there_is_not_written_again(tmp_path):
    first = TrainingSet.write(tmp_path, [1, 2, 3])
    before = os.stat(first.path)

    TrainingSet.write(tmp_path, [1, 2, 3])

    after = os.stat(first.path)
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("damage", [b"", b"MDNSET", b"x" * 152])
def test_a_damaged_set_is_replaced_by_the_next_write(tmp_path, damage):
    path = TrainingSet.write(tmp_path, [1, 2, 3]).path
    with open(path, "wb") as file:
        file.write(damage)

    assert TrainingSet.write(tmp_path, [1, 2, 3]).keys.tolist() == [1, 2, 3]
    assert files(tmp_path) == [os.path.basename(path)]


def test_what_a_killed_writer_left_behind_does_no_harm(tmp_path):
    path = TrainingSet.write(tmp_path, [1, 2, 3]).path
    os.unlink(path)
    (tmp_path / (os.path.basename(path) + ".tmp")).write_bytes(b"half a file, or too long" * 50)

    assert TrainingSet.write(tmp_path, [1, 2, 3]).keys.tolist() == [1, 2, 3]
    assert files(tmp_path) == [os.path.basename(path)]


@pytest.mark.parametrize("weights", [None, [1.0, 0.0]])
def test_every_flipped_bit_is_found(tmp_path, weights):
    path = TrainingSet.write(tmp_path, [3, 70000], weights).path
    with open(path, "rb") as file:
        whole = file.read()

    with open(path, "r+b") as file:
        for bit in range(8 * len(whole)):
            byte = bit // 8
            os.pwrite(file.fileno(), bytes([whole[byte] ^ 1 << bit % 8]), byte)
            with pytest.raises(modyn.errors.CorruptError, match=os.path.basename(path)):
                TrainingSet.open(path)
            os.pwrite(file.fileno(), whole[byte : byte + 1], byte)

    assert TrainingSet.open(path).keys.tolist() == [3, 70000]


@pytest.mark.parametrize("weights", [None, [1.0, 0.0]])
def test_every_other_length_is_found(tmp_path, weights):
    path = TrainingSet.write(tmp_path, [3, 70000], weights).path
    with open(path, "rb") as file:
        whole = file.read()

    for size in [*range(len(whole)), len(whole) + 1, len(whole) + 8, len(whole) + 4096]:
        with open(path, "wb") as file:
            file.write((whole + bytes(4096))[:size])
        with pytest.raises(modyn.errors.CorruptError, match=r"bytes|magic"):
            TrainingSet.open(path)


def test_a_later_version_is_refused_by_its_number(tmp_path):
    data = bytearray(reference.trainset_file([1])[1])
    data[8] = 2
    data[124:128] = reference.crc32c(bytes(data[:124])).to_bytes(4, "little")
    (tmp_path / "later").write_bytes(data)

    with pytest.raises(modyn.errors.CorruptError, match="format version 2"):
        TrainingSet.open(tmp_path / "later")


@pytest.mark.parametrize(
    ("keys", "weights", "message"),
    [
        ([5, 4], None, "row 1 has key 4 after 5"),
        ([5, 5], None, "row 1 has key 5 after 5"),
        ([5], [-1.0], "row 0 has weight -1"),
        ([5], [float("nan")], "row 0 has weight"),
        ([5], [float("inf")], "row 0 has weight inf"),
    ],
)
def test_a_forged_file_with_a_right_digest_is_refused(tmp_path, keys, weights, message):
    (tmp_path / "forged").write_bytes(reference.trainset_file(keys, weights)[1])

    with pytest.raises(modyn.errors.CorruptError, match=message):
        TrainingSet.open(tmp_path / "forged")


def test_a_set_under_the_name_of_another_is_refused(tmp_path):
    one, other = (TrainingSet.write(tmp_path, keys).path for keys in ([1], [2]))
    os.replace(one, other)

    with pytest.raises(modyn.errors.CorruptError, match="not that of its name"):
        TrainingSet.open(other)


@pytest.mark.parametrize(
    ("keys", "weights", "error", "message"),
    [
        ([1, 1], None, ValueError, "row 1 has key 1 after 1"),
        ([2, 1, 2], None, ValueError, "row 2 has key 2 after 2"),
        ([-1], None, ValueError, "keys must not be negative, got -1"),
        ([0.5], None, TypeError, "keys must be integers"),
        ([[1]], None, ValueError, "one dimension"),
        ([1, 2], [1.0], ValueError, r"weights must have shape \(2,\) as keys, got \(1,\)"),
        ([1], [-0.5], ValueError, "row 0 has weight -0.5"),
        ([1, 2], [1.0, float("nan")], ValueError, "row 1 has weight -?nan"),
        ([1], [float("inf")], ValueError, "row 0 has weight inf"),
    ],
)
def test_rows_that_break_a_rule_are_refused_and_leave_no_file(
    tmp_path, keys, weights, error, message
):
    with pytest.raises(error, match=message):
        TrainingSet.write(tmp_path, keys, weights)

    assert files(tmp_path) == []


@pytest.mark.parametrize("uuid", ["00", "0" * 34, "zz" * 16])
def test_a_uuid_that_is_none_is_refused(tmp_path, uuid):
    with pytest.raises(ValueError, match=r"uuid has 16 bytes|hexadecimal"):
        TrainingSet.write(tmp_path, [1], dataset_uuid=uuid)


def test_a_missing_file_or_folder_is_an_os_error_with_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        TrainingSet.open(tmp_path / "nothing.set")
    with pytest.raises(FileNotFoundError, match="absent"):
        TrainingSet.write(tmp_path / "absent", [1])


def test_rows_outlive_the_set_and_the_file(tmp_path):
    written = TrainingSet.write(tmp_path, range(1000), np.ones(1000))

    keys, weights = written.keys, written.weights
    os.unlink(written.path)
    del written

    assert int(keys.sum()) == 499500
    assert float(weights.sum()) == 1000.0


def test_rows_cannot_be_written_to(tmp_path):
    written = TrainingSet.write(tmp_path, [1], [1.0])

    for column in (written.keys, written.weights):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0


def test_many_threads_write_the_same_set(tmp_path):
    """Threads meet at a barrier, finish by a deadline."""
    keys = np.arange(200_000)
    barrier, digests = threading.Barrier(6), []

    def work():
        barrier.wait(timeout=30)
        digests.append(TrainingSet.write(tmp_path, keys).digest)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert len(digests) == 6
    assert files(tmp_path) == [f"{digests[0]}.set"]


def test_a_choice_is_the_same_in_every_copy_of_a_dataset(tmp_path):
    one = TrainingSet.write(tmp_path, [2, 5], dataset_uuid="1" * 32)
    copy = TrainingSet.write(tmp_path, [2, 5], dataset_uuid="2" * 32)
    weighted = TrainingSet.write(tmp_path, [2, 5], [1.0, 1.0])

    assert one.digest != copy.digest
    assert one.choice() == copy.choice()
    assert weighted.choice() != one.choice()
