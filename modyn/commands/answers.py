"""How commands end: with an answer, or with one message and an exit code.

0 all went well, 1 something went wrong on the way, 2 the input is at fault, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130


class InputError(Exception):
    """What was asked for cannot be done; the message says what is wrong with the input."""


@contextmanager
def answers(debug: bool, interrupted: str = "") -> Iterator[None]:
    """Turn what goes wrong into one message and an exit code."""
    from modyn.errors import BusyError, ConfigError, CorruptError

    try:
        yield
    except (typer.Exit, typer.Abort):
        raise  # an answer already
    except KeyboardInterrupt:
        complain(f"interrupted; {interrupted}" if interrupted else "interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except (InputError, ConfigError) as error:
        fail(error, WRONG_INPUT, debug)
    except (BusyError, CorruptError, ModuleNotFoundError) as error:
        fail(error, FAILED, debug)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        fail(error, WRONG_INPUT, debug)
    except Exception as error:  # no traceback for anybody who did not ask for one
        fail(error, FAILED, debug)


def fail(error: Exception, code: int, debug: bool) -> None:
    """End the command with what the error says; with `debug` let it pass."""
    if debug:
        raise error
    complain(message(error))
    raise typer.Exit(code) from None


def message(error: BaseException) -> str:
    """Return what an error says, without its number and with its file."""
    from modyn.errors import CorruptError, DatabaseError, RunCorruptError

    if isinstance(error, RunCorruptError):
        return str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror.lower()}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # of the core: it names the file
    if isinstance(error, CorruptError):
        return f"{error}; modyn dataset verify lists all damage"
    known = InputError | OSError | ValueError | RuntimeError | ImportError | DatabaseError
    if isinstance(error, known):
        return str(error) or type(error).__name__
    # KeyError: 'x' alone would say nothing.
    return f"{type(error).__name__}: {error} (--debug shows where)"


def complain(text: str) -> None:
    """Print to stderr, under the name of the program."""
    for line in text.splitlines():
        typer.echo(f"modyn: {line}", err=True)
