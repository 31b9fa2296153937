"""The command `cbam-keras export`."""

import pathlib

from cbam_keras import exporting
from cbam_keras.cli.arguments import import_modules
from cbam_keras.explain_report import load_model


def add_export(commands):
    """Adds the subcommand to the parser."""
    parser = commands.add_parser(
        "export",
        help="export a model to another format, and compare the result",
        description=(
            "Exports a model to another format, runs the result in the "
            "runtime of that format, where it is installed, and compares its "
            "outputs with the model's. If they differ, nothing is written."
        ),
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a file: .keras or .h5")
    add(
        "--format",
        required=True,
        choices=exporting.FORMATS,
        help="the format; litert was TensorFlow Lite, torch is a program of "
        "torch.export",
    )
    add(
        "--output",
        metavar="PATH",
        help="the file, or the folder of a SavedModel, which must not exist "
        "yet (default: beside the model, with the ending of the format)",
    )
    add(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that registers custom layers of the model; repeat it "
        "for several",
    )
    parser.set_defaults(handler=_export, prog=parser.prog, resumed_by="")


def _export(options):
    import_modules(options.modules)
    path = pathlib.Path(options.model).expanduser()
    output = options.output
    if output is None:
        output = path.with_suffix(exporting.FORMATS[options.format].ending)
    print(
        exporting.export_model(load_model(path), output, format=options.format)
    )
