"""What the JSON files of a run hold, checked by the types of their fields."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

# The types of fields by name: as annotations of what JSON holds.
Fields = Mapping[str, Any]


@functools.cache
def fields_of(kind: type) -> Fields:
    """Returns the types of the fields of a dataclass."""
    return typing.get_type_hints(kind)


@functools.cache
def required_fields(kind: type) -> frozenset[str]:
    """Returns the fields of a dataclass that have no default."""
    missing = dataclasses.MISSING
    return frozenset(
        x.name
        for x in dataclasses.fields(kind)
        if x.default is missing and x.default_factory is missing
    )


def check_fields(
    content: Any, fields: Fields, required: typing.Iterable[str], name: str = ""
) -> None:
    """Raises a `ValueError` that names what is of another type, or missing.

    Fields that are not known are left alone.
    """
    if not isinstance(content, dict):
        raise ValueError(f"`{name or 'content'}` must be an object")
    prefix = f"{name}." if name else ""
    for key in required:
        if key not in content:
            raise ValueError(f"`{prefix}{key}` is missing")
    for key, value in content.items():
        if key in fields:
            _check(value, fields[key], f"{prefix}{key}")


def _check(value, kind, name):
    """Raises unless a value is of a type."""
    if kind in (Any, object):
        return
    if dataclasses.is_dataclass(kind):
        check_fields(value, fields_of(kind), required_fields(kind), name)
        if unknown := value.keys() - fields_of(kind).keys():
            raise ValueError(f"`{name}` has no field `{min(unknown)}`")
        return
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        others = [x for x in inner if x is not type(None)]
        if value is not None or len(others) == len(inner):
            # Where there are several, one fits.
            _check_any(value, others, name)
        return
    origin = {Sequence: list, Mapping: dict}.get(origin, origin)
    if kind is float:
        is_right = type(value) in (int, float)
    elif origin in (dict, list):
        is_right = isinstance(value, origin)
    else:
        # A boolean is no integer here.
        is_right = type(value) is kind
    if not is_right:
        shown = str(kind) if origin else kind.__name__
        raise ValueError(f"`{name}` must be {shown}. Received: {value!r:.80}")
    if origin is dict:
        for key, each in value.items():
            _check(each, inner[1], f"{name}.{key}")
    if origin is list:
        for index, each in enumerate(value):
            _check(each, inner[0], f"{name}[{index}]")


def _check_any(value, kinds, name):
    for kind in kinds[:-1]:
        try:
            return _check(value, kind, name)
        except ValueError:
            continue
    _check(value, kinds[-1], name)
