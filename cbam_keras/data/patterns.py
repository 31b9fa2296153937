"""Patterns: what the parts of a path mean, as "{split}/{class}/*"."""

import collections
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
        self._regexes = [
            re.compile(_to_regex(self._steps, x)) for x in ("?", "")
        ]
        # All files of a folder then mean the same.
        self.is_of_folders = self._parts[-1] in ("*", "**")
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
        path = normalize(path)
        # The shortest and the longest texts are the same if there is one way.
        shortest, longest = self._regexes
        if not (match := shortest.fullmatch(path)):
            return None
        other = longest.fullmatch(path)
        if other is not None and match.regs == other.regs:
            return match.groupdict()
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
    names = ["class", "split", "group", "fold"]
    if is_of_split:
        names.remove("split")
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


def _to_regex(steps, sign):
    """Returns a regular expression of the shortest or the longest texts."""
    seen, texts = set(), []
    for kind, text in steps:
        part = {"": f"([^/]+{sign})", FOLDERS: f"((?:.*{sign}/)?{sign})"}.get(
            kind
        )
        if part is None:
            is_again = kind in seen
            part = f"(?P={kind})" if is_again else f"(?P<{kind}>[^/]+{sign})"
            seen.add(kind)
        texts += [part, re.escape(text.removesuffix(END))]
    return "(?s)" + "".join(texts[1:])


def _find(steps, path):
    """Returns the values of the names, each different way to match once.

    Of more than two ways only two are sure to be returned.
    """
    path = normalize(path) + END
    (_, first), *steps = steps
    names = [kind for kind, _ in steps if kind not in ("", FOLDERS)]
    # Where no name is repeated, two ways to one place show what more would.
    most = 2 if len({*names}) == len(names) else len(path) ** 2
    # The values with which a path is matched, by where that ends.
    states = {len(first): {()}} if path.startswith(first) else {}
    for kind, text in steps:
        longer = collections.defaultdict[int, set[tuple]](set)
        for start, ways in states.items():
            for end in _find_ends(path, start, kind, text):
                found = longer[end + len(text)]
                pair = (kind, path[start:end])
                for values in ways:
                    if len(found) >= most:
                        break
                    if kind in ("", FOLDERS) or pair in values:
                        found.add(values)
                    elif kind not in dict(values):
                        found.add((*values, pair))
        states = longer
    return set().union(*states.values())


def _find_ends(path, start, kind, text):
    """Returns where what starts somewhere may end, before a text."""
    if kind == FOLDERS:
        ends = (i + 1 for i in range(start, len(path)) if path[i] == "/")
        ends = [start, *ends]
    else:
        stop = path.find("/", start)
        stop = len(path) - len(END) if stop < 0 else stop
        # A whole part has one end.
        least = stop if text[:1] in ("/", END) else start + 1
        ends = range(max(start + 1, least), stop + 1)
    return [end for end in ends if path.startswith(text, end)]


def normalize(path: str) -> str:
    """Returns a path with composed letters, its ending in small ones."""
    start, dot, ending = unicodedata.normalize("NFC", path).rpartition(".")
    is_ending = dot and ending.isalnum()
    return start + dot + (ending.lower() if is_ending else ending)
