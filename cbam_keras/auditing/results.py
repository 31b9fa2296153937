"""`Audit`, the result, and `Findings`, what the checks add to."""

import dataclasses
import re
import textwrap

from cbam_keras import _terminal


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

    def _sections(self):
        kinds = {
            "departure": self.departures,
            "choice": self.choices,
            "not checked": self.unchecked,
        }
        return [
            [(kind, sentence) for sentence in sentences]
            for kind, sentences in kinds.items()
            if sentences
        ]

    def _records(self):
        return [
            {"kind": kind, "finding": sentence}
            for section in self._sections()
            for kind, sentence in section
        ]

    def _tables(self):
        columns = {"": "left", "finding": "left"}
        yield columns, self._sections(), f"Audit of {self.name}"

    def __str__(self) -> str:
        ((columns, sections, title),) = self._tables()
        table = _terminal.render(columns, sections, title=title)
        return f"{table}\n\n{textwrap.fill(self.verdict, 100)}"

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


@dataclasses.dataclass
class Findings:
    """Sentences that the checks add to, and facts that later ones need.

    Attributes:
        facts: Dictionary of arguments of `CBAM` to what was measured.
    """

    departures: list[str] = dataclasses.field(default_factory=list)
    choices: list[str] = dataclasses.field(default_factory=list)
    unchecked: list[str] = dataclasses.field(default_factory=list)
    facts: dict = dataclasses.field(default_factory=dict)


def words(error: Exception) -> str:
    """Returns an error's first line that says something, with its type."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Keras says first where it happened.
    said = [x for x in lines if not x.startswith("Exception encountered")]
    first = textwrap.shorten(" ".join(said[:1]), 160, placeholder=" ...")
    return f"{type(error).__name__}: {first}".rstrip(": ")
