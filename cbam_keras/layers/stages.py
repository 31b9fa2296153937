"""Where attention goes: the stages of a network, numbered from 1."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from cbam_keras import _checks

ALL = "all"
FORM = r"all|first|last( [1-9]\d*)?|\d+(,\d+)*"


class StageError(ValueError):
    """A network lacks a stage; `available` are those that it has."""

    def __init__(self, stages: str, available: Iterable[int]):
        self.available = list(available)
        listed = ", ".join(map(str, self.available))
        super().__init__(
            "`stages` must be among those where the network has places for "
            f"attention: {listed}. Received: stages={stages!r}"
        )


def check_stages(stages: object) -> str:
    """Returns `stages`, or raises unless it has a form that is known."""
    if isinstance(stages, str) and re.fullmatch(FORM, stages):
        return stages
    raise ValueError(
        '`stages` must be "all", "first", "last", as "last 2", or numbers '
        f'from 1, as "1,3". Received: stages={stages!r}'
        f"{_checks.did_you_mean(stages, ('all', 'first', 'last'))}"
    )


def choose_stages(stages: str, available: Iterable[int]) -> list[int]:
    """Returns the stages that are asked for, of those that there are."""
    available = list(available)
    kind, _, count = check_stages(stages).partition(" ")
    if kind == ALL:
        return available
    if kind[0].isdigit():
        chosen = sorted({int(number) for number in kind.split(",")})
    elif int(count or 1) > len(available):
        chosen = [0]
    else:
        chosen = available[-int(count or 1) :]
        chosen = available[:1] if kind == "first" else chosen
    if not {*chosen} <= {*available}:
        raise StageError(stages, available)
    return chosen


def in_stages(
    attention: Any, stages: str, available: Iterable[int]
) -> dict[int, Any]:
    """Returns the attention of each stage, `None` where there is none.

    `attention` may have its own `stages`, as a `layers.Attention`.
    """
    available = list(available)
    own = getattr(attention, "stages", ALL)
    if ALL not in (own, stages):
        raise ValueError(
            "`stages` must be given once. Received: "
            f"stages={stages!r}, and attention={attention!r}"
        )
    if own != ALL:
        attention = dataclasses.replace(attention, stages=ALL)
        stages = own
    chosen = choose_stages(stages, available)
    return {x: attention if x in chosen else None for x in available}
