"""Writes docs/reference/ from the docstrings: `python docs/reference.py`."""

import collections
import dataclasses
import doctest
import functools
import inspect
import pathlib
import re
import textwrap

import cbam_keras
from cbam_keras import (
    comparison,
    losses,
    plotting,
    tuning,
)
from cbam_keras.models import MobileNet, ResNet, ResNet18

FOLDER = pathlib.Path(__file__).parent / "reference"
# The modules, each with a page.
PAGES = {
    "Attention in a model": "layers insertion models convert",
    "Training": "comparison tuning training losses data study report",
    "Looking into a model": "explain plotting profiling",
    "The paper": "presets",
}
WIDTH = 80
HEADING = re.compile(r"^([A-Z][a-z ]+):\n", re.M)
ENTRY = re.compile(r"^\*{0,2}(\w+(?:, \w+)*): (.*\n?(?:(?: .*)?\n)*)", re.M)
# An argument, or several, in a docstring without indentation.
ARGUMENTS = re.compile(
    r"^    (\*{0,2}\w+(?:,\s+\*{0,2}\w+)*):\s+(.*(?:\n        .*)*)", re.M
)
# How docstrings refer to the text of arguments elsewhere.
SEE = re.compile(r"See `(?:\w+\.)*(\w+)`\.")
EVERY = re.compile(r"    The arguments of `(\w+)`(?:, and:\n|\.\n)")
# Where that is.
SOURCES = {
    "MobileNet": MobileNet,
    "ResNet": ResNet,
    "compare": comparison.compare,
    "search": tuning.search,
    "PixelCrossentropy": losses.PixelCrossentropy,
    "plot_grad_cam": plotting.plot_grad_cam,
}
# The end of a sentence; "e.g." is none.
SENTENCE = re.compile(r"(?<=\.)(?<!e\.g\.)\s+(?=[A-Z`])")
# The first clause of a summary, without the full stop.
CLAUSE = re.compile(r"(\S+ ){3,}?.*?(?=[,:] |\.(\n|\Z))")
# A default that needs no explanation, at the end of a sentence.
DEFAULT = re.compile(r"\ADefaults\s+to\s+`[^`]*`\.\Z")
MEANING = re.compile(
    r"\ADefaults\s+to\s+`None`(?:,\s+which\s+means|:|,(?=\s+(the|random)\s))"
)
# The shortest text that explains an argument, in words.
LEAST = 6
# The longest text about an object after its summary, in words, unless its
# first sentence is longer.
ENOUGH = 20
# A type that the text or the default shows.
TYPE = re.compile(
    r"\A(Boolean|String|(Positive i|I)nteger|(Positive n|N)umber|Float), "
    r"(?=(the|their|its|how|whether|what|why|images) |`\")"
)
# How many objects share an argument that a page lists once.
SHARED = 3
INTRODUCTION = """
`help(name)` has further details, errors, examples and sources. Functions that
build a network return a functional `keras.Model`; functions that draw return a
matplotlib figure. Examples need `import cbam_keras`, `import keras` and
`import numpy as np`.

A wrong value raises a `ValueError`, an argument of a wrong type a `TypeError`,
and a missing package an `ImportError` that names it.
"""
# Results that the index describes.
USUAL = ("A functional `keras.Model`.", "A `matplotlib.figure.Figure`.")
# What the constants hold whose values are shown.
CONSTANTS = {
    "VARIANTS": "Arguments of `CBAM`, by name.",
    "comparison.NETWORKS": (
        "Networks by name, for images in [0, 255]: these, and the builders of "
        '`models` in small letters. They have `stem="imagenet"` for images of '
        'more than 96 pixels, else `stem="small"` unless the table has another.'
    ),
    "training.RECIPES": "Recipes, by name.",
}
# What people look up: its page has shapes and an example, too.
SHOWN = """
    CBAM SqueezeExcite insert_attention comparison.compare tuning.search
    tuning.CBAMHyperModel study.run explain.grad_cam
    explain.attention_maps
""".split()
# Shared arguments that an object lists too, since everybody asks for them.
REPEATED = {"CBAM": ("reduction_ratio", "identity_init")}
# What calls return, and their docstrings describe: see `help(study.Row)`.
RETURNED = """
    study.Row study.Run study.Outcome study.Trial study.Estimate
    insertion.Place insertion.CheckedGate
    presets.Preset profiling.LayerProfile
""".split()
# Methods and properties that users need.
MEMBERS = """
    CBAMHyperModel.attention_for CBAMHyperModel.network CBAMHyperModel.build
    Profile.parameters
    Profile.macs Profile.attention_parameters Profile.attention_macs
    Profile.uncounted Results.read Results.plot
    Results.json Task.load Task.check Task.compile Task.evaluate
    Task.predict Task.validate Results.predictions Results.per_class
    Results.confusion Results.thresholds Results.path
""".split()
# Arguments and attributes that few users need.
HIDDEN = """
    ImageData.augment
    ImageData.batch_size ImageData.boxes ImageData.commonest
    ImageData.fingerprint ImageData.folds ImageData.ignore_index
    ImageData.leaks ImageData.notes ImageData.scale ImageData.seed
    ImageData.source Profile.input_shape Profile.model
    Ranking.best_options Ranking.choice Ranking.code Ranking.ranked
    Ranking.test_accuracy Results.comparisons Results.data Results.folds
    Results.guess Results.kind Results.labels Results.question Results.settings
    Results.sizes Results.test_images Results.threshold
    Study.comparisons Study.finish Study.kind Study.layout Study.measures
    Study.question Study.settings Task.is_loaded Task.measure Task.measure_name
    Task.score
""".split()


