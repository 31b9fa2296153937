"""Networks with our layers in other formats, run by the runtime of each."""

import importlib
import pathlib
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from layer_checks import LAYERS, randomize

from cbam_keras import CBAM, TripletAttention

BACKEND = keras.backend.backend()

pytestmark = [pytest.mark.every_backend, pytest.mark.slow]


def run_saved_model(path, images):
    tensorflow = importlib.import_module("tensorflow")
    loaded = tensorflow.saved_model.load(path)
    return loaded.serve(images)


def run_onnx(path, images):
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (tensor,) = session.get_inputs()
    return session.run(None, {tensor.name: images})


def run_openvino(path, images):
    core = importlib.import_module("openvino").Core()
    # The default is bfloat16, where the processor has it.
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    outputs = core.compile_model(path, "CPU", precision)([images]).values()
    # Under TensorFlow, sizes that layers compute with are outputs, too.
    return [output for output in outputs if output.dtype == images.dtype]


def run_litert(path, images):
    interpreter = importlib.import_module("ai_edge_litert.interpreter")
    runner = interpreter.Interpreter(path).get_signature_runner()
    (name,) = runner.get_input_details()
    outputs = runner(**{name: images})
    return [outputs[name] for name in sorted(outputs)]


def run_torch(path, images):
    torch = importlib.import_module("torch")
    program = torch.export.load(path).module()
    outputs = program(keras.ops.convert_to_tensor(images))
    outputs = keras.tree.flatten(outputs)
    return [output.detach().cpu() for output in outputs]


# The ending of each format, what runs it, and the packages of both.
FORMATS = {
    "tf_saved_model": ("", run_saved_model, ["tensorflow"]),
    "onnx": (".onnx", run_onnx, ["onnx", "onnxruntime"]),
    "openvino": (".xml", run_openvino, ["openvino"]),
    "litert": (".tflite", run_litert, ["ai_edge_litert"]),
    "torch": (".pt2", run_torch, ["torch"]),
}
AVAILABLE = {
    "tensorflow": ["tf_saved_model", "onnx", "openvino", "litert"],
    "jax": ["tf_saved_model"],
    "torch": ["onnx", "openvino", "torch"],
}[BACKEND]
ONNX_WRITER = {"tensorflow": "tf2onnx", "torch": "onnxscript"}
# The others take the same way, or long.
USUAL = ["onnx"] if BACKEND == "tensorflow" else []
every_format = pytest.mark.parametrize(
    "format",
    [
        pytest.param(x, marks=[pytest.mark.exhaustive] * (x not in USUAL))
        for x in AVAILABLE
    ],
)


def export(model, format, folder):
    """Exports a model, and returns the path."""
    ending, _, packages = FORMATS[format]
    if format == "onnx":
        packages = [*packages, ONNX_WRITER[BACKEND]]
    for package in packages:
        pytest.importorskip(package, reason=f"{format} needs {package}")
    options = {}
    if format == "torch":
        # The program would take batches of one size alone.
        auto = importlib.import_module("torch").export.Dim.AUTO
        shape = model.inputs[0].shape
        example = tuple(size or 64 for size in shape)
        options = {
            "input_signature": [keras.InputSpec("float32", example)],
            "dynamic_shapes": (
                {axis: auto for axis, size in enumerate(shape) if not size},
            ),
        }
    path = str(folder / f"model{ending}")
    with warnings.catch_warnings():
        # The converters warn of their own code.
        warnings.simplefilter("ignore")
        model.export(path, format=format, verbose=False, **options)
    return path


def assert_runtime_agrees(model, format, folder, shape):
    """Exports a model, and compares its outputs for random images."""
    images = np.random.default_rng(1).normal(size=shape).astype("float32")
    expected = keras.tree.flatten(model.predict(images, verbose=0))
    path = export(model, format, folder)
    outputs = keras.tree.flatten(FORMATS[format][1](path, images))
    for output, prediction in zip(outputs, expected, strict=True):
        scale = np.abs(prediction).max()
        assert prediction.std() > 0.01 * scale
        np.testing.assert_allclose(
            output, prediction, rtol=0, atol=1e-5 * scale
        )


def network(size=12, layer_classes=LAYERS):
    """Returns a network with every layer of ours, and two outputs."""
    inputs = keras.Input((size, size, 3), name="images")
    x = layers.Conv2D(32, 3, activation="relu")(inputs)
    for layer_class in layer_classes:
        x = layer_class()(x)
    x = CBAM(4, 3, spatial_batch_norm=True)(x)
    # Some formats sort the outputs by name.
    maps = layers.Conv2D(2, 1, name="z_maps")(x)
    classes = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    return randomize(keras.Model(inputs, [maps, classes]))


@every_format
def test_every_layer_computes_the_same_in_the_runtime(format, tmp_path):
    # The number of images is left open.
    assert_runtime_agrees(network(), format, tmp_path, (5, 12, 12, 3))


@pytest.mark.exhaustive
@pytest.mark.skipif(
    BACKEND == "jax", reason="needs a known size under the backend jax"
)
def test_images_of_any_size(tmp_path):
    format = "torch" if BACKEND == "torch" else "onnx"
    # tf2onnx makes transpositions between open sizes to reshapes to wrong
    # sizes: docs/guides/files.md says so.
    layer_classes = [x for x in LAYERS if x is not TripletAttention]
    model = network(None, layer_classes)
    assert_runtime_agrees(model, format, tmp_path, (1, 40, 56, 3))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="has no such graphs")
def test_an_export_leaves_the_next_one_whole(tmp_path):
    inputs = keras.Input((8, 8, 3))
    # What follows them is exported as for training.
    augment = keras.Sequential([layers.RandomTranslation(0.1, 0.1)])
    x = layers.Conv2D(4, 3, activation="relu")(augment(inputs))
    model = keras.Model(inputs, CBAM(2)(x))
    model(np.zeros((1, 8, 8, 3), "float32"))
    paths = [export(model, x, tmp_path) for x in ("onnx", "litert")]
    assert all(pathlib.Path(path).exists() for path in paths)
