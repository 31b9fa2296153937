"""Argument checks, optional imports and warnings, with common messages."""

import contextlib
import functools
import importlib
import inspect
import math
import numbers
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, ParamSpec, TypeGuard, TypeVar

import keras

from _cbam_keras_command.options import nearest
from _cbam_keras_command.options import quoted as quoted

Value = TypeVar("Value")
Arguments = ParamSpec("Arguments")
Options = Mapping[str, Any]
# Backends and loops take no larger integers.
MOST = 2**31 - 1
LONGEST = 200
# Common mistakes: the argument and its value, as patterns, and what to do.
NEXT_STEPS = (
    ("ratio|reduction|r", ".*", "Write reduction_ratio={}"),
    ("kernel", ".*", "Write kernel_size={}"),
    ("variant", ".*", "Write CBAM(**VARIANTS[{}])"),
    ("num_classes|n_classes", ".*", "Write classes={}"),
    ("channels|filters", ".*", "It reads the channels from its input"),
    ("reduction_ratio", r"\{.*", "Write CBAM(**options)"),
    ("reduction_ratio", "an array.*", "Write CBAM()(x): call the layer on it"),
    ("kernel_size", r"[(\[].*", "It is one number, the side of a square"),
    (
        "kernel_size",
        r"8|\d\d+",
        "The first argument of CBAM is the reduction ratio, the second the "
        "kernel size. It reads the channels from its input",
    ),
    (
        "model",
        r"'.*\.(h5|hdf5|keras)'",
        "Load the file first: keras.saving.load_model({})",
    ),
    ("model|networks", r"\(?(an )?array.*", "Models come before images"),
    (
        "images",
        r"\[?'.*",
        "Read the files with keras.utils.img_to_array(keras.utils.load_img("
        "path))",
    ),
    ("attention", "'.*,.*'", "Pass several names as a list"),
    (
        "class_weight",
        r"[{\[(].*",
        "For your own class weights, pass a loss: loss=keras.losses."
        "CategoricalFocalCrossentropy(alpha=[...], gamma=0)",
    ),
)


def positive_integer(
    name: str, value: object, *, or_zero: bool = False, most: int = MOST
) -> int:
    """Returns `value` as an `int`, or raises if it is not an integer >= 1."""
    if not _is_integer(value) or value < 1 - or_zero:
        kind = "an integer from 0" if or_zero else "a positive integer"
        raise _wrong(name, value, kind)
    if value > most:
        raise _wrong(name, value, f"at most {most:,}")
    return int(value)


def seed(name: str, value: object) -> int:
    """Returns `value` as an `int`, or raises if it is not a seed of NumPy."""
    if not _is_integer(value) or not 0 <= int(value) < 2**32:
        raise _wrong(name, value, "an integer from 0 to 2**32 - 1")
    return int(value)


def positive_number(
    name: str, value: object, *, or_zero: bool = False
) -> float:
    """Returns `value` as a `float`, or raises if it is not a number > 0."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        number = float(value)
        if 0 < number < math.inf or (number == 0 and or_zero):
            return number
    kind = "a number from 0" if or_zero else "a positive number"
    raise _wrong(name, value, kind)


def momentum(name: str, value: object) -> float:
    """Returns `value` as a `float`, or raises if it is not in [0, 1)."""
    number = positive_number(name, value, or_zero=True)
    if number >= 1:
        raise _wrong(name, value, "less than 1")
    return number


def odd_integer(name: str, value: object) -> int:
    """Returns `value` as an `int`, or raises unless it is odd and >= 1."""
    if not _is_integer(value) or value < 1 or value % 2 == 0:
        reason = 'so that the convolution has a center and "same" padding is '
        raise _wrong(name, value, f"an odd positive integer, {reason}symmetric")
    return positive_integer(name, value)


def image_size(name: str, value: object) -> int | tuple[int, int] | None:
    """Returns one side or `(H, W)` as plain integers, or `None` as it is."""
    if value is None or (_is_integer(value) and value >= 1):
        return value if value is None else int(value)
    if isinstance(value, tuple | list) and len(value) == 2:
        height, width = value
        if all(_is_integer(side) and side >= 1 for side in value):
            return int(height), int(width)
    raise _wrong(name, value, "a positive integer or two, (H, W)")


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns both sides of what `image_size` checked, equal if it is one."""
    return (size, size) if isinstance(size, int) else size


def boolean(name: str, value: object) -> bool:
    """Returns `value`, or raises if it is neither `True` nor `False`."""
    if not isinstance(value, bool):
        raise TypeError(
            f"`{name}` must be True or False. Received: {name}={value!r}"
        )
    return value


def one_of(name: str, value: Value, choices: Iterable[object]) -> Value:
    """Returns `value`, or raises and lists `choices` if it is not in them."""
    choices = list(choices)
    # Arrays and others, which have no hash, compare in their own way.
    with contextlib.suppress(TypeError):
        if value in {*choices}:
            return value
    listed = ", ".join(quoted(choice) for choice in choices)
    raise ValueError(
        f"`{name}` must be one of {listed}. Received: {name}={shown(value)}"
        f"{next_step(name, value) or nearest(value, choices)}"
    )


