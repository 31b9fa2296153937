"""The command `cbam-keras`.

- `command`: `main`, and what a subcommand ends with.
- `runs`: `train`, `tune` and `ablate`.
- `reports`: `explain`, and the pages of runs.
- `tables`: `table`.
- `arguments`: what values of options stand for.
"""

from cbam_keras.cli.command import main

__all__ = ["main"]
