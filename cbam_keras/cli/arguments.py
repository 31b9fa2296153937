"""What values of options stand for, and where progress is printed."""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras


def selected(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Returns the values of these names that there are, and are not `None`."""
    named = {name: values.get(name) for name in names}
    return {name: v for name, v in named.items() if v is not None}


def data_options_of(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `data.load` that are not in the recipe."""
    download = {"download": True} if options.download else {}
    return selected(vars(options), ("data_dir", "manual_dir")) | download


@contextlib.contextmanager
def progress_of(options: argparse.Namespace) -> Iterator[None]:
    """Context of the work before the result, which prints its progress."""
    with contextlib.ExitStack() as stack:
        if options.quiet:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            if keras.config.is_interactive_logging_enabled():
                keras.config.disable_interactive_logging()
                stack.callback(keras.config.enable_interactive_logging)
        elif vars(options).get("json"):
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def refuse(
    options: argparse.Namespace, names: Iterable[str], reason: str
) -> None:
    """Raises if one of these options is given, which nothing would take."""
    given = [word.partition("=")[0] for word in options.arguments]
    for name in names:
        option = name.replace("_", "-")
        if f"--{option}" in given or f"--no-{option}" in given:
            raise ValueError(
                f"`{name}` must be left out {reason}. Received: {name}="
                f"{vars(options)[name]!r}"
            )


def import_modules(options: argparse.Namespace) -> None:
    """Imports the modules of `--import`."""
    for name in options.modules:
        imported("import", name, "a module")


def imported(
    option: str, name: str, kind: str = "MODULE:FUNCTION, a function"
) -> Any:
    """Returns the object of a name like `"module:function"`, or a module."""
    module, _, attribute = name.partition(":")
    if ":" in kind and not (module and attribute):
        # An import would run any file of that name.
        raise ValueError(
            f"`{option}` must be {kind}. Received: {option}={name!r}"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        words = name.replace(":", ".").split(".")
        is_name = all(map(str.isidentifier, words))
        if not is_name or name.count(":") != kind.count(":"):
            raise ValueError("which has another form")
        content = importlib.import_module(module)
        return getattr(content, attribute) if ":" in kind else content
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"`{option}` must be {kind} that is installed or in this folder. "
            f"Received: {option}={name!r} ({error})"
        ) from error
