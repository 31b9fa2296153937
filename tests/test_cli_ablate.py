"""The command `cbam-keras ablate`."""

import dataclasses

import pytest

from cbam_keras import ablation, cli, comparison

RECIPE = comparison.default_recipe("tiny")


@pytest.fixture
def ablated(monkeypatch):
    """Returns what `run` was called with, in place of running."""
    calls = {}

    class Results:
        def __str__(self):
            return "the tables"

        def markdown(self):
            return "| Markdown |"

        def csv(self):
            return "C,S,V"

    def run(images, **options):
        calls.update(options, images=images)
        return Results()

    monkeypatch.setattr(ablation, "run", run)
    monkeypatch.setattr("cbam_keras.cli.ablate._complete", lambda *_: None)
    return calls


def test_ablate_passes_its_defaults(ablated, capsys):
    assert cli.main(["ablate"]) == 0
    assert capsys.readouterr().out == "the tables\n"
    assert ablated == {
        "images": "crowded_mnist",
        "model": "tiny",
        "tables": [1, 2, 3, 4],
        "seeds": 3,
        "recipe": RECIPE,
        "identity_init": True,
        "data_options": {},
        "output": None,
        "overwrite": False,
    }


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["--tables", "1", "4"], {"tables": [1, 4]}),
        (["--seeds", "5"], {"seeds": 5}),
        (["--model", "resnet18"], {"model": "resnet18"}),
        (["--data", "cifar10"], {"images": "cifar10"}),
        (
            ["--epochs", "7"],
            {"recipe": dataclasses.replace(RECIPE, epochs=7)},
        ),
        (["--no-identity-init"], {"identity_init": False}),
        (["--output", "here"], {"output": "here"}),
        (["--resume"], {"output": None, "overwrite": False}),
        (["--overwrite"], {"overwrite": True}),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_options_of_ablate_are_passed_on(ablated, arguments, passed):
    assert cli.main(["ablate", *arguments]) == 0
    assert ablated.items() >= passed.items()


@pytest.mark.parametrize(
    ("form", "printed"),
    [("markdown", "| Markdown |"), ("csv", "C,S,V")],
)
def test_ablate_prints_other_forms(ablated, capsys, form, printed):
    assert cli.main(["ablate", f"--{form}"]) == 0
    assert capsys.readouterr().out == f"{printed}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tables", "5"], "`tables` must"),
        (["--seeds", "0"], "`seeds` must"),
        (["--data", "mnist6k"], 'Did you mean "mnist5k"?'),
    ],
    ids=["tables", "seeds", "data"],
)
def test_ablate_tells_a_mistake_in_one_line(
    monkeypatch, tmp_path, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cbam-keras ablate: error: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_ablate_trains_nothing(
    tiny, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", "mnist5k", "--tables", "4", "--seeds", "2"]
    assert cli.main(["ablate", "--dry-run", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line[0] == "│"] == [
        *("none", "se", "cbam")
    ]
    assert lines[-1].startswith("About ")
    assert not list(tmp_path.iterdir())


def test_the_report_shows_where_networks_of_the_first_seed_look(tiny, tmp_path):
    arguments = [
        *("ablate", "--data", "mnist5k", "--tables", "4", "--seeds", "2"),
        *("--epochs", "1", "--batch-size", "35", "--quiet"),
        *("--output", str(tmp_path / "run")),
    ]
    assert cli.main(arguments) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    for name in ("none", "se", "cbam"):
        assert page.count(f"Grad-CAM of {name}") >= 8
    assert "Not in this report" not in page
