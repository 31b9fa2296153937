"""Names of files of predictions: the network, seed and fold of each.

A name is `{network}_s{seed}`, or anything that a pattern describes. A name that
could be read in two ways is refused, with patterns that read it.
"""

import collections
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cbam_keras import _checks
from cbam_keras.study.plans.study import Run

# Names such as none_s0, none-seed0, none_run_1, none_s0_fold2, or only none.
USUAL = (
    r"(?P<network>[^/]+?)([-_](s|seed|run)[-_]?(?P<seed>\d+))?"
    r"([-_]fold[-_]?(?P<fold>\d+))?"
)
# Keys of a .npz file have no extension.
EXTENSION = r"\.(npz|csv)"
VARIABLES = {
    "{network}": "(?P<network>[^/]+?)",
    "{seed}": r"(?P<seed>\d+)",
    "{fold}": r"(?P<fold>\d+)",
    "*": "[^/]*",
}
# A word of the grammar before a number, anywhere in a name.
WORD = re.compile(r"(?i)(?<![a-z])(s|seed|run|fold)([^a-z0-9/]*)(\d+)")
# What stands between the name of a network and a number after or before it.
BEFORE_NUMBER = re.compile(r"(?i)([^a-z0-9]+(s|seed|run|fold)?[^a-z0-9]*)?$")
AFTER_NUMBER = re.compile(r"(?i)[^a-z0-9]*")
# Patterns are derived from so many names at most.
MOST_NAMES = 50


class Name(NamedTuple):
    """What the name of a file says; without seed or fold `None`."""

    network: str
    seed: int | None
    fold: int | None

    @property
    def run(self) -> Run:
        return Run(self.seed or 0, self.fold)


def parse_names(
    names: Sequence[str], pattern: str | None
) -> dict[str, tuple[str, Run]]:
    """Returns the network and run of each name, without what has none.

    Args:
        names: Paths relative to their folder, such as `"none_s0.npz"`, or keys
            of one file.
        pattern: String with `{network}`, `{seed}` and `{fold}`, or `None` for
            the usual names.

    Raises:
        ValueError: If the pattern has no network, if names can be read in two
            ways, or if two are of one network and run.
    """
    usual = USUAL + f"({EXTENSION})?"
    expression = usual if pattern is None else _translate(pattern)
    read = _match(names, expression)
    if pattern is None:
        _refuse_two_readings(read)
    by_run: dict[tuple[str, Run], str] = {}
    for text, name in read.items():
        if (first := by_run.setdefault((name.network, name.run), text)) != text:
            raise ValueError(
                "There must be one file of each network and seed. Received: "
                f'"{first}" and "{text}", which are both of "{name.network}", '
                f"{name.run}"
            )
    return {text: (name.network, name.run) for text, name in read.items()}


def propose(names: Sequence[str]) -> list[str]:
    """Returns patterns that read the names, the most plausible first.

    Each gives every network the same runs. If none reads all names, those are
    returned that read some.
    """
    patterns = dict.fromkeys(
        pattern for name in names[:MOST_NAMES] for pattern in _derive(name)
    )
    ranked = []
    for pattern in patterns:
        read = _match(names, _translate(pattern))
        runs = _runs_by_network(read)
        is_grid = len({tuple(sorted(x, key=str)) for x in runs.values()}) == 1
        is_whole = len(runs) * max(map(len, runs.values()), default=0)
        if is_grid and is_whole == len(read) > 1:
            ranked.append((len(read) < len(names), len(runs) < 2, pattern))
    # A sort is stable: patterns that are as good stay in their order.
    ranked.sort(key=lambda x: x[:2])
    has_whole = any(not is_partial for is_partial, *_ in ranked)
    return [
        pattern
        for is_partial, _, pattern in ranked
        if not (is_partial and has_whole)
    ]


def describe_networks(names: Iterable[tuple[str, Run]]) -> str:
    """Returns e.g. "2 networks (none, cbam), 3 runs each"."""
    runs = collections.defaultdict(list)
    for network, run in names:
        runs[network].append(run)
    listed = _checks.first_few([*runs], 9)
    each = _checks.count(max(map(len, runs.values())), "run")
    return f"{_checks.count(len(runs), 'network')} ({listed}), {each} each"


def _translate(pattern):
    """Returns a pattern as a regular expression."""
    pieces = re.split(r"(\{network\}|\{seed\}|\{fold\}|\*)", pattern)
    literals = "".join(x for x in pieces if x not in VARIABLES)
    is_repeated = any(pieces.count(x) > 1 for x in ("{seed}", "{fold}"))
    has_network = pieces.count("{network}") == 1
    if not has_network or is_repeated or {*"{}"} & {*literals}:
        raise ValueError(
            "`pattern` must have {network} once, and may have {seed} and "
            "{fold} once, e.g. "
            f'"{{network}}/{{seed}}/probs.npz". Received: {pattern=}'
        )
    text = "".join(VARIABLES.get(x) or re.escape(x) for x in pieces)
    return rf"{text}({EXTENSION})?"


