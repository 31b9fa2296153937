"""Writes docs/reference/ from the docstrings: `python docs/reference.py`."""

import collections
import dataclasses
import functools
import inspect
import pathlib
import re
import textwrap

import cbam_keras
from cbam_keras.models import ResNet18

FOLDER = pathlib.Path(__file__).parent / "reference"
# The module of each page, in the order in which one needs them.
PAGES = {
    "Attention in a model": "layers insertion models convert",
    "Training and comparing": (
        "comparison tuning training losses data study ablation report"
    ),
    "Looking into a model": "explain plotting profiling",
    "The paper": "presets",
}
WIDTH = 80
SECTION = re.compile(r"^([A-Z][a-z ]+):\n((?:    .*\n|\n)+)", re.M)
# Sections that explain one name after the other.
EXPLAINED = ("Args", "Attributes", "Call arguments", "Raises")
ENTRY = re.compile(
    r"^\*{0,2}(\w+(?:, \w+)*): ((?:.*\n?)(?:    .*\n?|\n)*)", re.M
)
LIST = re.compile(r"^( *)- .*\n(?:\1(?:- |  ).*\n)*", re.M)
# A default that needs no explanation, at the end of a text.
DEFAULT = re.compile(r"\s*\bDefaults\s+to\s+`[^`]*`\.\Z")
MEANING = re.compile(r"\bDefaults\s+to\s+(`None`),\s+which\s+(means)\b")
# More names than this that share a text are not listed, and a shorter line is
# said again.
MANY, SHORT = 4, 70
# Texts of this length are said on one page alone.
LONG = 110
# Errors that the index describes, once for all.
USUAL = re.compile(
    r"ImportError: .*|TypeError: .{1,62}"
    r"|ValueError: If (an argument|a value) is out of range([,;] see .*)?\.",
    re.S,
)
RANGE = re.compile(r"If an argument is out of range[,;]( or)? if")
# A section that another entry of the page has.
SEE = re.compile(r"\ASee (`(\w+)`)\.\Z")
ERRORS = """
A wrong value raises a `ValueError`, an argument of a wrong type a `TypeError`,
and a missing package an `ImportError` that names it. The pages list what else
is an error, and defaults only where the call above them does not show them.
"""
# What the constants hold whose values are shown.
CONSTANTS = {
    "VARIANTS": "Arguments of `CBAM`, by name.",
    "comparison.NETWORKS": (
        "Networks by name, built with rescaling of images from [0, 255], with "
        '`stem="small"` unless another is shown, and for images of more than '
        '96 pixels with `stem="imagenet"`.'
    ),
    "training.RECIPES": "Recipes, by name.",
    "data.EMBEDDED": (
        "Embedded datasets: the number of fragments, and how many canvases "
        "are made of a digit; `None` for the digits themselves."
    ),
    "ablation.ABLATIONS": "Attention layers of the ablations, by name.",
    "ablation.TABLES": "Networks in each table of the paper.",
}
# Methods and properties for the package itself, or described at the class.
INTERNAL = """
    are_classifiers as_json as_record cells choice class_counts columns
    compared_in complete confirmed_by counted_seeds counted_trials csv
    describe describe_guessing first_seed folder func images_of is_loaded
    keywords labels latex layouts make_optimizer measured_by name_of networks of
    parts_of rate_and_batch_size recipe_for rows_of seeds_in_words
    seeds_of set_epoch settings settings_to_compare summary tested_on title
    to_dataframe trials_in_words unfinished unit unlearned unused
    with_batch_size with_confirmation with_subfolders
""".split()


def pages():
    """Returns the text of every page, by the name of its file."""
    index = [f"# API reference\n\n{inspect.getdoc(cbam_keras)}\n{ERRORS}"]
    texts, everywhere = {}, {}
    for title, modules in PAGES.items():
        index.append(f"## {title}\n")
        for name in modules.split():
            page = Page(name, everywhere)
            texts[f"{name}.md"] = page.text
            index += page.index
        index.append("")
    return texts | {"index.md": "\n".join(index)}


