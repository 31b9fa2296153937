"""`Audit`, the result, and `Findings`, which the checks add to."""

import contextlib
import dataclasses
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from cbam_keras import _terminal

KINDS = ("departure", "choice", "not checked")


@dataclasses.dataclass(frozen=True)
class Audit(_terminal.Tabular):
    """Result of an audit; prints as a table.

    `to_dataframe()` has a row per finding: its `kind` (`"departure"`,
    `"choice"` or `"not checked"`) and the sentence.

    Attributes:
        name: String, the class or function of the layer.
        departures: Tuple of sentences, each a departure from the paper, or
            something that a layer of Keras should do and this one does not.
            Empty if there are none.
        choices: Tuple of sentences, what the layer does where the paper
            leaves a choice.
        unchecked: Tuple of sentences, what could not be checked and why.
        variant: String, the entry of `VARIANTS` that the layer equals, or
            `None`. Its kernel size may be another one, and its reduction
            ratio where the entry names none.
    """

    name: str
    departures: tuple[str, ...]
    choices: tuple[str, ...]
    unchecked: tuple[str, ...]
    variant: str | None

    def _records(self):
        sentences_by_kind = (self.departures, self.choices, self.unchecked)
        return [
            {"kind": kind, "finding": sentence}
            for kind, sentences in zip(KINDS, sentences_by_kind, strict=True)
            for sentence in sentences
        ]

    def _tables(self):
        return [_terminal.Table(f"Audit of {self.name}", self._records())]

    @property
    def verdict(self) -> str:
        """The result in one or two sentences."""
        count = len(self.departures)
        text = {
            0: "No departure from the paper was found.",
            1: "One departure was found.",
        }.get(count, f"{count} departures were found.")
        if self.variant is not None:
            text += f' It equals VARIANTS["{self.variant}"].'
        return text


class Findings:
    """Sentences of each kind, and what was measured.

    `departs`, `chooses` and `skips` add a sentence. `facts` are mostly
    arguments of `CBAM` that give what the layer computes.
    """

    def __init__(self):
        self.departures: list[str] = []
        self.choices: list[str] = []
        self.unchecked: list[str] = []
        self.facts: dict[str, Any] = {}
        self.departs = self.departures.append
        self.chooses = self.choices.append
        self.skips = self.unchecked.append

    @contextlib.contextmanager
    def errors_as(self, problem: str) -> Iterator[None]:
        """Adds a departure if the block raises an error, which ends it."""
        try:
            yield
        except Exception as error:
            self.departs(f"{problem} ({first_line(error)}).")


def first_line(error: Exception) -> str:
    """Returns an error's type and the beginning of its text."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = f"{type(error).__name__}: {text}"
    return textwrap.shorten(text, 200, placeholder=" ...")
