"""The command `cbam-keras export`."""

import pathlib

from cbam_keras import exporting
from cbam_keras._explanations import load_model
from cbam_keras.cli.arguments import add_import, import_modules


def add_options(parser):
    """Adds the options of the subcommand to its parser."""
    parser.describe(
        "Exports a model to another format, runs the result in the "
        "runtime of that format, where it is installed, and compares its "
        "outputs with the model's. If they differ, nothing is written.",
        "export model.keras --format onnx",
        "export model.keras --format saved_model --output serving",
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a file, .keras or .h5")
    add(
        "--format",
        required=True,
        choices=list(exporting.FORMATS),
        help="the format; litert is the former TensorFlow Lite, and torch a "
        "program of torch.export",
    )
    add(
        "--output",
        metavar="PATH",
        help="the file, or the folder of a SavedModel, which must not exist "
        "yet (default: the path of the model, with the ending of the format)",
    )
    add_import(add)
    parser.set_defaults(handler=_export, prog=parser.prog)


def _export(options):
    import_modules(options)
    path = pathlib.Path(options.model).expanduser()
    output = options.output
    if output is None:
        output = path.with_suffix(exporting.FORMATS[options.format].ending)
    model = load_model(path)
    print(exporting.export_model(model, output, format=options.format))
