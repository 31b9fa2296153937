"""The command `cbam-keras audit`."""

import pytest

from cbam_keras import cli


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
        ("SqueezeExcite", 1, "There is no spatial attention"),
    ],
)
def test_departures_set_the_exit_status(module, capsys, name, status, said):
    assert cli.main(["audit", f"{module}:{name}"]) == status
    printed = capsys.readouterr().out
    assert f"Audit of {name}" in printed
    assert said in printed


@pytest.mark.parametrize(
    "name, message",
    [
        ("no_such_module:CBAM", "No module named 'no_such_module'"),
        ("{}", "`layer` must be MODULE:CLASS"),
        ("{}:print", "has no attribute 'print'"),
    ],
    ids=["module", "no_colon", "name"],
)
def test_mistakes_are_told_in_one_line(module, capsys, name, message):
    assert cli.main(["audit", name.format(module)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cbam-keras audit: error: ")
    assert message in line
