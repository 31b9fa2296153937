"""The command `cbam-keras export`."""

import keras
import pytest
from keras import layers

from cbam_keras import CBAM, cli, exporting


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
    assert printed.startswith("model (")
    assert "outputs differ from the model's by at most" in printed
    loaded = exporting.FORMATS["saved_model"].load(file.with_name("model"))
    images = keras.ops.ones((2, 8, 8, 4))
    expected = keras.saving.load_model(file)(images)
    (found,) = loaded(images)
    assert abs(found - expected).numpy().max() < 1e-6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model.keras", "--format", "torch"], "KERAS_BACKEND=torch"),
        (["none.keras", "--format", "saved_model"], '"none.keras"'),
        (
            ["model.keras", "--format", "saved_model", "--output", "a.pb"],
            "without an ending",
        ),
        (
            ["model.keras", "--format", "saved_model", "--import", "x"],
            "`import`",
        ),
    ],
)
def test_mistakes_are_said_in_one_line(file, capsys, arguments, said):
    assert cli.main(["export", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert [path.name for path in file.parent.iterdir()] == ["model.keras"]