class Page:
    """The page of a module, and its lines of the index.

    What an entry shares with one before it is said there, and linked to.
    """

    def __init__(self, name, everywhere):
        self.file, self.module = f"{name}.md", getattr(cbam_keras, name)
        self.said, self.everywhere = {}, everywhere
        self.text = _about(name, self.module)
        # Methods are described at the first class that has them.
        self.members = set()
        # Lines of the index, and what has no line of its own.
        self.index, self.rest = [], []
        for public in self.module.__all__:
            value = getattr(self.module, public)
            root = public in cbam_keras.__all__
            self._add(public if root else f"{name}.{public}", value)
        if self.rest:
            self.index.append(f"- {', '.join(self.rest)}")

    def _add(self, name, value):
        heading = name
        if _is_of_family(value):
            heading = "Residual networks of the paper"
        # Anchors have small letters: `tuning.search` comes first.
        elif f"\n## {name.lower()}\n" in self.text.lower():
            heading = f"{name} (class)"
        anchor = re.sub(r"[.()]", "", heading).replace(" ", "-").lower()
        self.link = f"[`{name}`](#{anchor})"
        link = f"[`{name}`]({self.file}#{anchor})"
        is_called = "\nArgs:" in (inspect.getdoc(value) or "")
        if is_called and not _is_of_family(value):
            brief = inspect.getdoc(value).split("\n\n")[0]
            self.index.append(f"- {link}: {' '.join(brief.split())}")
        else:
            self.rest.append(link)
        if f"\n## {heading}\n" in self.text:
            return
        self.text += f"\n## {heading}\n\n"
        if _is_of_family(value):
            self.text += _family(self.module)
        elif callable(value):
            self.text += self._described(name, value)
        else:
            self.text += _constant(name, value)

    def _described(self, name, value):
        text = self._markdown(inspect.getdoc(value))
        members = ""
        if inspect.isclass(value):
            members = "\n".join(self._members(value, text))
        if members:
            members = f"\n**Methods and properties**\n\n{members}"
        # Objects without arguments are returned by functions.
        if inspect.isclass(value) and "**Args**" not in text:
            return text + members
        return f"```py\n{_signature(name, value)}\n```\n\n{text}{members}"

    def _members(self, value, text):
        """Yields methods and properties that have docstrings of their own."""
        for name in dict.fromkeys(
            x for owner in value.__mro__ for x in vars(owner)
        ):
            member = inspect.getattr_static(value, name)
            function = getattr(
                member, "fget", getattr(member, "__func__", member)
            )
            if (
                name.startswith("_")
                or name in INTERNAL
                or re.search(rf"- `(\w+, )*{name}(, \w+)*`:", text)
                or not getattr(function, "__module__", "").startswith(
                    "cbam_keras"
                )
                or not function.__doc__
                or function in self.members
            ):
                continue
            self.members.add(function)
            if not isinstance(member, property):
                name = _signature(name, getattr(value, name))
            own = self._shared(name, inspect.cleandoc(function.__doc__))
            own = self._markdown(own)
            yield f"- `{name}`: {textwrap.indent(own, '    ').lstrip()}"

    def _shared(self, name, text, least=60):
        """Returns a text, or where an entry before this one has it."""
        key = name, " ".join(text.split())
        first = self.said.setdefault(key, self.link)
        file, link = self.everywhere.setdefault(key, (self.file, self.link))
        if first != self.link and len(text) >= least:
            return f"As for {first}."
        if file != self.file and len(text) >= LONG:
            return f"As for {link.replace('(', f'({file}')}."
        return text

    def _markdown(self, docstring):
        """Returns a docstring with Markdown's headings, lists and code."""
        text = LIST.sub(r"\n\g<0>\n", docstring + "\n")
        return SECTION.sub(self._section, text).strip() + "\n"

    def _section(self, match):
        title, body = match[1], textwrap.dedent(match[2]).strip("\n")
        if title == "Example":
            body = f"```pycon\n{re.sub('  # doctest: .*', '', body)}\n```"
        elif title in EXPLAINED and ENTRY.match(body):
            body = self._entries(title, body)
        else:
            body = self._shared(title, body)
        body = SEE.sub(lambda x: f"As for [{x[1]}](#{x[2].lower()}).", body)
        if not body:
            return ""
        return f"**{title}**\n\n{body.strip()}\n\n"

    def _entries(self, title, body):
        """Returns a list of names and texts, shared ones at its end."""
        own, shared = [], collections.defaultdict(list)
        for names, text in ENTRY.findall(body):
            text = RANGE.sub("If", text.rstrip())
            if title == "Attributes" and names in INTERNAL:
                continue
            if title == "Raises" and USUAL.fullmatch(f"{names}: {text}"):
                continue
            # The call above shows the defaults of arguments.
            without = MEANING.sub(r"\1 \2", DEFAULT.sub("", text))
            line = f"- `{names}`: {without if title == 'Args' else text}"
            least = 60 if title == "Attributes" else 0
            said = self._shared(f"{title} {names}", without, least)
            if said == without:
                own.append(line)
            else:
                shared[said].append((names, line))
        for said, entries in sorted(shared.items(), key=lambda x: len(x[1])):
            names, lines = zip(*entries, strict=True)
            listed = f"`{'`, `'.join(names)}`"
            if len(names) > MANY and len(names) == max(
                map(len, shared.values())
            ):
                listed = "The others"
            if len(names) == 1 and len(lines[0]) < SHORT:
                own.append(lines[0])
            else:
                own.append(f"- {listed}: {said[0].lower()}{said[1:]}")
        # MkDocs needs a gap between items of several paragraphs.
        return ("\n\n" if "\n\n" in body else "\n").join(own)


