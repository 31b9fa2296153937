"""`results.json`: what a run has come to, read and checked.

The types say what code relies on; a file may hold more.
"""

import dataclasses
import functools
import json
import pathlib
import types
import typing
from collections.abc import Sequence
from typing import TypedDict

from cbam_keras import _checks
from cbam_keras._files import RESULTS, Json, read_bytes
from cbam_keras.data import Source, check_folds
from cbam_keras.study.cell import Outcome
from cbam_keras.study.measures import ACCURACY, Measure
from cbam_keras.study.statistics import TESTS
from cbam_keras.study.study import LAYOUTS, Comparison, check_name

FORMAT = 3
# The squares of larger numbers, as a deviation needs them, may be infinite.
MOST = 1e150
# The subfolder in which the best of a ranking are retrained.
CONFIRMATION = "confirmation"
# Files from before `layout` have one by their kind of run.
FORMER_LAYOUTS = {"ablate": "errors", "tune": "ranking"}


class DataDescription(TypedDict):
    """Data of one seed, with what else a resumed run must agree in."""

    name: str
    sizes: dict[str, int]


class Settings(TypedDict):
    """Settings that a resumed run must agree in, and more."""

    variants: dict[str, dict]
    data: dict[str, DataDescription]


class Content(TypedDict):
    """All of a file; `commonest` is the fraction of the majority class.

    `source` is the description of a `data.Source`.
    """

    kind: str
    layout: str
    question: str | None
    command: str | None
    settings: Settings
    measures: list[Measure]
    comparisons: list[Comparison]
    labels: dict[str, str]
    commonest: float | None
    source: dict | None
    seeds: list[int]
    cells: list[Outcome]


class Confirmation(TypedDict):
    """A trial that was retrained, with these seeds."""

    trial: int
    options: dict
    seeds: list[int]


class BestNetwork(TypedDict):
    """The network in `best.keras`, and more about it."""

    # `None` for masks.
    test_accuracy: float | None


class Choice(TypedDict):
    """What a ranking has ended with: the number of a trial, and more."""

    best: int
    best_network: BestNetwork
    best_options: dict
    code: str
    confirmation: list[Confirmation]
    verdict: str


def read_content(folder: pathlib.Path) -> Json:
    """Returns what `results.json` in a folder holds.

    Raises one of `DAMAGE`, which names the field that is damaged, or another
    `OSError` if the file cannot be read just now.
    """
    content = json.loads(read_bytes(folder / RESULTS))
    if content.get("format") != FORMAT:
        raise ValueError(
            f"`format` must be {FORMAT}. Received: {content.get('format')}, "
            "of another version of cbam_keras"
        )
    default = FORMER_LAYOUTS.get(content.get("kind"), LAYOUTS[0])
    content.setdefault("layout", default)
    _check("results", content, Content)
    _checks.one_of("layout", content["layout"], LAYOUTS)
    if "best" in content:
        _check("results", content, Choice)
    settings = content["settings"]
    for name, values in (
        ("settings.data", settings["data"]),
        ("seeds", content["seeds"]),
        ("measures", content["measures"]),
        ("comparisons", content["comparisons"]),
    ):
        if not values:
            raise ValueError(f"`{name}` must not be empty. Received: {values}")
    for measure in content["measures"]:
        Measure(**measure)
    # An accuracy is a fraction of images.
    has_accuracy = ACCURACY in [x["key"] for x in content["measures"]]
    for name, data in settings["data"].items():
        _checks.positive_integer(
            f"settings.data.{name}.sizes.test",
            data["sizes"].get("test"),
            or_zero=not has_accuracy,
        )
    check_folds(settings.get("folds"))
    _checks.one_of("settings.test", settings.get("test", TESTS[0]), TESTS)
    if content["source"] is not None:
        Source.from_description(content["source"])
    for cell in content["cells"]:
        # They name files that are read, moved and deleted.
        check_name(cell["variant"])
        Outcome(**cell)
        if (
            cell["variant"] not in settings["variants"]
            or cell["seed"] not in content["seeds"]
        ):
            raise ValueError("a cell is of no variant and seed of the run")
    for name, values in (
        ("seeds", content["seeds"]),
        ("measures", [x["key"] for x in content["measures"]]),
        ("cells", [(x["variant"], x["seed"]) for x in content["cells"]]),
    ):
        if len(set(values)) < len(values):
            raise ValueError(f"`{name}` must differ. Received: {values}"[:200])
    return content


def comparison_of(fields: Json, variants: Sequence[str]) -> Comparison:
    """Returns a `Comparison` of these variants, as `results.json` holds it."""
    comparison = Comparison(**fields)
    names = comparison.variants or variants
    baseline = comparison.baseline
    return dataclasses.replace(
        comparison,
        baseline=baseline if baseline in variants else None,
        variants=tuple(name for name in names if name in variants),
    )


def merge(stored: Sequence, new: Sequence) -> list:
    """Returns what a run holds and what a call names, in the call's order.

    What the call does not name follows what it has followed in the run.
    """
    merged, place = [*new], 0
    for value in stored:
        if value not in merged:
            merged.insert(place, value)
        place = merged.index(value) + 1
    return merged


def merge_tables(stored: Sequence[Json], new: Sequence[Json]) -> list[Json]:
    """Returns the comparisons of a run and of a call, each table once.

    A table has the variants of both, and keeps its baseline if the call has
    none. Tables with numbers are in their order.
    """
    before, after = [*stored], []
    for table in new:
        alike = {key: table[key] for key in ("number", "title")}
        same = [x for x in before if x == table] or [
            x for x in before if x | alike == x
        ]
        if same:
            names = same[0]["variants"], table["variants"]
            table = table | {
                "baseline": table["baseline"] or same[0]["baseline"],
                # None are named for all of the study.
                "variants": merge(*names) if all(names) else [],
            }
            before[before.index(same[0])] = table
        after.append(table)
    tables = merge(before, after)
    is_more = len(tables) > len(new)
    return sorted(tables, key=lambda x: x["number"]) if is_more else tables


_hints = functools.cache(typing.get_type_hints)


def _check(field, value, kind):
    """Raises unless a value has a type, and its numbers are finite."""
    inner = typing.get_args(kind)
    if types.NoneType in inner:
        if value is not None:
            _check(field, value, inner[0])
    elif dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        _check(field, value, dict)
        for name, hint in _hints(kind).items():
            # Files of earlier versions lack fields that have defaults.
            default = getattr(kind, name, None)
            _check(f"{field}.{name}", value.get(name, default), hint)
    elif typing.get_origin(kind) is dict:
        _check(field, value, dict)
        for name, one in value.items():
            _check(f"{field}.{name}", one, inner[1])
    elif typing.get_origin(kind) in (list, Sequence):
        _check(field, value, list)
        for number, one in enumerate(value):
            _check(f"{field}.{number}", one, inner[0])
    else:
        is_number = kind is float
        # A boolean is an integer to Python.
        is_right = isinstance(value, (int, float) if is_number else kind)
        is_right &= kind is bool or not isinstance(value, bool)
        # A loss may not be finite.
        if is_right and kind in (int, float) and ".history." not in field:
            is_right = abs(value) <= MOST
        if not is_right:
            name = "a finite number" if is_number else kind.__name__
            raise ValueError(
                f"`{field.removeprefix('results.')}` must be {name}. "
                f"Received: {str(value)[:100]}"
            )
