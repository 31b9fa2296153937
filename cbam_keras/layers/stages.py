"""Where attention goes: in stages, numbered from 1, or at the top."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

ALL = "all"
# After the last feature map. It is no part of all stages.
TOP = "top"
FORM = r"all|first|last( [1-9]\d*)?|top|\d+(,\d+)*"
Stage = int | str


class StageError(ValueError):
    """A network lacks a stage; `available` are those that it has."""

    def __init__(self, stages: str, available: Iterable[Stage]):
        self.available = list(available)
        listed = ", ".join(map(str, self.available))
        hint = (
            '. "top" is for networks that pool their last feature map, as '
            "classifiers do, not for those of masks or boxes, and not with "
            "`after`, `instead_of` or a list of `attention`"
        )
        super().__init__(
            "`stages` must be among those where the network has places for "
            f"attention: {listed}. Received: stages={stages!r}"
            f"{hint if stages == TOP else ''}"
        )


def check_stages(stages: object) -> str:
    """Returns `stages`, or raises unless it has a known form."""
    if isinstance(stages, str) and re.fullmatch(FORM, stages):
        return stages
    raise ValueError(
        '`stages` must be "all", "first", "last", e.g. "last 2", "top", or '
        f'numbers from 1 such as "1,3". Received: stages={stages!r}'
    )


def choose_stages(stages: object, available: Iterable[Stage]) -> list[Stage]:
    """Returns the stages that are asked for, of those that there are."""
    available = list(available)
    numbers = [stage for stage in available if stage != TOP]
    stages = check_stages(stages)
    kind, _, count = stages.partition(" ")
    if kind == ALL:
        return numbers
    chosen: list[Stage]
    if kind == TOP:
        chosen = [TOP]
    elif kind[0].isdigit():
        chosen = sorted({int(number) for number in kind.split(",")})
    elif int(count or 1) > len(numbers):
        chosen = [0]
    else:
        chosen = numbers[-int(count or 1) :]
        chosen = numbers[:1] if kind == "first" else chosen
    if not {*chosen} <= {*available}:
        raise StageError(stages, available)
    return chosen


def in_stages(
    attention: Any, stages: object, available: Iterable[Stage]
) -> dict[Stage, Any]:
    """Returns the attention of each stage, `None` where there is none."""
    available = list(available)
    stages = check_stages(stages)
    own_stages = getattr(attention, "stages", ALL)
    if ALL not in (own_stages, stages):
        raise ValueError(
            "`stages` must be given once. Received: "
            f"stages={stages!r}, and attention={attention!r}"
        )
    if own_stages != ALL:
        attention = dataclasses.replace(attention, stages=ALL)
        stages = own_stages
    chosen = choose_stages(stages, available)
    return {x: attention if x in chosen else None for x in available}
