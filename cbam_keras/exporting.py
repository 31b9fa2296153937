"""Models in other formats, compared with the model in their own runtime."""

import dataclasses
import importlib
import os
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import numpy as np

from cbam_keras import _checks, _files, _inspection

__all__ = [
    "export_model",
    "Exported",
]

# Of the largest output. Half precision rounds to three digits.
TOLERANCE, HALF_TOLERANCE = 1e-3, 2e-2
# Batch sizes, and lengths of the other axes of unknown length.
SAMPLES = ((2, 64), (3, 96))


@dataclasses.dataclass(frozen=True)
class Exported:
    """A model in another format.

    Attributes:
        path: Path of the file, or of the folder of a SavedModel.
        format: String, see `export_model`.
        runtime: String, what ran it, with its version; `None` if that is not
            installed.
        difference: Number, the largest difference of any output from the
            model, or `None`.
        scale: Number, the largest output of the model.
    """

    path: pathlib.Path
    format: str
    runtime: str | None
    difference: float | None
    scale: float

    def __str__(self) -> str:
        if self.runtime is None:
            package = FORMATS[self.format].runtime.split(".")[0]
            return (
                f"{self.path}: not compared with the model, for which you "
                f"would need: pip install {package}"
            )
        return (
            f"{self.path}: in {self.runtime}, outputs differ from those of "
            f"the model by at most {self.difference:.1e} of {self.scale:.2g}"
        )


def export_model(
    model: keras.Model,
    output: str | os.PathLike,
    *,
    format: str,
) -> Exported:
    """Exports a model, runs the result, and compares it with the model.

    The runtime of the format, if it is installed, runs the result on random
    values in two batch sizes, and two image sizes where the model leaves them
    open. If outputs differ, an error is raised and nothing is written.

    Args:
        model: Functional or Sequential `keras.Model`.
        output: Path that does not exist yet. Its ending must be that of the
            format.
        format: String: `"saved_model"` (a folder, for TensorFlow Serving),
            `"onnx"` (`.onnx`), `"openvino"` (`.xml`, beside which a `.bin`
            is written), `"litert"` (`.tflite`, formerly TensorFlow Lite) or
            `"torch"` (`.pt2`, a program of `torch.export`, from Keras 3.15).

    Returns:
        An `Exported`.

    Raises:
        ValueError: If the format is unknown or not available under this
            backend; if `output` exists or has another ending.
        TypeError: If `model` is not a `keras.Model`.
        ImportError: If a package that writes the format is missing.
        RuntimeError: If the result differs from the model by more than
            rounding, or has outputs of other shapes.
    """
    chosen = FORMATS[_checks.one_of("format", format, FORMATS)]
    model = _inspection.with_graph("model", model)
    _check_backend(format, chosen, model)
    samples = _samples(model)
    path = pathlib.Path(output)
    check_output(path, format)
    _files.output_folder(path.parent)
    expected = _arrays(
        model(_inspection.as_input(model, tensors), training=False)
        for tensors in keras.tree.map_structure(
            keras.ops.convert_to_tensor, [[*x.values()] for x in samples]
        )
    )
    scale = max(float(np.abs(x).max()) for x in expected)
    parts = _inspection.layers_within(model)
    half = any("16" in layer.compute_dtype for layer in parts)
    tolerance = max(scale, 1e-3) * (HALF_TOLERANCE if half else TOLERANCE)
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=_files.UNFINISHED
    ) as temporary:
        folder = pathlib.Path(temporary)
        unfinished = folder / path.name
        options = _torch_options(model, samples[0]) if format == "torch" else {}
        keras_format = "tf_saved_model" if format == "saved_model" else format
        with warnings.catch_warnings():
            # Of the converters; what they write is compared below.
            warnings.simplefilter("ignore")
            name = str(unfinished)
            model.export(name, format=keras_format, verbose=False, **options)
        runtime = _runtime_of(chosen)
        difference = None
        if runtime is not None:
            try:
                run = chosen.load(unfinished)
                outputs = _arrays(run(sample) for sample in samples)
            except Exception as error:
                raise RuntimeError(
                    f"{runtime} must run the exported model. Received: "
                    f"{str(error).splitlines()[0]}. Nothing is written"
                ) from error
            difference = _compare(outputs, expected, tolerance, runtime)
        # What belongs to the main file first.
        files = sorted(folder.iterdir(), key=unfinished.__eq__)
        for file in files:
            _check_new(path.with_name(file.name))
        for file in files:
            os.rename(file, path.with_name(file.name))
    return Exported(path, format, runtime, difference, scale)


def check_output(path: pathlib.Path, format: str) -> None:
    """Raises if the result cannot have this path, or it exists."""
    if path.suffix != FORMATS[format].ending:
        ending = FORMATS[format].ending
        ending = ending or "the name of a folder, without an ending"
        raise ValueError(
            f'`output` must end in {ending} for format="{format}". '
            f'Received: output="{path}"'
        )
    _check_new(path)


def _check_new(path):
    # Also a dangling link.
    if os.path.lexists(path):
        raise ValueError(
            "`output` must not exist yet, so that nothing is overwritten. "
            f'Received: output="{path}"'
        )


def _check_backend(format, chosen, model):
    backend = keras.backend.backend()
    if backend not in chosen.packages:
        known = " or ".join(chosen.packages)
        raise ValueError(
            f'format="{format}" is written under the backend {known}. '
            f"Received: the backend {backend}. Save the model as .keras, and "
            f"load it with KERAS_BACKEND={next(iter(chosen.packages))}"
        )
    sizes = [tuple(x.shape[1:]) for x in model.inputs]
    if (
        any(None in x for x in sizes)
        and backend != "tensorflow"
        and format != "torch"
    ):
        raise ValueError(
            f'Under the backend {backend}, format="{format}" needs a model '
            f"whose input sizes are known. Received: {sizes}"
        )
    for package in chosen.packages[backend]:
        _checks.require(package, extra="export")


