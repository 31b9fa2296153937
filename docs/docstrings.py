"""Griffe extension that parses our docstrings. Loaded by `mkdocs.yml`.

The docstrings have Keras' sections. Griffe knows some of them and renders the
others as admonitions. It reads source code without running it, so functions
that are created by another function are added here.
"""

import importlib
import inspect
import re
import textwrap

import griffe

# Sections that Griffe parses. It would also parse "Returns", but would take the
# words before a colon for a type.
KNOWN = ("Args", "Attributes", "Examples", "Raises")
SECTION = re.compile(
    r"^(?P<title>[A-Z][a-z ]+):\n(?P<body>(?:    .*(?:\n|\Z)|\n)+)", re.M
)
# The module whose builders, with their docstrings, a function creates.
MADE = "cbam_keras.models.resnet"


class Docstrings(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = rewrite(obj.docstring.value)

    def on_function(self, *, func, **kwargs):
        # Types are in the descriptions, as in Keras.
        for parameter in func.parameters:
            parameter.annotation = None

    def on_module_members(self, *, mod, agent, **kwargs):
        if mod.path == MADE:
            for name, value in vars(importlib.import_module(MADE)).items():
                if inspect.isfunction(value) and value.__module__ == MADE:
                    mod.set_member(name, _function(name, value, mod, agent))


def rewrite(docstring):
    """Returns a docstring whose sections Griffe and Markdown can parse."""
    text = re.sub(r"^Example:$", "Examples:", docstring, flags=re.M)
    return SECTION.sub(_rewrite_section, _set_off_lists(text))


def _rewrite_section(match):
    title, body = match["title"], match["body"]
    if title in KNOWN:
        return match[0]
    body = textwrap.dedent(body)
    if title == "Call arguments":
        body = re.sub(r"^(\w+):", r"- `\1`:", body, flags=re.M)
    return f'<span class="doc-section-title">{title}:</span>\n\n{body}'


def _set_off_lists(text):
    """Adds the blank lines around lists that Markdown requires."""
    lines: list[str] = []
    # Indentation of the current list.
    listed = None
    for line in text.split("\n"):
        indentation = len(line) - len(line.lstrip())
        is_item = line.lstrip().startswith("- ")
        ends = bool(line) and listed is not None and indentation <= listed
        if is_item and listed is None:
            lines.append("")
            listed = indentation
        elif ends and not is_item:
            lines.append("")
            listed = None
        lines.append(line)
    return "\n".join(lines)


def _function(name, value, module, agent):
    """Returns a function in the form in which Griffe reads it from source."""
    function = griffe.Function(
        name,
        parent=module,
        parameters=griffe.Parameters(
            *(
                griffe.Parameter(
                    parameter.name,
                    kind=griffe.ParameterKind(parameter.kind.description),
                    default=None
                    if parameter.default is parameter.empty
                    else repr(parameter.default).replace("'", '"'),
                )
                for parameter in inspect.signature(value).parameters.values()
            )
        ),
    )
    if value.__doc__:
        function.docstring = griffe.Docstring(
            rewrite(inspect.cleandoc(value.__doc__)),
            parent=function,
            parser=agent.docstring_parser,
            parser_options=agent.docstring_options,
        )
    return function
