"""Where attention goes: in stages, numbered from 1, or at the top."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

ALL = "all"
# The place after the last feature map, which `ALL` does not include.
TOP = "top"
# What `stages` may be: a word, a word with a number, or numbers.
FORM = r"all|first|last( [1-9]\d*)?|top|\d+(,\d+)*"
Stage = int | str


class StageError(ValueError):
    """A network lacks a requested stage; `available` lists those it has."""

    def __init__(self, stages: str, available: Iterable[Stage]):
        self.available = list(available)
        listed = ", ".join(map(str, self.available))
        hint = (
            '. "top" is for networks that pool their last feature map, as '
            "classifiers do, not for those that predict masks or boxes, and "
            "not with `after`, `instead_of` or a list of `attention`"
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
        '`stages` must be "all", "first", "last", a count such as "last 2", '
        f'"top", or numbers from 1 such as "1,3". Received: stages={stages!r}'
    )


def choose_stages(stages: object, available: Iterable[Stage]) -> list[Stage]:
    """Returns the requested stages, or raises if one is not available."""
    available = list(available)
    numbers = [stage for stage in available if stage != TOP]
    stages = check_stages(stages)
    if stages == ALL:
        return numbers
    requested: list[Stage]
    if stages == TOP:
        requested = [TOP]
    elif stages == "first":
        requested = numbers[:1]
    elif stages.startswith("last"):
        # "last" alone is one stage.
        count = int(stages.removeprefix("last") or 1)
        requested = numbers[-count:] if count <= len(numbers) else []
    else:
        requested = sorted({int(number) for number in stages.split(",")})
    if not requested or not {*requested} <= {*available}:
        raise StageError(stages, available)
    return requested


def in_stages(
    attention: Any, stages: object, available: Iterable[Stage]
) -> dict[Stage, Any]:
    """Returns the attention of each stage, `None` where there is none.

    An `Attention` may have its own `stages`; then `stages` must be `"all"`.
    """
    available = list(available)
    stages = check_stages(stages)
    stages_of_attention = getattr(attention, "stages", ALL)
    if ALL not in (stages_of_attention, stages):
        raise ValueError(
            "`stages` must be given once, here or in `attention`. Received: "
            f"stages={stages!r}, and attention={attention!r}"
        )
    if stages_of_attention != ALL:
        attention = dataclasses.replace(attention, stages=ALL)
        stages = stages_of_attention
    stages_with_attention = choose_stages(stages, available)
    return {
        stage: attention if stage in stages_with_attention else None
        for stage in available
    }
