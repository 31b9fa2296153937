"""What values of options stand for, and where progress is printed."""

import contextlib
import importlib
import os
import sys
from typing import Any

from _cbam_keras_command.parser import Options


def progress_of(options: Options) -> contextlib.AbstractContextManager[Any]:
    """Context of the work before the result, which prints its progress."""
    if options.json:
        return contextlib.redirect_stdout(sys.stderr)
    return contextlib.nullcontext()


def import_object(
    option: str, name: str, kind: str = "MODULE:FUNCTION, a function"
) -> Any:
    """Returns the object of a name like `"module:function"`, or a module."""
    words = name.replace(":", ".").split(".")
    is_name = all(map(str.isidentifier, words))
    # An import would run any file of another name.
    if not is_name or name.count(":") != kind.count(":"):
        raise ValueError(
            f"`{option}` must be {kind}. Received: {option}={name!r}"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module, _, attribute = name.partition(":")
    try:
        content = importlib.import_module(module)
        return getattr(content, attribute) if attribute else content
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"`{option}` must be {kind} that is installed or in this folder. "
            f"Received: {option}={name!r} ({error})"
        ) from error
