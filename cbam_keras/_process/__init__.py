"""This process: whether it is the command, what it logs, how it ends.

Needs the standard library alone, so that the command can answer, and be ended,
before Keras is imported.

- `interrupts`: Ctrl-C and SIGTERM.
- `log`: what TensorFlow writes at its start.
- `parser`: the outline of the command line.
- `start`: what the command does first. In a process that is not the command,
  importing it changes nothing.
"""

from cbam_keras._process import start
from cbam_keras._process.interrupts import (
    STATUS,
    noted,
    raise_if_noted,
    set_last_line,
)
from cbam_keras._process.parser import (
    COMMANDS,
    HelpFormatter,
    Parser,
    examples,
    outline,
)

__all__ = [
    "COMMANDS",
    "STATUS",
    "HelpFormatter",
    "Parser",
    "examples",
    "noted",
    "outline",
    "raise_if_noted",
    "set_last_line",
]