def pages():
    """Returns the text of every page, by the name of its file."""
    index = [f"# API reference\n\n{inspect.getdoc(cbam_keras)}\n{INTRODUCTION}"]
    texts, described = {}, {}
    for title, modules in PAGES.items():
        index.append(f"## {title}\n")
        for name in modules.split():
            page = Page(name, described)
            texts[f"{name}.md"] = page.text
            index += page.index
        index.append("")
    return texts | {"index.md": "\n".join(index)}


class Page:
    """The page of a module, and its lines of the index."""

    def __init__(self, name, described):
        self.file, self.module = f"{name}.md", getattr(cbam_keras, name)
        # The object that describes an argument, on this or an earlier page.
        self.described = described
        values = {}
        for public in self.module.__all__:
            prefix = "" if public in cbam_keras.__all__ else f"{name}."
            if f"{name}.{public}" not in RETURNED:
                values[f"{prefix}{public}"] = getattr(self.module, public)
        self.text = _about(name, self.module)
        self.shared = _shared_arguments(values)
        if self.shared:
            self.text += "\n## Shared arguments\n\n"
            self.text += _table("argument", "what it is", self.shared)
        # Lines of the index, and what has no line of its own.
        self.index, self.rest = [], []
        for path, value in values.items():
            self._add(path, value)
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
        self.name, self.here = name, (self.file, anchor, name)
        link = f"[`{name}`]({self.file}#{anchor})"
        brief, sections = _parse(value)
        if "Args" in sections and not _is_of_family(value):
            self.index.append(f"- {link}: {CLAUSE.match(brief)[0]}")
        else:
            self.rest.append(link)
        if f"\n## {heading}\n" in self.text:
            return
        self.text += f"\n## {heading}\n\n"
        if _is_of_family(value):
            self.text += _family(self.module)
        elif callable(value):
            self.text += self._describe(value, brief, sections)
        else:
            self.text += _constant(name, value)

    def _describe(self, value, brief, sections):
        parts = [brief]
        # Objects without arguments are returned by functions.
        if "Args" in sections or not inspect.isclass(value):
            signature = _signature(self.name, value)
            entries = _shown(value, sections.get("Args", ""))
            call = *entries, "call"
            owner = self.described.setdefault(call, self.here)
            if owner != self.here and "\n" in signature:
                link = self._link(*owner)
                parts.append(f"It takes the arguments of {link}.")
            else:
                parts.insert(0, f"```py\n{signature}\n```")
                parts.append(self._arguments(entries))
        shown = sections if self.name in SHOWN else {}
        for title in [x for x in shown if x.endswith(" shape")]:
            text = " ".join(shown[title].split())
            parts.append(_wrapped(f"**{title}** {text}"))
        rows = _shown(value, sections.get("Attributes", ""))
        rows += _members(value)
        if rows:
            parts.append(_table("attribute", "what it is", rows).strip())
        returned = _digest(sections.get("Returns", ""), 1)
        if returned and returned not in USUAL:
            parts.append(_wrapped(f"**Returns** {returned}"))
        if "Example" in shown:
            parts.append(f"```py\n{_example(shown['Example'])}\n```")
        return "\n\n".join(x for x in parts if x) + "\n"

    def _link(self, file, anchor, name):
        return f"[`{name}`]({'' if file == self.file else file}#{anchor})"

    def _arguments(self, entries):
        """Returns a list of arguments, shared ones and the others."""
        lines = collections.defaultdict(list)
        repeated = REPEATED.get(self.name, ())
        for name, text in entries:
            if (name, text) in self.shared and name not in repeated:
                continue
            owner = self.described.setdefault((name, text), self.here)
            least = 40 if owner[0] == self.file else 60
            if owner != self.here and len(text) > least:
                text = f"as for {self._link(*owner)}"
            lines[text].append(f"`{name}`")
        return "\n".join(
            _wrapped(f"- {', '.join(names)}: {text}")
            for text, names in lines.items()
        )


