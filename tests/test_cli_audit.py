"""The command `cbam-keras audit`."""

import keras
import pytest

from cbam_keras import CBAM, SqueezeExcite, cli


@pytest.fixture
def module(tmp_path, monkeypatch):
    file = tmp_path / "my_layers_to_audit.py"
    file.write_text("from cbam_keras import CBAM, SqueezeExcite")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "my_layers_to_audit"


@pytest.mark.parametrize(
    "name, status, said",
    [
        ("CBAM", 0, 'It equals VARIANTS["paper"].'),
        ("SqueezeExcite", 1, "lacks weights like spatial_attention/"),
    ],
)
def test_departures_set_the_exit_status(module, capsys, name, status, said):
    assert cli.main(["audit", f"{module}:{name}"]) == status
    printed = capsys.readouterr().out
    assert printed.startswith(f"Importing {module}, from this folder")
    assert f"Audit of {name}" in printed
    assert said in printed


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A file beside the model that it saved, which must not run again."""
    (tmp_path / "net.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "net"


def test_the_layers_of_a_model_are_audited(script, capsys):
    inputs = keras.Input((8, 8, 6))
    x = keras.layers.BatchNormalization()(CBAM(3, name="first")(inputs))
    x = CBAM(3, name="second")(x)
    keras.Model(inputs, x).save(f"{script}.keras")
    assert cli.main(["audit", f"{script}.keras"]) == 0
    printed = capsys.readouterr().out
    # Equal layers are audited once.
    assert printed.count("Audit of ") == 1
    assert 'Audit of CBAM layer "first"' in printed
    nested = keras.Sequential([SqueezeExcite(3, name="other")])
    keras.Model(inputs, CBAM(3)(nested(inputs))).save(f"{script}.keras")
    assert cli.main(["audit", f"{script}.keras"]) == 1
    assert 'Audit of SqueezeExcite layer "other"' in capsys.readouterr().out


def test_only_a_class_of_a_module_is_imported(script, capsys):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(
        f"{script}.keras"
    )
    for layer in (script, f"{script}:", f":{script}", f"{script}.keras"):
        assert cli.main(["audit", layer]) == 2
    (*_, line) = capsys.readouterr().err.splitlines()
    assert 'Received: "net.keras" without any' in line


@pytest.mark.parametrize(
    "name, message",
    [
        ("no_such_module:CBAM", "No module named 'no_such_module'"),
        ("{}", "`layer` must be a file that ends in .keras, or MODULE:CLASS"),
        ("{}:print", "has no attribute 'print'"),
    ],
    ids=["module", "no_colon", "name"],
)
def test_mistakes_are_told_in_one_line(module, capsys, name, message):
    assert cli.main(["audit", name.format(module)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cbam-keras audit: error: ")
    assert message in line
