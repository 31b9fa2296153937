"""Patterns: what the parts of a path mean, as "{split}/{class}/*"."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

# A brace that is doubled, any folders, any text, with or without a name.
PIECE = re.compile(r"(?P<brace>{{|}})|\*\*/|\*|{(?P<name>[^{}/]*)}")
FOLDERS = "**/"
# Ends each path, so that the last text of a pattern is the last of a path.
END = "\0"


class Pattern:
    """A path with names in braces, which finds their values in other paths.

    A name, `{}` or `*` matches one or more characters of a part, `**` any
    folders and, at the end, all files below. Capital letters count but in the
    ending, and both forms of unicode are one.
    """

    def __init__(
        self,
        text: str,
        names: Sequence[str],
        needed: str,
        argument: str = "pattern",
    ):
        self.text, self.argument = text, argument
        if not isinstance(text, str):
            raise TypeError(
                f"`{argument}` must be a pattern, as a string with {{{needed}}}"
                f". Received: {argument}={text!r}"
            )
        self._parts = normalize(text.replace("\\", "/")).split("/")
        self._steps = _parse(self._parts)
        self.names = {kind for kind, _ in self._steps} - {"", FOLDERS}
        # How much text it asks for beside names.
        self.num_letters = sum(len(text) for _, text in self._steps)
        is_mixed = any("**" in x and x != "**" for x in self._parts)
        if is_mixed or needed not in self.names or not self.names <= {*names}:
            listed = ", ".join(f"{{{name}}}" for name in names)
            raise ValueError(
                f"`{argument}` must be a path below the folder, with "
                f"{{{needed}}} for a part of it. There are {listed}, {{}} and "
                "* for any text, and ** for any folders, as a whole part. "
                f'Received: {argument}="{text}". Say {{group}} for what stays '
                "in one split, as a patient, and {} for what means nothing"
            )

    def match(self, path: str) -> dict[str, str] | None:
        """Returns the values of the names in a path, `None` if it is another.

        Raises if a name could have two values.
        """
        found = _find(self._steps, path)
        if len(found) > 1:
            first, second = sorted(found)[:2]
            pairs = zip(first, second, strict=True)
            (name, one), (_, two) = next(x for x in pairs if x[0] != x[1])
            raise ValueError(
                f"`{self.argument}` must give each file one value. Received: "
                f'{self.argument}="{self.text}", whose {{{name}}} may be '
                f'"{one}" or "{two}" in "{path}". Write more of the text '
                f"around {{{name}}}"
            )
        return dict(*found) if found else None

    def describe_mismatch(self, paths: Iterable[str]) -> str:
        """Returns up to which part the first of some paths match."""

        def find_reached(path):
            for count in reversed(range(1, len(self._parts))):
                if _find(_parse([*self._parts[:count], "**"]), path):
                    return count
            return 0

        example = max(paths, key=find_reached)
        reached = find_reached(example)
        parts = [f'"{part}"' for part in self._parts]
        start = f"matches {', '.join(parts[:reached])} but " if reached else ""
        return f'"{example}" {start}does not match {parts[reached]}'


def make_pattern(text: str, is_of_split: bool = False) -> Pattern:
    """Returns a pattern of images by class, as that of a split without it."""
    names = ["class", "group"] if is_of_split else ["class", "split", "group"]
    return Pattern(text, names, "class")


def _parse(parts):
    """Returns the steps of a pattern: what matches, and the text after it.

    What matches is a name, "" for any text, or folders; in the first step
    nothing.
    """
    whole = "/".join([*parts, "*"] if parts[-1] == "**" else parts)
    steps, start = [["", ""]], 0
    for piece in PIECE.finditer(whole):
        steps[-1][1] += whole[start : piece.start()]
        start = piece.end()
        if piece["brace"]:
            steps[-1][1] += piece["brace"][0]
        else:
            kind = FOLDERS if piece[0] == FOLDERS else piece["name"] or ""
            steps.append([kind, ""])
    steps[-1][1] += whole[start:] + END
    return steps


def _find(steps, path):
    """Returns the values of the names, each different way to match once."""
    path = normalize(path) + END
    (_, first), *steps = steps
    # Up to where a path is matched, and with which values.
    states = {(len(first), ())} if path.startswith(first) else set()
    for kind, text in steps:
        longer = set()
        for start, values in states:
            for end in _find_ends(path, start, kind):
                if not path.startswith(text, end):
                    continue
                pair = (kind, path[start:end])
                if kind in ("", FOLDERS) or pair in values:
                    longer.add((end + len(text), values))
                elif kind not in dict(values):
                    longer.add((end + len(text), (*values, pair)))
        states = longer
    return {values for _, values in states}


def _find_ends(path, start, kind):
    """Returns where a text of a kind may end that starts somewhere."""
    if kind == FOLDERS:
        ends = (i + 1 for i in range(start, len(path)) if path[i] == "/")
        return [start, *ends]
    stop = path.find("/", start)
    stop = len(path) - len(END) if stop < 0 else stop
    return range(start + 1, stop + 1)


def normalize(path: str) -> str:
    """Returns a path with composed letters, its ending in small ones."""
    start, dot, ending = unicodedata.normalize("NFC", path).rpartition(".")
    is_ending = dot and ending.isalnum()
    return start + dot + (ending.lower() if is_ending else ending)
