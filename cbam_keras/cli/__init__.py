"""The command `cbam-keras`.

- `command`: `main`, and what a subcommand ends with.
- `runs`: the subcommands.
"""

from cbam_keras.cli.command import main

__all__ = ["main"]
