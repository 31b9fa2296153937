"""Patterns: what path components mean, e.g. "{split}/{class}/*"."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

# A brace that is doubled, any folders, any text, with or without a name.
PIECE = re.compile(r"(?P<brace>{{|}})|\*\*/|\*|{(?P<name>[^{}/]*)}")
FOLDERS = "**/"


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
        pieces = [*PIECE.finditer("/".join(self._parts))]
        self.names = {piece["name"] for piece in pieces} - {None, ""}
        # All files of a folder then mean the same.
        self.is_of_folders = self._parts[-1] in ("*", "**")
        # How much text it asks for beside names.
        self.num_letters = len(PIECE.sub("", "/".join(self._parts)))
        is_mixed = any("**" in x and x != "**" for x in self._parts)
        if is_mixed or needed not in self.names or not self.names <= {*names}:
            listed = ", ".join(f"{{{name}}}" for name in names)
            raise ValueError(
                f"`{argument}` must be a path below the folder, with "
                f"{{{needed}}} in one component. There are {listed}, {{}} and "
                "* for any text, and ** for any folders, as a component. "
                f'Received: {argument}="{text}". Use {{group}} for units '
                "that must stay in one split, such as patients, and {} for "
                "parts to ignore"
            )
        texts = [_to_regex(self._parts, sign) for sign in ("?", "")]
        self._regexes = [*map(re.compile, texts)]

    def match(self, path: str) -> dict[str, str] | None:
        """Returns the values of names in a path; raises if one has two."""
        path = normalize(path)
        # Where a name could have two values, its shortest and longest differ.
        short, long = (regex.fullmatch(path) for regex in self._regexes)
        if short is None or long is None:
            return None
        for name, value in short.groupdict().items():
            if long[name] != value:
                raise ValueError(
                    f"`{self.argument}` must be unambiguous. "
                    f'Received: {self.argument}="{self.text}", whose '
                    f'{{{name}}} may be "{value}" or "{long[name]}" in '
                    f'"{path}". Write more of the text around {{{name}}}'
                )
        return short.groupdict()

    def describe_mismatch(self, paths: Iterable[str]) -> str:
        """Returns up to which part the first of some paths match."""

        def find_reached(path):
            for count in reversed(range(1, len(self._parts))):
                regex = _to_regex([*self._parts[:count], "**"], "")
                if re.fullmatch(regex, normalize(path)):
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


def _to_regex(parts, sign):
    """Returns a regular expression of the components of a pattern.

    With the sign "?" it matches the shortest text in place of each name,
    with "" the longest.
    """
    pattern = "/".join(parts)
    if parts[-1] == "**":
        # All files below a folder.
        pattern += "/*"
    # A dot matches any character of a path, line breaks too.
    regex = "(?s)"
    end_of_last = 0
    names_seen = set[str]()
    for piece in PIECE.finditer(pattern):
        regex += re.escape(pattern[end_of_last : piece.start()])
        end_of_last = piece.end()
        name = piece["name"]
        if piece["brace"]:
            # "{{" and "}}" are braces of the path itself.
            regex += re.escape(piece["brace"][0])
        elif piece[0] == FOLDERS:
            regex += f"(?:.*{sign}/)?{sign}"
        elif not name:
            # "*" and "{}" match any text of a component.
            regex += f"[^/]+{sign}"
        elif name in names_seen:
            regex += f"(?P={name})"
        else:
            regex += f"(?P<{name}>[^/]+{sign})"
            names_seen.add(name)
    return regex + re.escape(pattern[end_of_last:])


def normalize(path: str) -> str:
    """Returns a path with composed letters, its ending in small ones."""
    start, dot, ending = unicodedata.normalize("NFC", path).rpartition(".")
    is_ending = dot and ending.isalnum()
    return start + dot + (ending.lower() if is_ending else ending)