def _match(names, expression):
    """Returns what each name says, without names that do not match."""
    read = {}
    for name in names:
        if match := re.fullmatch(expression, name):
            parts = match.groupdict()
            seed, fold = parts.get("seed"), parts.get("fold")
            read[name] = Name(
                parts["network"],
                None if seed is None else int(seed),
                None if fold is None else int(fold),
            )
    return read


def _runs_by_network(read: Mapping[str, Name]) -> dict[str, set[Run]]:
    runs = collections.defaultdict(set)
    for name in read.values():
        runs[name.network].add(name.run)
    return runs


def _refuse_two_readings(read):
    """Raises if a number may be a seed, and is in the name of a network."""
    alike = collections.defaultdict(set)
    for name in read.values():
        alike[_without_numbers(name.network)].add(name.network)
    doubtful = []
    for text, name in read.items():
        has_twin = len(alike[_without_numbers(name.network)]) > 1
        has_word = WORD.search(name.network) is not None
        # Names that say their seed may number networks: resnet18, resnet50.
        has_run = name.seed is not None or name.fold is not None
        if (has_twin and has_word) or (not has_run and (has_twin or has_word)):
            doubtful.append(text)
    if doubtful:
        raise ValueError(
            "File names must give the network and the run: "
            "NETWORK_sSEED.npz or .csv, also _seed, _run, _fold. Received: "
            f"{_quote(doubtful)}, whose numbers may be seeds or parts of the "
            f"names of networks. {_advise(read, doubtful)}"
        )
    without = [text for text, name in read.items() if name.seed is None]
    if 0 < len(without) < len(read):
        others = [text for text in read if text not in without]
        raise ValueError(
            "Either all file names must give a seed, or none. Received: "
            f'"{without[0]}" without one, and "{others[0]}". Rename the files '
            "without one"
        )


def _without_numbers(name):
    return re.sub(r"\d+", "#", name)


def _quote(names):
    return _checks.first_few([f'"{x}"' for x in names])


def _advise(read, doubtful):
    """Returns the patterns that read these names, and what each reads."""
    names = [*read]
    advised = propose(names)[:2]
    # Numbers may be a part of what networks are called.
    if not any(WORD.search(read[x].network) for x in doubtful):
        advised = [*advised[:1], "{network}"]
    if not advised:
        return (
            "Describe the names by pattern= (--pattern) with {network} and "
            '{seed}, e.g. pattern="{network}_s{seed}_best"'
        )
    told = []
    for pattern in advised:
        matched = _match(names, _translate(pattern))
        what = describe_networks((x.network, x.run) for x in matched.values())
        if len(matched) < len(names):
            what += f", in {len(matched)} of {len(names)} files"
        told.append(f'pattern="{pattern}" (--pattern) reads {what}')
    return f"Say which they are: {'; '.join(told)}"


def _derive(name: str) -> Iterator[str]:
    """Yields the patterns of which one name may be."""
    stem = re.sub(rf"{EXTENSION}$", "", name)
    if {*stem} & {*"{}*"}:
        return
    words = []
    for match in WORD.finditer(stem):
        variable = "{fold}" if match[1].lower() == "fold" else "{seed}"
        words.append((*match.span(3), variable))
    numbers = [(*x.span(), "{seed}") for x in re.finditer(r"\d+", stem)]
    for variables in (words, numbers[-1:], numbers[:1]):
        if len({x[2] for x in variables}) == len(variables) > 0:
            yield from _place_network(stem, variables)


def _place_network(stem, variables):
    """Yields patterns with the network in each of the texts of a name."""
    starts = [0, *(end for _, end, _ in variables)]
    ends = [*(start for start, _, _ in variables), len(stem)]
    texts = [stem[x:y] for x, y in zip(starts, ends, strict=True)]
    for place, text in enumerate(texts):
        for start, end in _components(text):
            before, after = "", ""
            if start == 0 and place > 0:
                before = AFTER_NUMBER.match(text[start:end])[0]
            if end == len(text) and place < len(variables):
                after = BEFORE_NUMBER.search(text[start:end])[0]
            network = text[start + len(before) : end - len(after)]
            if not network or network.lower() in ("s", "seed", "run", "fold"):
                continue
            placed = [*texts]
            placed[place] = (
                f"{text[:start]}{before}{{network}}{after}{text[end:]}"
            )
            pieces = [*variables, (0, 0, "")]
            yield "".join(
                piece + variable
                for piece, (*_, variable) in zip(placed, pieces, strict=True)
            )


def _components(text):
    """Yields where each component of a path starts and ends."""
    start = 0
    for component in text.split("/"):
        if component:
            # A slash between a network and a number belongs to neither.
            at_start = start - 1 if start and not text[: start - 1] else start
            end = start + len(component)
            if text[end:] == "/":
                end += 1
            yield at_start, end
        start += len(component) + 1
