"""The command `cbam-keras table`."""

import json
import re

import pytest

from cbam_keras import cli


def test_table_prints_the_rows_asked_for(capsys):
    assert cli.main(["table", "resnet18-cbam"]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"ResNet18 .*CBAM .*11\.78 .*11\.78 .*1\.815 .*1\.815", out
    )
    assert "ResNet50" not in out


def test_table_prints_markdown_and_json(capsys):
    assert cli.main(["table", "resnet18", "--markdown"]) == 0
    assert "| ResNet18 | none " in capsys.readouterr().out
    assert cli.main(["table", "resnet18", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["parameters"] == 11_689_512


def test_table_writes_files(tmp_path):
    output = tmp_path / "new" / "folder"
    assert cli.main(["table", "resnet18", "--output", str(output)]) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "tables.json",
        "tables.md",
    ]
    assert json.loads((output / "tables.json").read_text())[0]["equal"]
    assert "11.69" in (output / "tables.md").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["resnet19"], 'Did you mean "resnet101"|Did you mean "resnet18"'),
        (["resnet18", "--output", "/dev/null/x"], "can be written to"),
    ],
)
def test_table_refuses_in_one_line(arguments, message, capsys):
    assert cli.main(["table", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("cbam-keras table: error: ")
    assert re.search(message, line)
