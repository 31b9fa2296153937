"""Ctrl-C and SIGTERM end the work, whatever catches the exception.

Keras swallows a `KeyboardInterrupt` where it tries something under a bare
`except`, and one raised within a call of C++ may come out as another error. So
a signal is noted, raised again at the next batch, and in the command a thread
ends the process if nothing else has.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What the work gets to end by itself.
SECONDS_TO_END = 1.0
# The status that shells give.
STATUS = 130


class _Process:
    """State of this process.

    Attributes:
        noted: Boolean, whether a signal has arrived within `noted`.
        line: String, what the command says when it is ended; empty once it
            has been said.
        stderr: Integer, the file of standard error, which is caught while
            Keras is imported.
    """

    noted = False
    line = "cbam-keras: interrupted"
    stderr = 2


def begin() -> None:
    """Makes the signals end this process, the command, with one line.

    A signal that the process was started to ignore is still ignored.
    """
    with contextlib.suppress(OSError):
        _Process.stderr = os.dup(2)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    if not hasattr(os, "register_at_fork"):
        return
    # Handlers run between two steps of Python; a call of C may take longer.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # Else a signal to a child would end this process.
    os.register_at_fork(after_in_child=_leave_to_parent)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Context that ends in a `KeyboardInterrupt` if a signal arrives in it.

    The second signal does what it would do without this context. Outside the
    command, SIGTERM is left as it is, and so are handlers of the user's.
    """
    before = {
        number: signal.getsignal(number)
        for number in SIGNALS
        if signal.getsignal(number) in (_end, signal.default_int_handler)
    }
    if not before or threading.current_thread() != threading.main_thread():
        # Within this context already, or where no handler can be set.
        yield
        return

    def note(*_):
        _Process.noted = True
        restore()
        raise KeyboardInterrupt

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    _Process.noted = False
    try:
        for number in before:
            signal.signal(number, note)
        yield
        raise_if_noted()
    except Exception as error:
        if _Process.noted:
            raise KeyboardInterrupt from error
        raise
    finally:
        restore()
        _Process.noted = False


def raise_if_noted() -> None:
    """Raises a `KeyboardInterrupt` again that was swallowed."""
    if _Process.noted:
        raise KeyboardInterrupt


def set_last_line(line: str) -> None:
    """Sets what the command says when it is ended."""
    _Process.line = line


def _watch(reader):
    while True:
        (number,) = os.read(reader, 1)
        if number in SIGNALS:
            time.sleep(SECONDS_TO_END)
            _end()


def _end(*_):
    if _Process.line:
        # The objects of `sys` may be in use, by what the signal interrupted.
        with contextlib.suppress(OSError):
            os.write(_Process.stderr, f"{_Process.line}\n".encode())
    os._exit(STATUS)


def _leave_to_parent():
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        handler = signal.getsignal(number)
        if getattr(handler, "__module__", "") == __name__:
            signal.signal(number, signal.SIG_DFL)
