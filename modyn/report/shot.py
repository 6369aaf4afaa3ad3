"""A page as a picture: what a browser that is installed shows of it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTH = 1200  # pixels
PLAIN = "<style>.modebar { display: none !important; }</style></head>"  # nobody can click there
SECONDS = 60


def browser() -> str | None:
    """Return the path of a browser that can take pictures, or None."""
    named = os.environ.get("BROWSER_PATH")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, BROWSERS)), None)


def write_png(write: Callable[[Path], object], path: Path, *, height: int) -> Path:
    """Write a page into a temporary folder, have a browser show it, and keep the picture.

    Parameters
    ----------
    write : callable
        Writes the page to the path that it is given.
    path : path
        Of the PNG file.
    height : int
        Pixels; what is below is not in the picture.

    Raises
    ------
    FileNotFoundError
        When no browser is installed.
    RuntimeError
        When the browser made no picture; says what it said.
    """
    found = browser()
    if found is None:
        raise FileNotFoundError(
            "a PNG needs a browser that draws the page: install chromium, or name one in "
            "BROWSER_PATH; --html FILE needs none"
        )
    with tempfile.TemporaryDirectory(prefix="modyn-shot-") as name:
        folder = Path(name)
        page, shot = folder / "page.html", folder / "page.png"
        write(page)
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("</head>", PLAIN, 1), encoding="utf-8")
        command = [found, "--headless", "--disable-gpu", "--hide-scrollbars"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # which the superuser's browser cannot have
        command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH},{height}"]
        command += ["--virtual-time-budget=10000", f"--screenshot={shot}"]
        done = subprocess.run(
            [*command, page.as_uri()],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if not shot.exists():
            said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise RuntimeError(f"{found} made no picture: {said[0]}")
        shutil.copyfile(shot, path)
    return path
