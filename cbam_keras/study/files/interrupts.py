"""Ctrl-C and SIGTERM stop a run, even if Keras swallows the exception.

A signal is noted, and raised again at the next batch.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

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


def raise_if_noted() -> None:
    """Raises a `KeyboardInterrupt` again that was swallowed."""
    if _State.noted:
        raise KeyboardInterrupt


def watch() -> None:
    """Makes SIGINT and SIGTERM interrupt this process, if not ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
