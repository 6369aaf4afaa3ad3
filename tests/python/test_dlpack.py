"""How a batch reaches others: DLPack, old and new, and the buffer protocol."""

from __future__ import annotations

import ctypes
import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import modyn
from modyn import _core
from modyn.loader import Loader

DTYPES = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]
READ_ONLY, IS_COPIED = 1, 2


class DLTensor(ctypes.Structure):
    """As the specification has it, written down a second time."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class Legacy(ctypes.Structure):
    _fields_ = (
        ("dl_tensor", DLTensor),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )


class Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("flags", ctypes.c_uint64),
        ("dl_tensor", DLTensor),
    )


STRUCTS = {b"dltensor": Legacy, b"dltensor_versioned": Versioned}

api = ctypes.pythonapi
api.PyCapsule_GetName.restype = ctypes.c_char_p
api.PyCapsule_GetName.argtypes = [ctypes.py_object]
api.PyCapsule_GetPointer.restype = ctypes.c_void_p
api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]


def read(capsule: Any) -> Any:
    """The struct in a capsule."""
    name = api.PyCapsule_GetName(capsule)
    return STRUCTS[name].from_address(api.PyCapsule_GetPointer(capsule, name))


class OldConsumer:
    """Offers a tensor as if it were 2021: no max_version, no copy."""

    def __init__(self, tensor: _core.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, stream: None = None) -> object:
        return self.tensor.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dlpack") / "data"
    schema = {f"{dtype}_{n}": dtype + shape for dtype in DTYPES for n, shape in SHAPES.items()}
    dataset = modyn.Dataset.create(path, schema=schema, labels=False)
    dataset.append({name: values(name) for name in schema}, timestamps=np.arange(6))
    dataset.close()
    return path


SHAPES = {"scalar": "", "row": "[3]", "image": "[2,5]"}
LENGTHS: dict[str, tuple[int, ...]] = {"scalar": (), "row": (3,), "image": (2, 5)}


def values(name: str) -> Any:
    dtype, shape = name.split("_")
    lengths = (6, *LENGTHS[shape])
    numbers = np.arange(np.prod(lengths)).reshape(lengths)
    if dtype.startswith("complex"):
        numbers = numbers + 1j * (numbers + 1)
    return (numbers % 2 == 0) if dtype == "bool" else numbers.astype(dtype)


@pytest.fixture
def core(path: Path) -> _core.Batch:
    (batch,) = Loader(modyn.Dataset.open(path), np.arange(6), batch_size=6)
    return batch._core


@pytest.fixture
def tensor(path: Path) -> _core.Tensor:
    (batch,) = Loader(modyn.Dataset.open(path), np.arange(6), batch_size=6)
    return batch._core.part(1 + DTYPES.index("float32") * 3 + 2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape_arrives_everywhere(core, dtype, shape):
    part = core.part(1 + DTYPES.index(dtype) * 3 + list(SHAPES).index(shape))
    expected = values(f"{dtype}_{shape}")

    arrays = {
        "buffer": np.asarray(part),
        "memoryview": np.asarray(memoryview(part)),
        "dlpack": np.from_dlpack(part),
        "old dlpack": np.from_dlpack(OldConsumer(part)),
        "torch": torch.from_dlpack(part).numpy(),
        "old torch": torch.from_dlpack(part.__dlpack__()).numpy(),
        "copy": np.from_dlpack(part, copy=True),
    }

    assert part.dtype == dtype
    assert part.shape == expected.shape
    for way, array in arrays.items():
        assert array.dtype == expected.dtype, way
        assert np.array_equal(array, expected), way
        assert array.flags.c_contiguous, way
        shared = array.ctypes.data == arrays["buffer"].ctypes.data
        assert shared == (way != "copy"), way


@pytest.mark.parametrize(
    ("max_version", "name"),
    [
        (None, b"dltensor"),
        ((0, 8), b"dltensor"),
        ((1, 0), b"dltensor_versioned"),
        ((1, 3), b"dltensor_versioned"),
        ((2, 0), b"dltensor_versioned"),
    ],
)
def test_the_consumer_gets_the_struct_it_knows(tensor, max_version, name):
    capsule = tensor.__dlpack__(max_version=max_version)

    assert api.PyCapsule_GetName(capsule) == name
    managed = read(capsule)
    inner = managed.dl_tensor
    assert (inner.device_type, inner.device_id) == (1, 0)
    assert (inner.code, inner.bits, inner.lanes) == (2, 32, 1)
    assert inner.shape[: inner.ndim] == [6, 2, 5]
    assert inner.strides[: inner.ndim] == [10, 5, 1]
    assert inner.byte_offset == 0
    assert inner.data % 64 == 0
    if name == b"dltensor_versioned":
        assert (managed.major, managed.minor) == (1, 0)
        assert managed.flags == 0  # a batch belongs to its consumer, who may write


def test_a_copy_is_flagged_and_apart(tensor):
    copied = tensor.__dlpack__(max_version=(1, 0), copy=True)
    shared = tensor.__dlpack__(max_version=(1, 0), copy=False)

    assert read(copied).flags == IS_COPIED
    assert read(shared).flags == 0
    assert read(shared).dl_tensor.data == np.asarray(tensor).ctypes.data
    array = np.from_dlpack(tensor, copy=True)
    array[:] = -1
    assert np.asarray(tensor).min() == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"stream": 1}, BufferError, "stream must be None"),
        ({"dl_device": (2, 0)}, BufferError, r"cannot be exported to device \(2, 0\)"),
        ({"dl_device": (1, 1)}, BufferError, r"device \(1, 1\)"),
        ({"dl_device": 1}, TypeError, "dl_device must be"),
        ({"dl_device": (1,)}, TypeError, "dl_device must be"),
        ({"max_version": 1}, TypeError, "max_version must be"),
        ({"max_version": (1,)}, TypeError, "max_version must be"),
        ({"max_version": ("1", "0")}, TypeError, "int"),
        ({"unknown": 1}, TypeError, "unknown"),
    ],
)
def test_what_cannot_be_had_is_said(tensor, arguments, error, message):
    with pytest.raises(error, match=message):
        tensor.__dlpack__(**arguments)
    with pytest.raises(TypeError):
        tensor.__dlpack__(None)


def test_device_zero_is_ours(tensor):
    capsule = tensor.__dlpack__(dl_device=(1, 0), copy=False)

    assert read(capsule).dl_tensor.device_type == 1
    assert tensor.__dlpack_device__() == (1, 0)


@pytest.mark.parametrize("max_version", [None, (1, 0)])
def test_a_capsule_is_consumed_once(tensor, max_version):
    capsule = tensor.__dlpack__(max_version=max_version)

    taken = torch.from_dlpack(capsule)

    assert api.PyCapsule_GetName(capsule).startswith(b"used_dltensor")
    with pytest.raises(RuntimeError):
        torch.from_dlpack(capsule)
    del capsule
    gc.collect()
    assert np.array_equal(taken.numpy(), values("float32_image"))


@pytest.mark.parametrize("max_version", [None, (1, 0)])
@pytest.mark.parametrize("consumed", [True, False])
def test_every_export_gives_its_memory_back(path, max_version, consumed):
    """2,000 exports of copies of 1 MiB would be seen, had one of a hundred stayed."""
    dataset = modyn.Dataset.open(path)
    (batch,) = Loader(dataset, np.zeros(30_000, int), batch_size=30_000, fields=["float32_image"])
    part = batch._core.part(1)

    def export(count: int) -> None:
        for _ in range(count):
            capsule = part.__dlpack__(max_version=max_version, copy=True)
            if consumed:
                torch.from_dlpack(capsule)

    export(20)
    before = int(Path("/proc/self/statm").read_text().split()[1])
    export(2000)
    after = int(Path("/proc/self/statm").read_text().split()[1])

    assert (after - before) * 4096 < 20 << 20


def fetched(dataset: modyn.Dataset) -> Any:
    return dataset.fetch(np.arange(6))["float32_image"]


@pytest.mark.parametrize("max_version", [None, (1, 0)])
def test_the_deleter_runs_on_any_thread_without_the_interpreter(path, max_version):
    dataset = modyn.Dataset.open(path)
    iterator = iter(Loader(dataset, np.arange(6), batch_size=2, fields=["float32_image"]))
    capsules = [batch._core.part(1).__dlpack__(max_version=max_version) for batch in iterator]
    del iterator
    gc.collect()

    used = b"used_" + api.PyCapsule_GetName(capsules[0])  # SetName keeps the pointer

    def consume(capsule: Any) -> None:
        managed = read(capsule)
        api.PyCapsule_SetName(capsule, used)
        managed.deleter(ctypes.addressof(managed))  # ctypes lets go of the GIL for the call

    threads = [threading.Thread(target=consume, args=(capsule,)) for capsule in capsules]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del capsules
    gc.collect()
    assert np.array_equal(values("float32_image"), fetched(dataset))


def test_all_views_show_the_same_memory(tensor):
    ways = [
        np.asarray(tensor),
        np.asarray(memoryview(tensor)),
        np.from_dlpack(tensor),
        torch.from_dlpack(tensor).numpy(),
    ]

    for number, array in enumerate(ways):
        array[5, 1, 4] = number
        for other in ways:
            assert other[5, 1, 4] == number


def test_the_buffer_says_what_it_is(tensor):
    view = memoryview(tensor)

    assert (view.format, view.itemsize, view.nbytes) == ("f", 4, 240)
    assert (view.shape, view.strides) == ((6, 2, 5), (40, 20, 4))
    assert view.c_contiguous
    assert not view.readonly
    assert bytes(tensor) == values("float32_image").tobytes()


def test_a_view_outlives_its_tensor_and_batch(path):
    (batch,) = Loader(modyn.Dataset.open(path), np.arange(6), batch_size=6)
    view = memoryview(batch._core.part(3))
    expected = bytes(view)

    del batch
    gc.collect()

    assert bytes(view) == expected


def test_a_fortran_buffer_cannot_be_had(tensor):
    class Buffer(ctypes.Structure):
        _fields_ = (("space", ctypes.c_char * 128),)

    api.PyObject_GetBuffer.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
    fortran = 0x0040 | 0x0010 | 0x0008

    with pytest.raises(BufferError, match="C order"):
        api.PyObject_GetBuffer(tensor, ctypes.byref(Buffer()), fortran)
