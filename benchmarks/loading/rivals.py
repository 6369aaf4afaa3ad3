"""Which rivals are here, and how to get those that are not."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

# Name, the module that has to be there, and what pip calls it.
RIVALS = {
    "torch DataLoader": ("torch", "torch"),
    "pandas": ("pandas", "pandas"),
    "LMDB": ("lmdb", "lmdb"),
    "Lance": ("lance", "pylance"),
    "MosaicML Streaming": ("streaming", "mosaicml-streaming"),
    "ArrayRecord": ("array_record", "array-record"),
    "Grain": ("grain", "grain"),
    "Hugging Face datasets": ("datasets", "datasets"),
    "SPDL": ("spdl", "spdl-core"),
    "StatefulDataLoader": ("torchdata", "torchdata"),
    "FFCV": ("ffcv", "ffcv, which needs OpenCV and libjpeg-turbo to be built"),
    "WebDataset": ("webdataset", "webdataset"),
    "pyarrow": ("pyarrow", "pyarrow"),
    "Pillow": ("PIL", "pillow"),
    "simplejpeg": ("simplejpeg", "simplejpeg"),
}


def missing(name: str) -> str | None:
    """Return the line that says that a rival is not here; None if it is."""
    module, pip = RIVALS[name]
    if find_spec(module) is not None:
        return None
    return f"{name} is left out: not installed (pip install {pip})"


def present(*names: str) -> tuple[list[str], list[str]]:
    """Return who of these is here, and a line for each who is not."""
    lines = {name: missing(name) for name in names}
    return [name for name in names if not lines[name]], [line for line in lines.values() if line]


def streaming_base() -> Any:
    """Import streaming.base alone.

    The package begins by importing its vision part and with it torchvision, which reading
    needs nothing of, and which is not to be had for every build of torch.
    """
    if "streaming" not in sys.modules:
        spec = find_spec("streaming")
        places = spec.submodule_search_locations if spec else None
        package = ModuleType("streaming")
        package.__spec__ = spec
        package.__path__ = [str(Path(place)) for place in places or ()]
        sys.modules["streaming"] = package
    import streaming.base

    return streaming.base
