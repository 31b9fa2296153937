"""The command `cbam-keras`, a file for each subcommand.

- `command`: `main`.
- `arguments`: options that several subcommands share.
- `runs`: what `train`, `tune`, `ablate` and `detect` share.
- `reports`: the pages of runs.
- `train`, `tune`, `ablate`, `table`, `explain`, `detect`, `audit`,
  `export`: the subcommands.
"""

from cbam_keras.cli.command import main, run

__all__ = ["main"]
