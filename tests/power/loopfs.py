"""A file system in a file, which loses power when told to.

    with LoopFs() as disk:
        ...                 # write below disk.path
        disk.cut()          # from here on nothing reaches the device, not even the journal
        disk.remount()      # the journal is replayed, as at the next start of a machine

ext4 on a loop device, mounted by this object and unmounted when it ends, however it ends.  The cut
is FS_IOC_SHUTDOWN with NOLOGFLUSH, which would make any file system useless until it is mounted
again; so it is refused for all but the root of a mount whose loop device lies on our own image.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
NOLOGFLUSH = 2
SIZE = 96 << 20


class RefusedError(RuntimeError):
    """This is not a file system that may lose its power."""


def unavailable() -> str:
    """Say why there can be no such file system here; "" if there can."""
    if os.geteuid() != 0:
        return "loop devices need root"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    for program in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    try:
        with LoopFs():
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no loop mount: {getattr(error, 'stderr', b'') or error}"


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


class LoopFs:
    """A mounted file system of its own."""

    def __init__(self, options: str = "", memory: Path = Path("/dev/shm")) -> None:
        self.options = ",".join(["loop", *filter(None, [options])])
        self._home = Path(
            tempfile.mkdtemp(prefix="loopfs-", dir=memory if memory.is_dir() else None)
        )
        self.image, self.path = self._home / "image", self._home / "mnt"
        try:
            self.path.mkdir()
            with self.image.open("wb") as file:
                file.truncate(SIZE)
            run("mkfs.ext4", "-q", "-F", self.image)
            self._mount()
        except BaseException:
            self.close()
            raise

    def _mount(self) -> None:
        run("mount", "-t", "ext4", "-o", self.options, self.image, self.path)

    def _unmount(self) -> None:
        """Unmount; a process that was just killed may still hold a file for a moment."""
        for tries in range(50):
            if not os.path.ismount(self.path):
                return
            try:
                run("umount", self.path)
            except subprocess.CalledProcessError:
                if tries == 49:
                    raise
                time.sleep(0.05)

    def remount(self) -> None:
        self._unmount()
        self._mount()

    def check(self) -> None:
        """Let the file system checker look, between two mounts."""
        self._unmount()
        run("e2fsck", "-fn", self.image)
        self._mount()

    def _is_ours(self, root: int) -> bool:
        if os.fstat(root).st_dev == os.stat(self._home).st_dev:
            return False
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            if left.split()[4] != str(self.path):
                continue
            device = Path(right.split()[1]).name
            backing = Path(f"/sys/block/{device}/loop/backing_file")
            return (
                device.startswith("loop")
                and backing.exists()
                and backing.read_text().strip() == str(self.image)
            )
        return False

    def cut(self) -> None:
        """Cut the power: open files stay open, and fail from now on."""
        root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not self._is_ours(root):
                raise RefusedError(f"{self.path} is no mount of {self.image}")
            fcntl.ioctl(root, SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(root)

    def close(self) -> None:
        try:
            self._unmount()
        except subprocess.CalledProcessError:
            run("umount", "-l", self.path)  # detached: it ends with its last user
        shutil.rmtree(self._home)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
