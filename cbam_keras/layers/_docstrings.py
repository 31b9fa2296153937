"""Docstrings that share the text of arguments."""

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import TypeVar

Documented = TypeVar("Documented", bound=Callable)
# The arguments, and an entry of one or several, in a docstring without
# indentation.
ARGS = re.compile(r"^Args:\n((?:    .*\n)+)", re.M)
ENTRY = re.compile(
    r"^    (\*{0,2}\w+(?:,\s+\*{0,2}\w+)*):\s+(.*(?:\n        .*)*)", re.M
)


def explained_by(source: Callable) -> Callable[[Documented], Documented]:
    """Copies the text of arguments from the docstring of another function.

    Arguments, "one, other:", whose text begins "See `source`." get the texts
    there. What follows is added, and its own default replaces the other. A
    section that begins "The arguments of `source`, and:" gets all of them.
    """
    # The arguments may end it.
    name, docstring = source.__name__, f"{inspect.getdoc(source) or ''}\n"
    texts = dict(ENTRY.findall(docstring))
    see = re.compile(rf"See `(?:\w+\.)*{name}`\.")
    every = re.compile(rf"    The arguments of `{name}`(?:, and:\n|\.)\n")

    def explain(entry):
        arguments, text = entry.groups()
        own, default = _split(text)
        if not (begins := see.match(own)):
            return entry[0]
        further, lines = own[begins.end() :], []
        for argument in re.split(r",\s+", arguments):
            copied, usual = _split(texts[argument])
            if not usual.startswith(default.removesuffix(".")):
                usual = default
            # Otherwise it may say what the default means.
            text = f"{argument}: {copied}{further} {usual}"
            lines += textwrap.wrap(
                text, 76, subsequent_indent="    ", break_on_hyphens=False
            )
        return textwrap.indent("\n".join(lines), "    ")

    def decorate(function):
        if not (source.__doc__ and function.__doc__):
            # `python -OO` leaves docstrings out.
            return function
        text = inspect.cleandoc(function.__doc__)
        if every.search(text):
            text = every.sub(lambda _: ARGS.search(docstring)[1], text)
        function.__doc__ = ENTRY.sub(explain, text)
        return function

    return decorate


def _split(text):
    """Returns a text without its default, and the sentence of the default."""
    text, word, default = " ".join(text.split()).partition("Defaults to")
    return text.strip(), word + default
