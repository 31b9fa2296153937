"""`main`: the command line in this process."""

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from _cbam_keras_command.parser import parse
from cbam_keras import _terminal, data
from cbam_keras.cli import runs
from cbam_keras.study import interrupts

HANDLERS = {
    "train": runs.run,
    "tune": runs.run,
    "check": runs.check_paths,
    "report": runs.write_report,
}


def main(
    arguments: Sequence[str] | None = None, *, owns_process: bool = False
) -> int:
    """Runs the command line, by default that of the process.

    Returns the exit status: 0 on success, 2 after a user error, reported in
    one line on stderr, 1 if the work itself failed, or a network of a
    comparison, or if a check found something wrong, 130 after Ctrl-C or
    SIGTERM. `owns_process` says that the process is the command, which signals
    then end whatever it does.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments)
    program = f"cbam-keras {options.command}"
    try:
        if owns_process:
            interrupts.watch()
        with (
            interrupts.note_signals(),
            _terminal.no_retracing(),
            _plain_warnings(program),
        ):
            status = HANDLERS[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:
        # A reader that has ended, such as `head`, has read enough, and the
        # interpreter must not write the rest on exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        # Our own errors say what to fix. Others are bugs, and a bug report
        # needs their traceback.
        if not _raised_by_us(error):
            raise
        message = str(error)
        if not isinstance(error, data.LayoutError):
            message = " ".join(message.split())
        _terminal.say(f"{program}: error: {message}", sys.stderr)
        status = 1 if isinstance(error, RuntimeError) else 2
    except KeyboardInterrupt:
        _terminal.say(f"{program}: interrupted{_advice(options)}", sys.stderr)
        status = interrupts.STATUS
        if owns_process:
            # TensorFlow may still be reading from Python, and would log an
            # error if the interpreter shut down in an orderly way.
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(status)
    return status or 0


@contextlib.contextmanager
def _plain_warnings(program):
    """Context in which a warning is one line."""
    formatted = warnings.formatwarning

    def one_line(message, category, *where):
        if category is not UserWarning:
            return formatted(message, category, *where)
        message = _terminal.make_printable(message)
        return f"{program}: warning: {' '.join(message.split())}\n"

    warnings.formatwarning = one_line
    try:
        yield
    finally:
        warnings.formatwarning = formatted


def _advice(options):
    """Returns how to continue an interrupted command."""
    if "overwrite" not in options or options.dry_run:
        return ""
    without = " without --overwrite" if options.overwrite else ""
    return f"; the same command{without} resumes from here"


def _raised_by_us(error):
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = frame.f_globals.get("__name__", "")
    return module.split(".")[0] in ("cbam_keras", "_cbam_keras_command")
