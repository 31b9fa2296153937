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
HEADING = re.compile(r"^([A-Z][a-z ]+):\n", re.M)
ENTRY = re.compile(r"^\*{0,2}(\w+(?:, \w+)*): (.*\n?(?:(?: .*)?\n)*)", re.M)
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
# The longest text about a function after its summary, in words, unless its first
# sentence is longer.
ENOUGH = 20
# A type that the text or the default shows.
TYPE = re.compile(
    r"\A(Boolean|String|Integer|(Odd )?[Pp]ositive integer|Positive number"
    r"|Number|Float), (?=(the|their|its|how|whether|what|why) )"
)
# From so many objects on, arguments that they share are listed once.
SHARED = 3
INTRODUCTION = """
The pages show how each name is called and what its arguments mean.
`help(name)` has the details, errors, examples and sources. What builds a network
returns a functional `keras.Model`, and what draws a `matplotlib.figure.Figure`.

A wrong value raises a `ValueError`, an argument of a wrong type a `TypeError`,
and a missing package an `ImportError` that names it.
"""
# Results that the index describes.
USUAL = ("A functional `keras.Model`.", "A `matplotlib.figure.Figure`.")
# What the constants hold whose values are shown.
CONSTANTS = {
    "VARIANTS": "Arguments of `CBAM`, by name.",
    "comparison.NETWORKS": (
        "Networks by name, with rescaling of images in [0, 255]: these, and "
        "builders of `cbam_keras.models` by their names in small letters. For "
        'images of more than 96 pixels they have `stem="imagenet"`, otherwise '
        '`stem="small"` unless the table shows another.'
    ),
    "training.RECIPES": "Recipes, by name.",
    "ablation.TABLES": "Networks in each table of the paper.",
}
# Attributes, methods and properties that few readers need.
INTERNAL = frozenset(
    """
    Attention.arguments Attention.code Classification.measures
    Classification.name Classification.validate FoldReport.measure
    ImageData.augment ImageData.batch_size ImageData.folds ImageData.seed
    Preset.builder Preset.layer Preset.layer_options Preset.options
    Ranking.tables Results.model Results.tables Results.values Search.load
    Search.name Search.seeds Segmentation.evaluate Segmentation.measures
    Segmentation.metrics Segmentation.name Segmentation.validate Study.load
    Study.runs about are_classifiers as_json as_record as_run attention_map
    attention_maps boxes cells choice class_counts column columns commonest
    compared compared_in comparisons complete confirmed_by counted_seeds
    counted_trials csv declare_hyperparameters describe describe_guessing
    difference_cell drawing failures find_correct fingerprint first_seed folder
    func guess has_patience images_of in_points is_loaded jit_compile keywords
    kind label labels latex layouts loss_and_metrics make_optimizer mean_cell
    measured_by merit name_of networks notes number of pairs parts_of question
    rate_and_batch_size recipe_for rows_of scale scaled seconds_per_epoch
    seeds_in_words seeds_of selected_by set_epoch settings settings_to_compare
    sizes source space standard_error suited_to summary table takes test
    tested_on title to_dataframe traceback trials_in_words unfinished unit
    unlearned unused validation variant with_batch_size with_confirmation
    with_options with_subfolders
    """.split()
)


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
        # Links to the objects of this and of earlier pages, by the arguments
        # that they describe.
        self.described = described
        values = {}
        for public in self.module.__all__:
            is_at_root = public in cbam_keras.__all__
            path = public if is_at_root else f"{name}.{public}"
            values[path] = getattr(self.module, public)
        self.text = _about(name, self.module)
        self.shared = _shared_arguments(values)
        if self.shared:
            self.text += "\n## Shared arguments\n\n"
            rows = sorted(self.shared, key=lambda x: x[0] == "kwargs")
            self.text += _table("argument", "what it is", rows)
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
            entries = _entries(sections.get("Args", ""))
            call = *(x for x in entries if x[0] != "options"), "call"
            owner = self.described.setdefault(call, self.here)
            if owner != self.here and "\n" in signature:
                link = self._link(*owner)
                parts.append(f"It takes the arguments of {link} but `options`.")
            else:
                parts.insert(0, f"```py\n{signature}\n```")
                parts.append(self._arguments(entries))
        rows = [
            (names, text)
            for names, text in _entries(sections.get("Attributes", ""))
            if INTERNAL.isdisjoint(_paths(value, names.split(", ")[0]))
        ]
        if inspect.isclass(value):
            rows += _members(value, sections)
        if rows:
            parts.append(_table("attribute", "what it is", rows).strip())
        returned = _digest(sections.get("Returns", ""), 1)
        if returned and returned not in USUAL:
            parts.append(_wrapped(f"**Returns** {returned}"))
        return "\n\n".join(x for x in parts if x) + "\n"

    def _link(self, file, anchor, name):
        return f"[`{name}`]({'' if file == self.file else file}#{anchor})"

    def _arguments(self, entries):
        """Returns a list of arguments, shared ones and the others."""
        lines = collections.defaultdict(list)
        for name, text in entries:
            if (name, text) in self.shared:
                continue
            owner = self.described.setdefault((name, text), self.here)
            least = WIDTH / 2 if owner[0] == self.file else WIDTH
            if owner != self.here and len(text) > least:
                text = f"as for {self._link(*owner)}"
            lines[text].append(f"`{name}`")
        return "\n".join(
            _wrapped(f"- {', '.join(names)}: {text}", "    ")
            for text, names in lines.items()
        )


