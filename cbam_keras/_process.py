"""Ctrl-C and SIGTERM stop a run, even if a library swallows the exception.

Keras swallows a `KeyboardInterrupt` where it tries something under a bare
`except`, and one raised within a call of C++ may come out as another error. So
a signal is noted, and raised again at the next batch. In the command a thread
ends the process if nothing else has after a second, as within one long call.
"""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What the work gets to end by itself.
SECONDS_TO_END = 1.0
# The exit status that shells give.
STATUS = 130


class _State:
    # Whether a signal has arrived within `noted`.
    noted = False
    # What the command says when a signal ends it.
    line = ""


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Context that ends in a `KeyboardInterrupt` if a signal arrives in it.

    The second signal does what it would do without this context. Handlers set
    by the user are left alone, and outside the command so is SIGTERM.
    """
    numbers = [
        number
        for number in SIGNALS
        if signal.getsignal(number) == signal.default_int_handler
    ]
    if not numbers or threading.current_thread() != threading.main_thread():
        # Within this context already, or where no handler can be set.
        yield
        return

    def handle(handler):
        for number in numbers:
            signal.signal(number, handler)

    def note(*_):
        _State.noted = True
        handle(signal.default_int_handler)
        raise KeyboardInterrupt

    try:
        handle(note)
        yield
        raise_if_noted()
    except Exception as error:
        if _State.noted:
            raise KeyboardInterrupt from error
        raise
    finally:
        handle(signal.default_int_handler)
        _State.noted = False


def raise_if_noted() -> None:
    """Raises a `KeyboardInterrupt` again that was swallowed."""
    if _State.noted:
        raise KeyboardInterrupt


def set_last_line(line: str) -> None:
    """Sets what the command says when a signal ends it."""
    _State.line = line


def watch() -> None:
    """Makes SIGINT and SIGTERM end this process, the command, within a second.

    A signal that the process was started to ignore is still ignored.
    """
    _handle_unless_ignored(signal.default_int_handler)
    if not hasattr(os, "register_at_fork"):
        # Windows has no pipe that signals could write to.
        return
    # Handlers run between two steps of Python; a call of C may take longer.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # Else a signal to a child would end this process.
    os.register_at_fork(after_in_child=_leave_to_parent)
    threading.Thread(target=_wait, args=(reader,), daemon=True).start()


def _wait(reader):
    while os.read(reader, 1)[0] not in SIGNALS:
        pass
    # Until the second signal.
    select.select([reader], [], [], SECONDS_TO_END)
    if _State.line:
        # The objects of `sys` may be in use, by what the signal interrupted.
        with contextlib.suppress(OSError):
            os.write(2, f"{_State.line}\n".encode())
    os._exit(STATUS)


def _leave_to_parent():
    signal.set_wakeup_fd(-1)
    _handle_unless_ignored(signal.SIG_DFL)


def _handle_unless_ignored(handler):
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)