def _about(name, module):
    """Returns what a module is for, and how to import from it."""
    # After that its files are listed.
    text = inspect.getdoc(module).split("\n\n- ")[0]
    names = [x for x in module.__all__ if x in cbam_keras.__all__]
    if len(names) < len(module.__all__):
        names.append(name)
    code = f"from cbam_keras import {', '.join(names)}"
    if len(code) > WIDTH:
        names = textwrap.fill(", ".join(names) + ",", WIDTH - 4)
        code = f"from cbam_keras import (\n{textwrap.indent(names, ' ' * 4)}\n)"
    return f"# {name}\n\n{text}\n\n```py\n{code}\n```\n"


def _constant(name, value):
    """Returns what a constant is, with its values if they are short."""
    if name not in CONSTANTS:
        is_tuple = isinstance(value, tuple)
        kind = "Tuple of" if is_tuple else "Dictionary with the keys"
        return f"{kind} {', '.join(map(_quoted, value))}.\n"
    rows = [
        f"| {_quoted(k)} | {_code(v) or 'the defaults'} |"
        for k, v in value.items()
    ]
    return "\n".join(
        [CONSTANTS[name], "", "| key | value |", "|---|---|", *rows, ""]
    )


def _quoted(value):
    return f"`{value!r}`".replace("'", '"')


def _code(value):
    """Returns the value of a constant as short code, in backticks."""
    text = _text(value)
    return f"`{text}`".replace("'", '"') if text else ""


def _text(value):
    if isinstance(value, functools.partial):
        names = [*map(_text, value.args), _text(value.keywords)]
        if value.func.__name__.startswith("_"):
            # That which it calls is shown, with what it passes on.
            build, more = names
            return f"{build.removesuffix(')')}, {more})" if more else build
        return f"{value.func.__name__}({', '.join(filter(None, names))})"
    if callable(value):
        return value.__name__
    if dataclasses.is_dataclass(value) and hasattr(value, "layer_options"):
        return f"{value.layer}({_text(value.layer_options)})".replace(
            "None()", "None"
        )
    if dataclasses.is_dataclass(value):
        changed = {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
        return f"{type(value).__name__}({_text(changed)})"
    if isinstance(value, dict):
        return ", ".join(f"{k}={v!r}" for k, v in value.items())
    return repr(value)


def _is_of_family(value):
    """Whether a function builds one of the networks in a single table."""
    return getattr(value, "__module__", "") == ResNet18.__module__


def _family(module):
    """Returns a table of builders that take what `ResNet` takes."""
    shared = inspect.signature(module.ResNet).parameters
    text = (
        "They take the arguments of [`models.ResNet`](#modelsresnet) from\n"
        "`include_top` on, the first seven also by position, and those in the\n"
        "table.\n\n| builder | network | further arguments |\n|---|---|---|\n"
    )
    explained, sources = "\n", {}
    for name in module.__all__:
        build = getattr(module, name)
        if not _is_of_family(build):
            continue
        brief, rest = inspect.getdoc(build).split("\n\n", 1)
        own = [
            str(x.replace(annotation=x.empty))
            for x in inspect.signature(build).parameters.values()
            if x.name != "name"
            and shared.get(x.name, x).default != x.default
            or x.name not in shared
        ]
        own = f"`{', '.join(own)}`" if own else ""
        sources[" ".join(rest.split("Reference:\n")[1].split())] = None
        text += f"| `{name}` | {brief.split(': ')[1]} | {own} |\n"
        for argument, about in re.findall(
            r"^    (\w+): (.*(?:\n        .*)*)", rest, re.M
        ):
            if own and argument in own and argument not in shared:
                explained += f"- `{argument}`: {' '.join(about.split())}\n"
    sources = "\n".join(sources)
    return f"{text}{explained}\n**Reference**\n\n{sources}\n"


def _signature(name, value):
    """Returns a call without types, which are in the descriptions."""
    parameters = inspect.signature(value).parameters.values()
    untyped = [x.replace(annotation=x.empty) for x in parameters]
    text = str(inspect.Signature([x for x in untyped if x.name != "self"]))
    text = name + text.replace("'", '"').replace("<factory>", "{}")
    # The defaults of a recipe are those of its class.
    text = re.sub(r"=Recipe\([^)]*\(\)[^)]*\)", "=Recipe()", text)
    return textwrap.fill(text, WIDTH, subsequent_indent="    ")


if __name__ == "__main__":
    written = pages()
    for path in FOLDER.glob("*.md"):
        path.unlink()
    for file, text in written.items():
        (FOLDER / file).write_text(text, encoding="utf-8")
