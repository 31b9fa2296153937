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
    """Returns `stages` as text, or raises unless it has a known form.

    One or several numbers stand for their text.
    """
    text = stages
    if isinstance(stages, int | list | tuple):
        numbers = [stages] if isinstance(stages, int) else stages
        text = ",".join(map(str, numbers))
    if isinstance(text, str) and re.fullmatch(FORM, text):
        return text
    raise ValueError(
        '`stages` must be "all", "first", "last", as "last 2", or numbers '
        f'from 1, as "1,3". Received: stages={stages!r}'
        f"{_checks.did_you_mean(stages, ('all', 'first', 'last', 'last 2'))}"
    )


def choose_stages(stages: object, available: Iterable[int]) -> list[int]:
    """Returns the stages that are asked for, of those that there are."""
    available = list(available)
    stages = check_stages(stages)
    kind, _, count = stages.partition(" ")
    if kind == ALL:
        return available
    if kind[0].isdigit():
        numbers = sorted({int(number) for number in kind.split(",")})
    elif int(count or 1) > len(available):
        numbers = [0]
    else:
        numbers = available[-int(count or 1) :]
        numbers = available[:1] if kind == "first" else numbers
    if not {*numbers} <= {*available}:
        raise StageError(stages, available)
    return numbers


def in_stages(
    attention: Any, stages: object, available: Iterable[int]
) -> dict[int, Any]:
    """Returns the attention of each stage, `None` where there is none.

    `attention` may have its own `stages`, as a `layers.Attention`.
    """
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
    numbers = choose_stages(stages, available)
    return {x: attention if x in numbers else None for x in available}