def explained(value):
    """Returns a docstring with the texts that its arguments refer to.

    What follows the reference is added, and its own default replaces that of
    the text.
    """
    text = f"{inspect.getdoc(value) or ''}\n"
    if every := EVERY.search(text):
        source = explained(SOURCES[every[1]])
        _, _, arguments = source.partition("\nArgs:\n")
        text = text.replace(every[0], arguments.partition("\n\n")[0] + "\n")

    def explain(entry):
        names, own = entry.groups()
        own, default = _without_default(own)
        see = SEE.match(own)
        source = SOURCES.get(see[1]) if see else None
        if source in (None, value):
            return entry[0]
        texts = dict(ARGUMENTS.findall(explained(source)))
        lines = []
        for name in re.split(r",\s+", names):
            copied, usual = _without_default(texts[name])
            if not usual.startswith(default.removesuffix(".")):
                usual = default
            # Otherwise it may say what the default means.
            line = f"{name}: {copied}{own[see.end() :]} {usual}"
            lines += textwrap.wrap(
                line, 76, subsequent_indent="    ", break_on_hyphens=False
            )
        return textwrap.indent("\n".join(lines), "    ")

    return ARGUMENTS.sub(explain, text)


def _without_default(text):
    """Returns a text without its default, and the sentence of the default."""
    text, word, default = " ".join(text.split()).partition("Defaults to")
    return text.strip(), word + default


def _parse(value):
    """Returns the first two paragraphs of a docstring, and its sections."""
    lead, *parts = HEADING.split(explained(value))
    brief, *more = lead.strip().split("\n\n")
    # A formula or a list is in the docstring, with the sentence before it.
    more = more[0] if more and not more[0].endswith(":") else ""
    bodies = map(textwrap.dedent, parts[1::2])
    sections = dict(zip(parts[::2], bodies, strict=True))
    # The first sentence stays, and others while the text is short enough.
    kept, *others = SENTENCE.split(" ".join(more.split()))
    for sentence in others:
        if len(f"{kept} {sentence}".split()) > ENOUGH:
            break
        kept += f" {sentence}"
    return f"{brief}\n\n{_wrapped(kept)}".strip(), sections


def _entries(section):
    """Returns names and short texts of a section that explains names."""
    return [(name, _digest(text)) for name, text in ENTRY.findall(section)]


def _shown(value, section):
    """Returns the entries of a section that are not hidden."""
    return [
        x
        for x in _entries(section)
        if f"{value.__name__}.{x[0].split(',')[0]}" not in HIDDEN
    ]


def _digest(text, least=LEAST):
    """Returns the first sentences of a text, on one line."""
    text, *items = re.split(r"\n *- ", text.rstrip())
    kept = ""
    for sentence in SENTENCE.split(" ".join(text.split("\n\n")[0].split())):
        sentence = DEFAULT.sub("", MEANING.sub("`None` means", sentence))
        if len(kept.split()) < least or sentence.startswith("`None` means"):
            kept = f"{kept} {sentence}".strip()
    if items and kept.endswith(":"):
        kept = "\n    - ".join([kept, *map(_digest, items)])
    kept = TYPE.sub("", kept)
    return kept[:1].upper() + kept[1:]


def _example(text):
    """Returns an example as code to copy, with what it prints as comments."""
    lines = []
    for step in doctest.DocTestParser().get_examples(text):
        code = re.sub(r" +# doctest:.*", "", step.source).rstrip()
        lines.append(re.sub(r"\bfolder\b", '"runs/example"', code))
        lines += [f"# {line}" for line in step.want.splitlines()]
    return "\n".join(lines)


def _wrapped(text):
    """Returns short lines, those of items of lists indented."""
    lines = []
    for line in text.split("\n"):
        indent = " " * (line.index("- ") + 4 if re.match(" *- ", line) else 0)
        whole = {"break_long_words": False, "break_on_hyphens": False}
        lines += textwrap.wrap(line, WIDTH, subsequent_indent=indent, **whole)
    return "\n".join(lines)