def _samples(model):
    """Returns values of all inputs by name, twice, to compare results on."""
    rng = np.random.default_rng(0)

    def values(tensor, batch, length):
        shape = [size or length for size in tensor.shape]
        shape[0] = tensor.shape[0] or batch
        if keras.backend.is_int_dtype(tensor.dtype):
            # They may be indices, of which most have two.
            return rng.integers(0, 2, shape).astype(tensor.dtype)
        return rng.random(shape).astype(tensor.dtype)

    names = _inspection.input_names(model)
    return [
        {
            name: values(tensor, *sizes)
            for name, tensor in zip(names, model.inputs, strict=True)
        }
        for sizes in SAMPLES
    ]


def _arrays(outputs):
    """Returns the arrays of the outputs of several calls."""
    tensors = keras.tree.flatten(list(outputs))
    return [keras.ops.convert_to_numpy(x).astype("float32") for x in tensors]


def _runtime_of(chosen):
    """Returns a format's runtime with its version, or `None` without it."""
    try:
        importlib.import_module(chosen.runtime)
    except ImportError:
        return None
    package = importlib.import_module(chosen.runtime.split(".")[0])
    return f"{chosen.title} {package.__version__.split('-')[0]}"


def _compare(outputs, expected, tolerance, runtime):
    """Returns the largest difference of all outputs, or raises."""
    shapes = [x.shape for x in outputs]
    wanted = [x.shape for x in expected]
    if shapes != wanted:
        raise RuntimeError(
            f"In {runtime} the exported model must return arrays of the "
            f"model's shapes, {wanted}. Received: {shapes}. Nothing is written"
        )
    pairs = zip(outputs, expected, strict=True)
    difference = float(np.max([np.abs(x - y).max() for x, y in pairs]))
    # Also where it is NaN.
    if not difference <= tolerance:
        raise RuntimeError(
            f"In {runtime} the exported model's outputs differ from the "
            f"model's by up to {difference:.2g}, where rounding explains "
            f"{tolerance:.2g}. Nothing is written"
        )
    return difference


def _torch_options(model, sample):
    """Returns a signature of real size, and the axes that may vary."""
    torch = _checks.require("torch", extra="torch")
    specs = [keras.InputSpec(x.dtype, x.shape) for x in sample.values()]
    axes = [
        {i: torch.export.Dim.AUTO for i, size in enumerate(x.shape) if not size}
        for x in model.inputs
    ]
    return {
        "input_signature": [_inspection.as_input(model, specs)],
        "dynamic_shapes": [(_inspection.as_input(model, axes),)],
    }


def _by_name(names, inputs):
    """Returns inputs by the names of a result, whose order may be another."""
    if set(names) == set(inputs):
        return inputs
    return dict(zip(names, inputs.values(), strict=True))


def _load_saved_model(path):
    tensorflow = importlib.import_module("tensorflow")
    loaded = tensorflow.saved_model.load(str(path))
    (function,) = loaded.serve.concrete_functions
    (structure,), _ = function.structured_input_signature

    def run(inputs):
        packed = tensorflow.nest.pack_sequence_as(
            structure, list(inputs.values())
        )
        return keras.tree.flatten(loaded.serve(packed))

    return run


def _load_onnx(path):
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]
    return lambda inputs: session.run(None, _by_name(names, inputs))


def _load_openvino(path):
    core = importlib.import_module("openvino").Core()
    # Where the processor has bfloat16, that would be the default.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(path, "CPU", options)
    names = [x.any_name for x in compiled.inputs]
    return lambda inputs: list(compiled(_by_name(names, inputs)).values())


def _load_litert(path):
    interpreter = importlib.import_module("ai_edge_litert.interpreter")
    runner = interpreter.Interpreter(str(path)).get_signature_runner()
    names = list(runner.get_input_details())

    def run(inputs):
        outputs = runner(**_by_name(names, inputs))
        return [outputs[name] for name in sorted(outputs)]

    return run


def _load_torch(path):
    torch = importlib.import_module("torch")
    loaded = torch.export.load(path)
    (structure, _), program = loaded.example_inputs, loaded.module()

    def run(inputs):
        tensors = [torch.from_numpy(x) for x in inputs.values()]
        packed = keras.tree.pack_sequence_as(structure, tensors)
        return keras.tree.flatten(program(*packed))

    return run


class Format(NamedTuple):
    """A format: the packages that write it by backend, and what runs it."""

    title: str
    ending: str
    packages: Mapping[str, tuple[str, ...]]
    runtime: str
    load: Callable[[pathlib.Path], Callable[[dict[str, np.ndarray]], object]]


ONNX = {"tensorflow": ("onnx", "tf2onnx"), "torch": ("onnx", "onnxscript")}
OPENVINO = {"tensorflow": ("openvino",), "torch": ("openvino",)}
SAVED_MODEL = {"tensorflow": (), "jax": ("tensorflow",)}
LITERT = "ai_edge_litert.interpreter"
FORMATS = {
    "saved_model": Format(
        "TensorFlow", "", SAVED_MODEL, "tensorflow", _load_saved_model
    ),
    "onnx": Format("ONNX Runtime", ".onnx", ONNX, "onnxruntime", _load_onnx),
    "openvino": Format(
        "OpenVINO", ".xml", OPENVINO, "openvino", _load_openvino
    ),
    "litert": Format(
        "LiteRT", ".tflite", {"tensorflow": ()}, LITERT, _load_litert
    ),
    "torch": Format("PyTorch", ".pt2", {"torch": ()}, "torch", _load_torch),
}
