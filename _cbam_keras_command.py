"""What the command `cbam-keras` does before Keras is imported.

That takes seconds, so help and a mistyped command are answered before it. A
module outside the package, since importing the package imports Keras.
"""

import importlib.util
import os
import runpy
import signal
import sys


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
    _load("cli/options.py")["parse"](sys.argv[1:])
    _load("_quiet.py")["import_quietly"]()
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


def _load(path):
    """Returns what a file of the package defines, without importing it all."""
    (folder,) = importlib.util.find_spec(
        "cbam_keras"
    ).submodule_search_locations
    return runpy.run_path(os.path.join(folder, path))
