"""The command line: its commands, and what every way of ending means."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer

from spherometer._version import __version__
from spherometer.cli._compare import compare
from spherometer.cli._measure import measure
from spherometer.cli._probe import probe
from spherometer.cli._report import report
from spherometer.cli._select import select
from spherometer.cli._study import study
from spherometer.cli._train import train
from spherometer.errors import LostProcessError, SpherometerError

DONE, CHECK_FAILED, BAD_INPUT, INTERNAL, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143

app = typer.Typer(
    name="spherometer",
    help="Measure how representations lie on the unit hypersphere: alignment, uniformity, ranks.",
    epilog="Exit codes: 0 done, 1 a --fail-if check failed, 2 bad input or usage, 3 internal error, "
    "130 / 143 interrupted.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"spherometer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("study", short_help="Train, measure and compare a grid of encoders.")(study)
app.command("train", short_help="Train one encoder, resumable.")(train)
app.command("measure", short_help="Measure files of features.")(measure)
app.command("compare", short_help="Say whether a new model is better than an old one.")(compare)
app.command("select", short_help="Rank encoders without labels.")(select)
app.command("probe", short_help="Say how well labels can be read from features.")(probe)
app.command("report", short_help="Write one HTML page from results.")(report)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


def _complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    line = " ".join(message.split())
    print(f"spherometer: {line}", file=sys.stderr)


def _internal(error: BaseException) -> int:
    """Keep the traceback in a file, show one line."""
    try:
        handle, path = tempfile.mkstemp(prefix="spherometer-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
        where = f"the details are in {path}"
    except OSError:
        where = "the details could not be saved"
    words = " ".join(str(error).split())[:160]
    _complain(f"internal error: {type(error).__name__}: {words} ({where})")
    return INTERNAL


def _reader_gone() -> int:
    """Whoever read our output went away, for instance head: nothing to complain about."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 128 + signal.SIGPIPE


def _run(arguments: Sequence[str] | None) -> int:
    command = typer.main.get_command(app)
    code = command.main(
        args=None if arguments is None else list(arguments), prog_name="spherometer", standalone_mode=False
    )
    sys.stdout.flush()
    return code if isinstance(code, int) else DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; it never raises.

    Args:
        arguments: what follows the name of the program; None: what this process was called with.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if in_main else None
    try:
        code = _run(arguments)
        if code == INTERRUPTED:  # typer turned the interrupt into this code, without a word
            _complain("interrupted")
        return code
    except LostProcessError as error:  # no fault of the input
        _complain(str(error))
        return INTERNAL
    except SpherometerError as error:
        _complain(str(error))
        return BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return INTERRUPTED
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer's own way to say so
            return _reader_gone()
        return error.code if isinstance(error.code, int) else BAD_INPUT if error.code else DONE
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's usage errors
            _complain(f"{error.format_message().rstrip('.')}. See: spherometer --help")
            return BAD_INPUT
        return _internal(error)
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)
