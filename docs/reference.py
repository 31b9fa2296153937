"""Writes docs/reference/ from the docstrings: `python docs/reference.py`."""

import inspect
import pathlib
import re
import textwrap

import cbam_keras

FOLDER = pathlib.Path(__file__).parent / "reference"
# The modules on each page, which has the name of the first.
PAGES = {
    "Attention in a model": ("layers", "insertion", "models", "convert"),
    "Training and comparing": (
        "data",
        "study report",
        "training comparison",
        "tuning",
        "ablation",
        "detection",
    ),
    "Looking into a model": ("explain monitor", "plotting", "profiling"),
    "Files, checks, the paper": ("exporting", "auditing", "presets"),
}
WIDTH = 80
SECTION = re.compile(r"^([A-Z][a-z ]+):\n((?:    .*\n|\n)+)", re.M)
# Sections that explain one name after the other.
EXPLAINED = ("Args", "Attributes", "Call arguments", "Raises")
LIST = re.compile(r"^( *)- .*\n(?:\1(?:- |  ).*\n)*", re.M)


def pages():
    """Returns the text of every page, by the name of its file."""
    index = [f"# API reference\n\n{inspect.getdoc(cbam_keras)}"]
    texts, links = {}, {}
    for title, group in PAGES.items():
        index.append(f"\n## {title}\n\n| name | what it is |\n|---|---|")
        for modules in map(str.split, group):
            file = f"{modules[0]}.md"
            texts[file] = ""
            for name, value in _public(modules):
                if inspect.ismodule(value):
                    texts[file] += "\n" * bool(texts[file])
                    texts[file] += _about(name, value)
                    continue
                heading = name
                # Anchors have small letters: `study.Estimate` comes first.
                if f"## {name.lower()}\n" in texts[file].lower():
                    heading = f"{name} (function)"
                anchor = re.sub(r"[.()]", "", heading).replace(" ", "-").lower()
                link = f"[`{name}`]({file}#{anchor})"
                index.append(f"| {link} | {_brief(value, most=4)} |")
                texts[file] += f"\n## {heading}\n\n"
                texts[file] += (
                    f"Another name of {links[id(value)]}.\n"
                    if id(value) in links
                    else _described(name, value)
                )
                links.setdefault(id(value), link)
    return texts | {"index.md": "\n".join(index) + "\n"}


def _public(modules):
    """Yields modules, and what they offer, with the names to call it by."""
    for name in modules:
        module = getattr(cbam_keras, name)
        yield name, module
        for public in module.__all__:
            value = getattr(module, public)
            root = public in cbam_keras.__all__
            yield public if root else f"{name}.{public}", value


def _about(name, module):
    """Returns what a module is for, and how to import from it."""
    # After that its files are listed.
    text = inspect.getdoc(module).split("\n\n- ")[0]
    names = [x for x in module.__all__ if x in cbam_keras.__all__]
    if len(names) < len(module.__all__):
        names.append(name)
    names = f"from cbam_keras import {', '.join(names)}"
    return f"# {name}\n\n{text}\n\n```py\n{names}\n```\n"


def _brief(value, most=100):
    """Returns in a line what an object is."""
    if callable(value):
        return " ".join(inspect.getdoc(value).split("\n\n")[0].split())
    kind = "Dictionary with the keys" if isinstance(value, dict) else "Tuple of"
    keys = [f"`{key!r}`".replace("'", '"') for key in value]
    more = ", ..." if len(keys) > most else ""
    return f"{kind} {', '.join(keys[:most])}{more}"


def _described(name, value):
    if not callable(value):
        return f"{_brief(value)}.\n"
    text = _markdown(inspect.getdoc(value))
    members = ""
    if inspect.isclass(value):
        members = "\n".join(_members(value, text))
    if members:
        members = f"\n**Methods and properties**\n\n{members}"
    # Objects without arguments are returned by functions.
    if inspect.isclass(value) and "**Args**" not in text:
        return text + members
    return f"```py\n{_signature(name, value)}\n```\n\n{text}{members}"


def _members(value, text):
    """Yields the methods and properties that have docstrings of their own."""
    for name in dict.fromkeys(
        x for owner in value.__mro__ for x in vars(owner)
    ):
        member = inspect.getattr_static(value, name)
        function = getattr(member, "fget", getattr(member, "__func__", member))
        if (
            name.startswith("_")
            or f"`{name}`:" in text
            or not getattr(function, "__module__", "").startswith("cbam_keras")
            or not function.__doc__
        ):
            continue
        if not isinstance(member, property):
            name = _signature(name, getattr(value, name))
        own = _markdown(inspect.cleandoc(function.__doc__))
        yield f"- `{name}`: {textwrap.indent(own, '    ').lstrip()}"


def _signature(name, value):
    """Returns a call without types, which are in the descriptions."""
    parameters = inspect.signature(value).parameters.values()
    untyped = [x.replace(annotation=x.empty) for x in parameters]
    text = str(inspect.Signature([x for x in untyped if x.name != "self"]))
    text = name + text.replace("'", '"').replace("<factory>", "{}")
    return textwrap.fill(text, WIDTH, subsequent_indent="    ")


def _markdown(docstring):
    """Returns a docstring with Markdown's headings, lists and code."""
    text = LIST.sub(r"\n\g<0>\n", docstring + "\n")
    return SECTION.sub(_section, text).strip() + "\n"


def _section(match):
    title, body = match[1], textwrap.dedent(match[2]).strip("\n")
    if title == "Example":
        body = f"```pycon\n{body}\n```"
    if title in EXPLAINED:
        # For MkDocs, an item after one of several paragraphs needs a gap.
        gap = "\n" * ("\n\n" in body)
        names = r"^\*{0,2}(\w+(?:, \w+)*):"
        body = re.sub(names, rf"{gap}- `\1`:", body, flags=re.M)
    return f"**{title}**\n\n{body.strip()}\n\n"


if __name__ == "__main__":
    written = pages()
    for path in FOLDER.glob("*.md"):
        path.unlink()
    for file, text in written.items():
        (FOLDER / file).write_text(text, encoding="utf-8")
