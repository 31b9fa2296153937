"""The subcommands `table`, `explain`, `audit` and `export`."""

import argparse
import dataclasses
import pathlib

from cbam_keras import _explanations, _files, auditing, exporting, presets
from cbam_keras.cli.arguments import (
    data_options_of,
    import_modules,
    imported,
    progress_of,
)
from cbam_keras.cli.reports import command_of, write_report


def table(options: argparse.Namespace) -> None:
    if options.output is not None:
        # Before any work: whether it can be written to.
        folder = _files.output_folder(pathlib.Path(options.output))
    tables = presets.paper_tables(options.names or None, progress=True)
    if options.output is not None:
        for name, text in (
            ("tables.md", tables.markdown()),
            ("tables.json", tables.json()),
        ):
            with _files.replacing(folder / name) as path:
                path.write_text(text + "\n", encoding="utf-8")
    if options.json:
        print(tables.json())
    else:
        print(tables.markdown() if options.markdown else tables)


def audit(options: argparse.Namespace) -> int:
    layer = imported("layer", options.layer, "MODULE:CLASS, a class of layers,")
    result = auditing.audit(layer)
    print(result)
    return 1 if result.departures else 0


def export(options: argparse.Namespace) -> None:
    import_modules(options)
    path = pathlib.Path(options.model).expanduser()
    output = options.output
    if output is None:
        output = path.with_suffix(exporting.FORMATS[options.format].ending)
    model = _explanations.load_model(path)
    print(exporting.export_model(model, output, format=options.format))


def explain(options: argparse.Namespace) -> None:
    import_modules(options)
    given = vars(options) | {
        "count": _count(options.count),
        "head": _number_or_name(options.head),
    }
    fields = dataclasses.fields(_explanations.Settings)
    settings = _explanations.Settings(
        **{field.name: given[field.name] for field in fields}
    )
    with progress_of(options):
        explanation, folder = _explanations.explain_files(
            [pathlib.Path(path).expanduser() for path in options.paths],
            settings,
            output=options.output,
            data_options=data_options_of(options),
            class_names=_lines(options.class_names),
            preprocess=_function(options.preprocess),
            described={"preprocess": options.preprocess},
            command=command_of(options),
        )
        if not options.no_report:
            write_report(folder)
    print(explanation)
    print(f"\nFiles in {folder}")


def _lines(file):
    """Returns the lines of a file, or `None` if there is none."""
    if file is None:
        return None
    try:
        text = pathlib.Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            "`class_names` must be a text file with a name per line. "
            f'Received: class_names="{file}" ({error})'
        ) from error
    return tuple(line.strip() for line in text.rstrip().splitlines())


def _function(name):
    if name is None:
        return None
    function = imported("preprocess", name)
    if not callable(function):
        raise ValueError(
            "`preprocess` must be MODULE:FUNCTION. Received: "
            f"preprocess={name!r}, which is of type {type(function).__name__}"
        )
    return function


def _count(text):
    """Returns the number of images, or `None` for all."""
    if text == "all" or text.isdecimal():
        return None if text == "all" else int(text)
    raise ValueError(
        f"`count` must be a positive integer, or all. Received: count={text!r}"
    )


def _number_or_name(head):
    return int(head) if head and head.isdecimal() else head