def _table(name, about, rows):
    lines = [f"{name} | {about}", "---|---"]
    for names, text in rows:
        # A call is code as a whole.
        names = names if "(" in names else names.replace(", ", "`, `")
        lines.append(f"`{names}` | {text}")
    return "\n".join([*lines, ""])


def _shared_arguments(values):
    """Returns the arguments that mean the same for several objects."""
    counts = collections.Counter()
    for value in values.values():
        if callable(value) and not _is_of_family(value):
            sections = _parse(value)[1]
            counts.update(_entries(sections.get("Args", "")))
            counts.update(_entries(sections.get("Call arguments", "")))
    shared = [x for x, count in counts.items() if count >= SHARED]
    return sorted(shared, key=lambda x: x[0] == "kwargs")


def _members(value):
    """Yields methods and properties of a class, with their summaries."""
    prefix = f"{value.__name__}."
    for name in [x for x in MEMBERS if x.startswith(prefix)]:
        member = getattr(value, name := name.removeprefix(prefix))
        brief = inspect.getdoc(member).split("\n\n")[0]
        if inspect.isfunction(inspect.getattr_static(value, name)):
            # Bound, it has no `self`.
            member = member.__get__(value)
        if callable(member):
            name = _signature(name, member).replace("\n    ", "")
        yield name, " ".join(brief.split())


def _about(name, module):
    """Returns what a module is for, and how to import from it."""
    # A list of its files may follow.
    text = inspect.getdoc(module).split("\n\n- ")[0]
    names = [x for x in module.__all__ if x in cbam_keras.__all__]
    if len(names) < len(module.__all__):
        names.append(name)
    code = f"from cbam_keras import {', '.join(names)}"
    if len(code) > WIDTH:
        block = textwrap.indent(_wrapped(f"{', '.join(names)},"), " " * 4)
        code = f"from cbam_keras import (\n{block}\n)"
    return f"# {name.capitalize()}\n\n{text}\n\n```py\n{code}\n```\n"


def _constant(name, value):
    """Returns what a constant is, with its values if they are short."""
    if name in CONSTANTS:
        # The builder of the same name needs no row.
        rows = [(k, v) for k, v in value.items() if _text(v).lower() != k]
        rows = [(_text(k), f"`{_text(v) or '{}'}`") for k, v in rows]
        return f"{CONSTANTS[name]}\n\n{_table('key', 'value', rows)}"
    if len(value) < 12:
        return f"It holds `{'`, `'.join(map(_text, value))}`.\n"
    # Each network comes without attention, with SE and with CBAM.
    networks = {re.sub(r"-(se|cbam)\Z", "", key): None for key in value}
    keys = "`, `".join(map(_text, networks))
    return f"It holds `{keys}`, and each also with `-se` and `-cbam`.\n"


def _text(value):
    """Returns the value of a constant as short code."""
    if isinstance(value, functools.partial):
        names = [*map(_text, value.args), _text(value.keywords)]
        if value.func.__name__.startswith("_"):
            # That which it calls is shown, with what it passes on.
            build, more = names
            return f"{build.removesuffix(')')}, {more})" if more else build
        return f"{value.func.__name__}({', '.join(filter(None, names))})"
    if callable(value):
        return value.__name__
    if dataclasses.is_dataclass(value):
        usual = vars(type(value)())
        changed = {k: v for k, v in vars(value).items() if v != usual[k]}
        return f"{type(value).__name__}({_text(changed)})"
    if isinstance(value, dict):
        return ", ".join(f"{k}={_text(v)}" for k, v in value.items())
    return repr(value).replace("'", '"')


def _is_of_family(value):
    """Whether a function builds one of the networks in a single table."""
    return getattr(value, "__module__", "") == ResNet18.__module__


def _family(module):
    """Returns a table of builders that take what `ResNet` takes."""
    usual = {"groups": 1, "base_width": 64, "width_multiplier": 1.0}
    rows = []
    for build in filter(_is_of_family, vars(module).values()):
        network = inspect.getdoc(build).split("\n\n")[0].split(": ")[1]
        own = [
            f"`{x.replace(annotation=x.empty)}`"
            for x in inspect.signature(build).parameters.values()
            if x.default != usual.get(x.name, x.default)
        ]
        rows.append((build.__name__, ", ".join([network.rstrip("."), *own])))
    link = "[`models.ResNet`](#modelsresnet)"
    text = f"They take the arguments of {link} from `include_top` on, and "
    text += "`groups`, `base_width` and `width_multiplier`."
    return f"{text}\n\n{_table('builder', 'network', rows)}"


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
