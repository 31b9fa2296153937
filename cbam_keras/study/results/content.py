"""`results.json`: the results of a run, read and checked."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

from cbam_keras import _checks
from cbam_keras._files import RESULTS, Json, read_bytes
from cbam_keras.data import Source, check_folds
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.plans.study import LAYOUTS, Comparison, check_name
from cbam_keras.study.running.outcomes import Outcome

FORMAT = 4
# The subfolder in which the best of a ranking are retrained.
CONFIRMATION = "confirmation"


def read_content(folder: pathlib.Path) -> Json:
    """Returns what `results.json` in a folder holds.

    Raises one of `DAMAGE` if it is damaged, or another `OSError` if the file
    cannot be read just now. What names files is checked.
    """
    content = json.loads(read_bytes(folder / RESULTS))
    if content.get("format") != FORMAT:
        raise ValueError(
            f"`format` must be {FORMAT}. Received: {content.get('format')}, "
            "of another version of cbam_keras"
        )
    _checks.one_of("layout", content["layout"], LAYOUTS)
    settings, seeds = content["settings"], content["seeds"]
    for values in (seeds, content["measures"], settings["data"]):
        if not values:
            raise ValueError("a run has seeds, measures and data")
    # They name folders that are written and deleted.
    if not all(type(seed) is int for seed in seeds):
        raise ValueError(f"`seeds` must be integers. Received: {seeds}")
    for measure in content["measures"]:
        Measure(**measure)
    for comparison in content["comparisons"]:
        Comparison(**comparison)
    for data in settings["data"].values():
        _checks.positive_integer("test", data["sizes"]["test"], or_zero=True)
    check_folds(settings.get("folds"))
    if content["source"] is not None:
        Source.from_description(content["source"])
    for outcome in content["outcomes"]:
        # They name files that are read, moved and deleted.
        check_name(outcome["variant"])
        Outcome(**outcome)
        if (
            outcome["variant"] not in settings["variants"]
            or outcome["seed"] not in seeds
        ):
            raise ValueError("an outcome is of no variant and seed of the run")
    networks = {(x["variant"], x["seed"]) for x in content["outcomes"]}
    if len(networks) < len(content["outcomes"]):
        raise ValueError("two outcomes are of one variant and seed")
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
