"""Word from the file system that something happened in a folder, where there is any."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

__all__ = ["Events"]

log = logging.getLogger(__name__)


class Events:
    """Calls back when something happened in a folder or below it.

    What happened is looked up by the one who is called: an event is only a
    reason to look now. That a file was closed by its writer, or moved here when
    it was whole, is what no look can tell; such paths are passed on.
    """

    def __init__(self, folder: str, wake: Callable[[str | None], None]) -> None:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.event_type in ("opened", "closed_no_write"):
                    return
                whole = {"closed": event.src_path, "moved": event.dest_path}
                path = whole.get(event.event_type)
                wake(os.fsdecode(path) if path else None)

        make: Any = Observer
        try:  # inotify says only when it is asked for all that files were moved here
            self._observer: Any = make(generate_full_events=True)
        except TypeError:
            self._observer = make()
        self._observer.schedule(Handler(), folder, recursive=True)
        self._observer.start()

    @classmethod
    def of(cls, folder: str, wake: Callable[[str | None], None]) -> Events | None:
        """Return the events of a folder, or None where there are none to be had."""
        try:
            return cls(folder, wake)
        except ImportError:
            log.info("without watchdog, %s is looked at again and again", folder)
        except OSError as error:
            log.info("%s: no events: %s", folder, error)
        return None

    def close(self) -> None:
        """End the events; nobody is called back after this."""
        self._observer.stop()
        self._observer.join()
