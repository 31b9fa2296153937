"""Models in other formats, run by their own runtimes; what is refused."""

import pathlib

import keras
import numpy as np
import pytest
from keras import layers

from cbam_keras import CBAM, SqueezeExcite
from cbam_keras.exporting import FORMATS, export_model

BACKEND = keras.backend.backend()
AVAILABLE = [name for name in FORMATS if BACKEND in FORMATS[name].packages]

pytestmark = pytest.mark.every_backend


def network(size=12):
    """Returns a network of two outputs, whose shapes differ."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3), name="images")
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    x = CBAM(reduction_ratio=2, kernel_size=3, spatial_batch_norm=True)(x)
    x = SqueezeExcite(reduction_ratio=4)(x)
    maps = layers.Conv2D(2, 1, name="z_maps")(x)
    classes = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, [maps, classes])


@pytest.fixture(scope="module")
def model():
    return network()


def require_packages(format):
    chosen = FORMATS[format]
    for package in (*chosen.packages[BACKEND], chosen.runtime):
        pytest.importorskip(package, reason=f"{format} needs {package}")


def assert_runs(path, format, model, shape):
    images = np.random.default_rng(1).normal(size=shape).astype("float32")
    found = FORMATS[format].load(path)({model.inputs[0].name: images})
    for own, expected in zip(found, model.predict(images), strict=True):
        np.testing.assert_allclose(np.asarray(own), expected, atol=1e-5)


@pytest.mark.parametrize("format", AVAILABLE)
def test_the_runtime_agrees_on_other_images(model, format, tmp_path):
    require_packages(format)
    path = tmp_path / f"model{FORMATS[format].ending}"
    exported = export_model(model, path, format=format)
    assert exported.runtime.startswith(FORMATS[format].title)
    assert exported.difference < 1e-5 < exported.scale
    assert str(exported).startswith(str(path))
    assert_runs(path, format, model, (5, 12, 12, 3))


@pytest.mark.skipif(
    BACKEND == "jax", reason="needs a known size under the backend jax"
)
def test_images_of_any_size(tmp_path):
    format = "torch" if BACKEND == "torch" else "onnx"
    require_packages(format)
    model = network(None)
    path = tmp_path / f"model{FORMATS[format].ending}"
    assert export_model(model, path, format=format).difference < 1e-5
    assert_runs(path, format, model, (1, 40, 56, 3))


@pytest.mark.skipif(BACKEND == "jax", reason="writes no ONNX")
def test_a_layer_is_few_nodes(tmp_path):
    require_packages("onnx")
    import onnx

    inputs = keras.Input((12, 12, 16))
    model = keras.Model(inputs, CBAM(reduction_ratio=4)(inputs))
    export_model(model, tmp_path / "model.onnx", format="onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    # What ONNX Runtime removes: constants, and casts to the same type.
    kinds = [
        node.op_type
        for node in graph.node
        if node.op_type not in ("Constant", "Cast")
    ]
    assert len(kinds) <= 23
    assert not {"Shape", "Gather", "Slice"} & set(kinds)


@pytest.fixture
def stand_in(monkeypatch):
    """A format that is written as text, and returns given outputs."""

    def replace(run, runtime="numpy", files=(".onnx",)):
        def export(model, path, **options):
            for ending in files:
                pathlib.Path(path).with_suffix(ending).write_text("written")

        monkeypatch.setattr(keras.Model, "export", export)
        monkeypatch.setitem(
            FORMATS,
            "onnx",
            FORMATS["onnx"]._replace(
                packages={BACKEND: ()}, runtime=runtime, load=lambda path: run
            ),
        )

    return replace


def off(by):
    def change(outputs):
        outputs[1][0, 0] += by
        return outputs

    return change


def fail(outputs):
    raise OSError("INVALID_GRAPH\nmore")


WRONG = {
    # In float32 rounding explains less.
    "number": (off(0.01), "by up to 0.01, where .*Nothing is written"),
    "NaN": (off(np.nan), "by up to nan, where .*Nothing is written"),
    "shapes": (
        lambda outputs: outputs[:1],
        r"must return arrays of the model's shapes, \[\(2, 10, 10, 2\)",
    ),
    "error": (fail, "Received: INVALID_GRAPH. Nothing"),
}


@pytest.mark.parametrize("change, message", WRONG.values(), ids=WRONG)
def test_wrong_outputs_are_refused_and_nothing_is_written(
    model, stand_in, tmp_path, change, message
):
    stand_in(lambda inputs: change(model.predict(*inputs.values(), verbose=0)))
    with pytest.raises(RuntimeError, match=message):
        export_model(model, tmp_path / "model.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_run_is_said_not_to_be_compared(
    model, stand_in, tmp_path
):
    stand_in(None, runtime="no_such_runtime")
    exported = export_model(model, tmp_path / "model.onnx", format="onnx")
    assert exported.difference is None
    assert "not compared" in str(exported)
    assert "pip install no_such_runtime" in str(exported)
    assert (tmp_path / "model.onnx").read_text() == "written"


@pytest.mark.half_precision
def test_half_precision_rounds_more(stand_in, tmp_path):
    inputs = keras.Input((4,))
    x = layers.Dense(4, dtype="float16", kernel_initializer="ones")(inputs)
    model = keras.Model(inputs, layers.Rescaling(1.0, dtype="float32")(x))
    stand_in(lambda inputs: 1.005 * model.predict(*inputs.values(), verbose=0))
    export_model(model, tmp_path / "a.onnx", format="onnx")


@pytest.mark.skipif(BACKEND == "torch", reason="writes no SavedModel")
@pytest.mark.parametrize("pack", [lambda x: [x], lambda x: {"images": x}])
def test_an_input_in_a_list_or_dictionary(tmp_path, pack):
    require_packages("saved_model")
    inputs = keras.Input((4,), name="images")
    model = keras.Model(pack(inputs), layers.Dense(2)(inputs))
    exported = export_model(model, tmp_path / "model", format="saved_model")
    assert exported.difference < 1e-5


@pytest.mark.parametrize("format", AVAILABLE)
@pytest.mark.parametrize("pack", [list, dict])
def test_several_inputs(tmp_path, pack, format):
    require_packages(format)
    # Formats may sort the names. The inputs of equal shape tell by the sign.
    given = {
        name: keras.Input(shape, name=name)
        for name, shape in {"z": (6, 6, 3), "y": (4,), "x": (4,)}.items()
    }
    mean = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(given["z"]))
    outputs = layers.Dense(5)(mean + given["y"] - 2 * given["x"])
    inputs = given if pack is dict else list(given.values())
    model = keras.Model(inputs, outputs)
    path = tmp_path / f"model{FORMATS[format].ending}"
    assert export_model(model, path, format=format).difference < 1e-5


@pytest.mark.parametrize("name", ["model.onnx", "model.bin"])
def test_what_exists_is_not_replaced(model, stand_in, tmp_path, name):
    stand_in(None, runtime="no_such_runtime", files=(".onnx", ".bin"))
    (tmp_path / name).write_text("precious")
    with pytest.raises(ValueError, match=f'must not exist yet.*{name}"'):
        export_model(model, tmp_path / "model.onnx", format="onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


BAD = {
    "unknown": ({"format": "onx"}, 'Did you mean "onnx"'),
    "ending": ({"output": "model"}, r"must end in \.onnx"),
    "file": ({"model": "model.keras"}, "functional keras"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments(model, stand_in, tmp_path, options, message):
    stand_in(None)
    options = {"model": model, "output": "model.onnx"} | options
    output = tmp_path / options.pop("output")
    with pytest.raises((ValueError, TypeError), match=message):
        export_model(**({"output": output, "format": "onnx"} | options))
    assert not list(tmp_path.iterdir())


def test_a_format_of_another_backend_is_refused(model, tmp_path):
    name = next(name for name in FORMATS if name not in AVAILABLE)
    other = next(iter(FORMATS[name].packages))
    output = tmp_path / f"model{FORMATS[name].ending}"
    with pytest.raises(ValueError, match=f"KERAS_BACKEND={other}"):
        export_model(model, output, format=name)


@pytest.mark.skipif(
    BACKEND == "tensorflow", reason="TensorFlow exports images of any size"
)
def test_a_size_that_must_be_known(tmp_path):
    format = "onnx" if BACKEND == "torch" else "saved_model"
    path = tmp_path / f"model{FORMATS[format].ending}"
    require_packages(format)
    with pytest.raises(ValueError, match="needs a model whose input sizes"):
        export_model(network(None), path, format=format)
