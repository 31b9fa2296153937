"""The command `cbam-keras`.

- `command`: `main`, and what a subcommand ends with.
- `runs`: `train`, `tune` and `report`.
- `checks`: `check`.
- `arguments`: what values of options stand for.
"""

from cbam_keras.cli.command import main

__all__ = ["main"]
