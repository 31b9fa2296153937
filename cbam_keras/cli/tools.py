"""The subcommands `explain`, `audit` and `export`."""

import dataclasses
import pathlib

import keras

from cbam_keras import (
    _explanations,
    _inspection,
    auditing,
    exporting,
)
from cbam_keras._terminal import say
from cbam_keras.cli.arguments import imported, progress_of
from cbam_keras.cli.options import Options
from cbam_keras.cli.reports import write_report


def audit(options: Options) -> int:
    _import_modules(options)
    name, departures = options.layer, False
    if name.endswith(".keras"):
        layers = _gates_of(pathlib.Path(name).expanduser())
    else:
        kind = "a file that ends in .keras, or MODULE:CLASS, a class of layers"
        if ":" in name:
            source = f"{name.partition(':')[0]}, from this folder or installed"
            say(f"Importing {source}")
        layers = [imported("layer", name, kind)]
    for layer in layers:
        result = auditing.audit(layer)
        say(result)
        departures |= bool(result.departures)
    return int(departures)


def _import_modules(options):
    """Imports the modules of `--import`."""
    for name in options.modules:
        imported("import", name, "a module")


def _gates_of(path: pathlib.Path) -> list[keras.Layer]:
    """Returns the attention layers of a model, one of each configuration.

    They are those that are not Keras' own and keep the shape of features.
    """
    model = _explanations.load_model(path)
    gates: dict[str, keras.Layer] = {}
    for step in _inspection.Graph(model, model.inputs).steps:
        kind = type(step.operation)
        shapes = [tuple(x.shape) for x in step.inputs + step.outputs]
        if (
            isinstance(step.operation, keras.Layer)
            and not kind.__module__.startswith("keras.")
            and len(shapes[0]) == 4
            and shapes == shapes[:1] * 2
        ):
            config = {**step.operation.get_config(), "name": None}
            gates.setdefault(f"{kind} {config}", step.operation)
    if not gates:
        raise ValueError(
            "A model must have attention layers to be audited, which keep the "
            f'shape of features (B, H, W, C). Received: "{path}" without any'
        )
    return list(gates.values())


def export(options: Options) -> None:
    _import_modules(options)
    path = pathlib.Path(options.model).expanduser()
    ending = exporting.FORMATS[options.format].ending
    output = pathlib.Path(options.output or path.with_suffix(ending))
    # The output is checked before any work.
    exporting.check_output(output, options.format)
    model = _explanations.load_model(path)
    say(exporting.export_model(model, output, format=options.format))


def explain(options: Options) -> None:
    _import_modules(options)
    head, preprocess = options.head, options.preprocess
    values = vars(options) | {
        "head": int(head) if head and head.isdecimal() else head,
    }
    fields = dataclasses.fields(_explanations.Settings)
    settings = _explanations.Settings(
        **{field.name: values[field.name] for field in fields}
    )
    with progress_of(options):
        explanation, folder = _explanations.explain_files(
            [pathlib.Path(path).expanduser() for path in options.paths],
            settings,
            output=options.output,
            data_options=options.data_options,
            class_names=_lines(options.class_names),
            preprocess=preprocess and imported("preprocess", preprocess),
            described={"preprocess": preprocess},
            command=options.line,
        )
        if not options.no_report:
            write_report(folder)
    say(explanation)
    say(f"\nFiles in {folder}")


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
