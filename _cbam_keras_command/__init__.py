"""What the command `cbam-keras` does before Keras is imported.

This is a package of its own since `import cbam_keras` imports Keras, which
takes seconds: help and a mistyped command are answered without it.

- `parser`: the subcommands and their help.
- `arguments`: their options.
- `options`: the names that options take, and types of their values.
- `backends`: Keras imported with a backend, without what TensorFlow logs then.
"""

import os
import signal
import sys

from _cbam_keras_command.backends import import_quietly
from _cbam_keras_command.parser import parse


def main() -> int:
    """Runs the command line of this process, and returns its exit status."""
    prepare_streams()
    # While TensorFlow is imported, 2 is another file.
    errors = os.dup(2)

    def end(*_):
        os.write(errors, b"cbam-keras: interrupted\n")
        os._exit(130)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    # Only help and mistakes end here; the package parses the words again.
    parse(sys.argv[1:])
    import_quietly()
    from cbam_keras import cli

    return cli.main(owns_process=True)


def prepare_streams() -> None:
    """Lets whatever is printed end no run."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            # A file that is opened later must not take the place of a stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, open(number, "w", closefd=False))
        # The terminal may lack characters.
        getattr(sys, name).reconfigure(errors="replace")
