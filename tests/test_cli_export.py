"""The command `cbam-keras export`."""

import keras
import pytest
from keras import layers

from cbam_keras import CBAM, cli, exporting

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch writes no SavedModel"
)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Returns the path of a model in the working directory."""
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((8, 8, 4))
    outputs = layers.Flatten()(CBAM(reduction_ratio=2)(inputs))
    keras.Model(inputs, outputs).save("model.keras")
    return tmp_path / "model.keras"


def test_the_result_stands_beside_the_model(file, capsys):
    assert cli.main(["export", "model.keras", "--format", "saved_model"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("model: in")
    assert "outputs differ from those of the model by at most" in printed
    loaded = exporting.FORMATS["saved_model"].load(file.with_name("model"))
    images = keras.ops.ones((2, 8, 8, 4))
    expected = keras.saving.load_model(file)(images)
    (found,) = loaded({"images": images})
    assert abs(found - expected).numpy().max() < 1e-6


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--output", "a.pb"], "without an ending"),
        (["--import", "x"], "import"),
    ],
)
def test_options_reach_the_export(file, capsys, option, said):
    arguments = ["export", "model.keras", "--format", "saved_model", *option]
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert [path.name for path in file.parent.iterdir()] == ["model.keras"]


def test_an_output_that_exists_is_told_before_the_model_is_loaded(
    tmp_path, capsys
):
    (tmp_path / "model.onnx").touch()
    model = str(tmp_path / "model.keras")
    assert cli.main(["export", model, "--format", "onnx"]) == 2
    assert "`output` must not exist yet" in capsys.readouterr().err
