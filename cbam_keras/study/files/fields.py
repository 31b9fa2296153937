"""`check_fields`: what a file holds is of the types that code takes."""

import dataclasses
import functools
import types
import typing
from typing import Any, NotRequired, TypedDict

from cbam_keras import _checks, _files
from cbam_keras.study.plans.measures import Measure

# In words of JSON.
JSON_WORDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    types.NoneType: "null",
}


class DataFields(TypedDict):
    """The description of data in `study.json` and `state.json`."""

    name: str
    sizes: dict[str, int]
    input_shape: NotRequired[list[int | None] | dict[str, list[int | None]]]
    classes: NotRequired[int]
    noun: NotRequired[str]


class SettingsFields(TypedDict):
    """What a resumed run must agree in, as far as results are made of it."""

    variants: dict[str, _files.Json]
    data: dict[str, DataFields]
    recipe: _files.Json
    folds: NotRequired[int | None]
    model: NotRequired[str]


class StudyFields(TypedDict):
    """What `study.json` holds; see `StudyFolder`."""

    format: int
    kind: str
    command: str | None
    settings: SettingsFields
    seeds: list[int]
    versions: dict[str, str]
    labels: dict[str, str]
    question: str
    measures: list[Measure]
    baseline: str | None
    class_names: list[str]
    threshold: str | None
    class_counts: list[float] | None
    commonest: float | None
    notes: list[str] | None
    leaks: list[str] | None
    source: _files.Json | None
    plans: NotRequired[list[_files.Json]]
    machines: NotRequired[list[str]]
    best: NotRequired[int | None]
    best_network: NotRequired[_files.Json]
    best_options: NotRequired[_files.Json]
    code: NotRequired[str]
    confirmation: NotRequired[list[_files.Json]]
    verdict: NotRequired[str]


def check_fields(value: object, hint: object, name: str = "") -> None:
    """Raises a `ValueError` that names what in a file is not as annotated."""
    is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    choices = typing.get_args(hint) if is_union else (hint,)
    for one in choices:
        if _is_of(value, _type_in_json(one)):
            return _check_inner(value, one, name)
    expected = " or ".join(JSON_WORDS[_type_in_json(x)] for x in choices)
    raise ValueError(
        f"`{name or 'it'}` must be {expected}. Received: {_checks.shown(value)}"
    )


def _type_in_json(hint):
    kind = typing.get_origin(hint) or hint
    has_fields = dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)
    return dict if has_fields else kind


def _is_of(value, kind):
    if isinstance(value, bool):
        return kind in (bool, object, Any)
    is_any = kind in (object, Any)
    return is_any or isinstance(value, int | float if kind is float else kind)


def _check_inner(value, hint, name):
    """Raises unless what a list or an object holds is as annotated."""
    inner = typing.get_args(hint)
    if isinstance(value, list) and inner:
        for place, one in enumerate(value):
            check_fields(one, inner[0], f"{name}[{place}]")
    elif isinstance(value, dict) and hint not in (Any, object):
        hints = dict.fromkeys(value, inner[1]) if inner else _fields_of(hint)
        required = getattr(hint, "__required_keys__", frozenset())
        if missing := sorted(required - value.keys()):
            where = f" of `{name}`" if name else ""
            raise ValueError(f"{', '.join(missing)}{where} must be there")
        for key in value.keys() & hints.keys():
            check_fields(value[key], hints[key], f"{name}.{key}".lstrip("."))


_fields_of = functools.cache(typing.get_type_hints)
