"""The subcommands `table`, `audit` and `export`."""

import argparse
import pathlib

from cbam_keras import _files, auditing, exporting, presets
from cbam_keras._explanations import load_model
from cbam_keras.cli.arguments import import_modules, imported


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
    model = load_model(path)
    print(exporting.export_model(model, output, format=options.format))
