"""Ctrl-C and SIGTERM stop a run, even if Keras swallows the exception.

A signal is announced at once, noted, and raised again at the next batch.
"""

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator

from cbam_keras import _terminal

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The exit status that shells give.
STATUS = 130


class _State:
    # Whether a signal has arrived within `note_signals`.
    noted = False


@contextlib.contextmanager
def note_signals() -> Iterator[None]:
    """Context that ends in a `KeyboardInterrupt` if a signal arrives in it.

    The second signal does what it would do without this context. Handlers set
    by the user are left alone, and outside the command so is SIGTERM.
    """
    default = signal.default_int_handler
    numbers = [x for x in SIGNALS if signal.getsignal(x) == default]
    if not numbers or threading.current_thread() != threading.main_thread():
        # The context is entered already, or no handler can be set here.
        yield
        return

    def handle(handler):
        for number in numbers:
            signal.signal(number, handler)

    def note(*_):
        _State.noted = True
        handle(default)
        raise KeyboardInterrupt

    try:
        with _announcing(numbers):
            handle(note)
            yield
            raise_if_noted()
    except Exception as error:
        if _State.noted:
            raise KeyboardInterrupt from error
        raise
    finally:
        handle(default)
        _State.noted = False


@contextlib.contextmanager
def _announcing(numbers):
    """Context in which a thread says that a signal has arrived.

    The main thread handles it only when the step that it computes has ended.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def announce():
        if any(x[0] in numbers for x in iter(lambda: reader.recv(1), b"")):
            _terminal.say("Interrupted: stopping after this step")

    thread = threading.Thread(target=announce, daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer.fileno())
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        thread.join()
        reader.close()


def raise_if_noted() -> None:
    """Raises a `KeyboardInterrupt` again that was swallowed."""
    if _State.noted:
        raise KeyboardInterrupt


def watch() -> None:
    """Makes SIGINT and SIGTERM interrupt this process, if not ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
