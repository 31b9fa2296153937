"""The command `cbam-keras`, a file for each subcommand.

- `command`: `main`.
- `arguments`: options that several subcommands share.
- `reports`: the pages of runs.
- `train`, `tune`, `ablate`, `table`, `explain`, `detect`, `audit`,
  `export`: the subcommands.
"""

from cbam_keras.cli.command import main

__all__ = ["main"]