def _parse(value):
    """Returns the first two paragraphs of a docstring, and its sections."""
    docstring = inspect.getdoc(value) or ""
    lead, *parts = HEADING.split(f"{docstring}\n")
    brief, *more = lead.strip().split("\n\n")
    # A formula or a list is in the docstring, with the sentence before it.
    more = more[0] if more and not more[0].endswith(":") else ""
    sections = {
        title: textwrap.dedent(body)
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }
    return f"{brief}\n\n{_wrapped(_sentences(more, ENOUGH))}".strip(), sections


def _entries(section):
    """Returns names and short texts of a section that explains names."""
    return [(name, _digest(text)) for name, text in ENTRY.findall(section)]


def _digest(text, least=LEAST):
    """Returns the first sentences of a text, on one line."""
    text, *items = re.split(r"\n *- ", text.rstrip())
    kept = ""
    for sentence in SENTENCE.split(" ".join(text.split("\n\n")[0].split())):
        sentence = MEANING.sub("`None` means", sentence)
        if DEFAULT.match(sentence):
            continue
        if len(kept.split()) < least or sentence.startswith("`None` means"):
            kept = f"{kept} {sentence}".strip()
    if items and kept.endswith(":"):
        items = [_digest(x.split("\n\n")[0])[:-1] for x in items]
        kept = f"{kept} {'; '.join(items)}."
    kept = TYPE.sub("", kept)
    return kept[:1].upper() + kept[1:]


def _sentences(text, most):
    """Returns as many sentences as have so many words, at least one."""
    kept = ""
    for sentence in SENTENCE.split(" ".join(text.split())):
        longer = f"{kept} {sentence}".strip()
        if kept and len(longer.split()) > most:
            break
        kept = longer
    return kept


def _wrapped(text, indent=""):
    return textwrap.fill(
        text,
        WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(name, about, rows):
    rows = [
        f"`{name}` | {text}"
        if "(" in name
        else f"`{name.replace(', ', '`, `')}` | {text}"
        for name, text in rows
    ]
    return "\n".join([f"{name} | {about}", "---|---", *rows, ""])


def _shared_arguments(values):
    """Returns the arguments that mean the same for several objects."""
    counts = collections.Counter()
    for value in {x for x in values.values() if callable(x)}:
        if not _is_of_family(value):
            sections = _parse(value)[1]
            for title in ("Args", "Call arguments"):
                counts.update(_entries(sections.get(title, "")))
    return [x for x, count in counts.items() if count >= SHARED]


def _members(value, sections):
    """Yields methods and properties that have docstrings of their own."""
    known = {*INTERNAL}
    for base in value.__mro__:
        names, documented = _parse(base)[1].get("Attributes", ""), vars(base)
        known |= {*re.findall(r"\w+", " ".join(dict(_entries(names))))}
        if base is not value and names:
            known |= {*documented}
    for name, member in inspect.getmembers_static(value):
        function = getattr(member, "fget", getattr(member, "__func__", member))
        module = getattr(function, "__module__", None) or ""
        if (
            name.startswith("_")
            or not known.isdisjoint(_paths(value, name))
            or not module.startswith("cbam_keras")
            or not function.__doc__
        ):
            continue
        if not isinstance(member, property):
            name = _signature(name, getattr(value, name)).replace("\n    ", "")
        yield name, " ".join(function.__doc__.split("\n\n")[0].split())


def _paths(value, name):
    """Returns the name of a member, alone and after its class."""
    return name, f"{value.__name__}.{name}"


def _about(name, module):
    """Returns what a module is for, and how to import from it."""
    # After that its files are listed.
    text = inspect.getdoc(module).split("\n\n- ")[0]
    names = [x for x in module.__all__ if x in cbam_keras.__all__]
    if len(names) < len(module.__all__):
        names.append(name)
    code = f"from cbam_keras import {', '.join(names)}"
    if len(names) == 1:
        return f"# {name}\n\n{text}\n\n`{code}`\n"
    if len(code) > WIDTH:
        names = textwrap.fill(", ".join(names) + ",", WIDTH - 4)
        code = f"from cbam_keras import (\n{textwrap.indent(names, ' ' * 4)}\n)"
    return f"# {name}\n\n{text}\n\n```py\n{code}\n```\n"


def _constant(name, value):
    """Returns what a constant is, with its values if they are short."""
    if name in CONSTANTS:
        rows = [
            (_quoted(k)[1:-1], _code(v) or "the defaults")
            for k, v in value.items()
            # The builder of the same name needs no row.
            if _text(v).lower() != k
        ]
        return f"{CONSTANTS[name]}\n\n{_table('key', 'value', rows)}"
    if isinstance(value, tuple) or len(value) < 12:
        return f"Its keys are {', '.join(map(_quoted, value))}.\n"
    networks = collections.defaultdict(list)
    for key in value:
        networks[re.sub(r"-(se|cbam)\Z", "", key)].append(_quoted(key))
    rows = [(name, ", ".join(keys)) for name, keys in networks.items()]
    return _table("network", "keys", rows)


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
    rows = []
    for build in filter(_is_of_family, vars(module).values()):
        network = inspect.getdoc(build).split("\n\n")[0].split(": ")[1]
        own = [
            f"`{x.replace(annotation=x.empty)}`"
            for x in inspect.signature(build).parameters.values()
            if x.name not in (*shared, "name")
            or x.name in ("groups", "base_width")
        ]
        about = ", with ".join([network.rstrip("."), *own[:1]])
        rows.append((build.__name__, ", ".join([about, *own[1:]])))
    return (
        "They take the arguments of [`models.ResNet`](#modelsresnet) from\n"
        "`include_top` on, the first seven also by position.\n\n"
        + _table("builder", "network", rows)
    )


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
