"""The command `cbam-keras`.

- `command`: `main`, and what a subcommand ends with.
- `runs`: `train` and `tune`.
- `reports`: `explain`, and the pages of runs.
- `arguments`: what values of options stand for.
"""

from cbam_keras.cli.command import main

__all__ = ["main"]
