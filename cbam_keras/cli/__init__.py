"""The command `cbam-keras`: `command` has `main` and the subcommands."""

from cbam_keras.cli.command import main

__all__ = ["main"]


def __dir__() -> list[str]:
    return __all__