def subset(
    name: str, value: object, choices: Iterable[Value]
) -> tuple[Value, ...]:
    """Returns `value`, one or several strings, as a tuple of distinct ones."""
    choices = list(choices)
    listed = ", ".join(quoted(choice) for choice in choices)
    names = (value,) if isinstance(value, str | Mapping) else value
    names = tuple(names) if isinstance(names, Iterable) else ()
    unknown = [choice for choice in names if choice not in choices]
    if not names or unknown or len(set(names)) != len(names):
        raise ValueError(
            f"`{name}` must be one or several of {listed}, each at most "
            f"once. Received: {name}={value!r}"
        )
    return names


def fits(expected: Sequence[int | None], shape: Sequence[int]) -> bool:
    """Returns whether a shape is as expected; `None` stands for any size."""
    return len(expected) == len(shape) and all(
        side in (None, size) for side, size in zip(expected, shape, strict=True)
    )


def data_format(value: str | None) -> str:
    """Returns `value`, or Keras' global setting when it is `None`."""
    if value is None:
        return keras.config.image_data_format()
    return one_of("data_format", value, ("channels_last", "channels_first"))


def shown(value: object) -> str:
    """Returns a value for a message: in short, and an array by its shape."""
    if any(package_of(kind) == "tf_keras" for kind in type(value).__mro__):
        return (
            "an object of tf_keras, which is Keras 2. Unset "
            "TF_USE_LEGACY_KERAS, and build the model with `import keras`"
        )
    if shape := getattr(value, "shape", None):
        return f"an array of shape {tuple(shape)}"
    text = repr(value)
    if len(text) > LONGEST:
        text = f"{' '.join(text.split())[:LONGEST]}..."
    return text


def convert(instance: object, **values: object) -> None:
    """Replaces what a frozen dataclass was given; for its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def next_step(name: str, value: object) -> str:
    """Returns what to write in place of a common mistake, or nothing."""
    text = shown(value)
    for names, pattern, step in NEXT_STEPS:
        if re.fullmatch(names, name) and re.fullmatch(pattern, text, re.S):
            return f". {step.format(text)}"
    return ""


def named(function: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
    """Decorator that answers an unknown argument with the nearest one."""
    return named_with(next_step)(function)


def named_with(
    advise: Callable[[str, object], str],
) -> Callable[[Callable[Arguments, Value]], Callable[Arguments, Value]]:
    """Returns a decorator as `named`, which first asks for an advice.

    `advise` takes the name and the value of an unknown argument, and returns
    what to write instead, or nothing, for which the nearest name is suggested.
    """

    def decorate(
        function: Callable[Arguments, Value],
    ) -> Callable[Arguments, Value]:
        # A tuple, since a study looks into what functions hold.
        names = tuple(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(
            *positional: Arguments.args, **options: Arguments.kwargs
        ) -> Value:
            for name in options.keys() - {*names}:
                advice = advise(name, options[name])
                raise unknown_argument(name, names, advice)
            return function(*positional, **options)

        return call

    return decorate


def unknown_argument(
    name: str, names: Iterable[str], advice: str = ""
) -> TypeError:
    """Returns the error for an argument that none of some names is."""
    step = advice or nearest(name, names, 0)
    return TypeError(f"There is no argument `{name}`{step}")


def named_arguments(kind: type[Value]) -> type[Value]:
    """Decorator of a class, as `named` of its constructor."""
    # As an attribute, since type checkers refuse to assign a method.
    setattr(kind, "__init__", named(kind.__init__))  # noqa: B010
    return kind


class Named(dict[str, Value]):
    """Values by names; of one that is not there it says which there are."""

    def __missing__(self, name: object) -> Value:
        listed = ", ".join(self)
        raise KeyError(f"{name} is not one of {listed}")


def first_few(items: Sequence[object], most: int = 3) -> str:
    """Returns the first of `items` as text, with "..." if there are more."""
    listed = ", ".join(str(item) for item in items[:most])
    return listed + (", ..." if len(items) > most else "")


def count(number: int, noun: str, verb: str = "") -> str:
    """Returns a number with a noun, e.g. "1 image" or "2 images are"."""
    if number == 1:
        verb = {
            "are": "is",
            "have": "has",
            "use": "uses",
            "repeat": "repeats",
        }.get(verb, verb)
    words = f"{number:,}", noun if number == 1 else f"{noun}s", verb
    return " ".join(filter(None, words))


def require(module: str, *, extra: str) -> ModuleType:
    """Imports an optional package, or raises an error that says what to do."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # The package may be installed but miss a dependency of its own.
        missing = (error.name or module).split(".")[0]
        cause = "" if error.name == module.split(".")[0] else f" ({error})"
        names = {"PIL": "pillow", "sklearn": "scikit-learn"}
        package = names.get(missing, missing)
        raise ImportError(
            f"This needs the package `{module}`, which could not be "
            f"imported{cause}. Install it with: pip install {package} (or "
            f"this package with its extra `{extra}`)"
        ) from error


def package_of(value: object) -> str:
    """Returns the package that a function or the class of an object is from."""
    return (getattr(value, "__module__", None) or "").partition(".")[0]


def is_of_others(value: object) -> bool:
    """Returns whether a value is from neither Keras nor this package."""
    return package_of(value) not in ("keras", "cbam_keras")


def warn(message: str) -> None:
    """Warns at the line that called this package."""
    frame, level = sys._getframe(1), 2
    # Code that is executed may have no name.
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(
        "cbam_keras"
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _wrong(name, value, kind):
    return ValueError(
        f"`{name}` must be {kind}. Received: {name}={shown(value)}"
        f"{next_step(name, value)}"
    )


def _is_integer(value: object) -> TypeGuard[int]:
    # bool is an Integral too, but `reduction_ratio=True` is an error.
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
