"""The command `cbam-keras table`."""

import pathlib

from cbam_keras import _files, presets


def add_options(parser):
    """Adds the options of the subcommand to its parser."""
    parser.describe(
        "Builds the networks of Tables 1 to 5 of the paper and prints "
        "their parameters and multiply-accumulates beside the printed "
        "ones, with the errors that the paper reports. About half a "
        "minute for all.",
        "table",
        "table resnet50 resnet50-cbam --markdown",
    )
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help="rows, as resnet50-cbam (default: all)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument(
        "--json", action="store_true", help="print JSON, with exact counts"
    )
    add(
        "--output",
        metavar="DIR",
        help="a folder that also gets tables.md and tables.json",
    )
    parser.set_defaults(handler=_table, prog=parser.prog)


def _table(options):
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
