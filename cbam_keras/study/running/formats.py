"""What the JSON files of a run hold, checked by the types of their fields."""

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
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
    defaults = ("default", "default_factory")
    return frozenset(
        field.name
        for field in dataclasses.fields(kind)
        if all(getattr(field, x) is dataclasses.MISSING for x in defaults)
    )


def check_fields(
    content: Any, fields: Fields, required: Iterable[str], name: str = ""
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
    for key in content.keys() & fields.keys():
        _check(content[key], fields[key], f"{prefix}{key}")


def _check(value, kind, name):
    """Raises unless a value is of a type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    origin = {Sequence: list, Mapping: dict}.get(origin, origin)
    if kind in (Any, object):
        return
    if origin in (typing.Union, types.UnionType):
        # They are all of one type, or `None`.
        if value is not None:
            _check(value, inner[0], name)
    elif dataclasses.is_dataclass(kind):
        check_fields(value, fields_of(kind), required_fields(kind), name)
        if unknown := value.keys() - fields_of(kind).keys():
            raise ValueError(f"`{name}` has no field `{min(unknown)}`")
    elif origin is dict and isinstance(value, dict):
        for key, each in value.items():
            _check(each, inner[1], f"{name}.{key}")
    elif origin is list and isinstance(value, list):
        for index, each in enumerate(value):
            _check(each, inner[0], f"{name}[{index}]")
    # A boolean is no integer here, and an integer is a number.
    elif type(value) is not kind and (type(value), kind) != (int, float):
        text = kind if origin else kind.__name__
        raise ValueError(f"`{name}` must be {text}. Received: {value!r:.80}")
