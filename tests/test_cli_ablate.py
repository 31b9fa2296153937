"""The command `cbam-keras ablate`: what it passes on, prints and reports."""

import dataclasses
import json

import pretended
import pytest

from cbam_keras import ablation, cli, comparison, explain, training

RECIPE = comparison.default_recipe("tiny")
DEFAULTS = {
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


@pytest.fixture
def asked(monkeypatch):
    """Returns what `run` was called with, in place of running."""
    calls = {}

    class Results:
        rows, seeds, output = (), (0,), None

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
    return calls


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        ("", {}),
        (
            "--tables 1 --tables 4 --seeds 5 --model json:dumps --data cifar10 "
            "--download --epochs 7 --no-identity-init --output here "
            "--overwrite",
            {
                "tables": [1, 4],
                "seeds": 5,
                "model": json.dumps,
                "images": "cifar10",
                "data_options": {"download": True},
                # That of networks other than "tiny".
                "recipe": dataclasses.replace(
                    comparison.default_recipe(None), epochs=7
                ),
                "identity_init": False,
                "output": "here",
                "overwrite": True,
            },
        ),
        ("--tables 1 4 --resume", {"tables": [1, 4]}),
    ],
    ids=["defaults", "every_option", "lists"],
)
def test_each_option_reaches_its_argument(asked, arguments, passed):
    assert cli.main(["ablate", "--no-report", *arguments.split()]) == 0
    assert asked == {**DEFAULTS, **passed}


def test_a_dry_run_estimates_and_writes_nothing(
    tiny, tmp_path, monkeypatch, capsys
):
    calls = {}

    def estimate(networks, images, recipe, times):
        calls.update(names=list(networks), recipe=recipe, times=times)
        return "the estimate"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "estimate", estimate)
    options = ["--data", "mnist5k", "--tables", "4", "1"]
    assert cli.main(["ablate", "--dry-run", *options]) == 0
    assert capsys.readouterr().out == "the estimate\n"
    # By table, each once.
    names = ["none", "se", "channel-max", "channel-avg-max", "cbam"]
    assert calls == {"names": names, "recipe": RECIPE, "times": 3}
    assert not list(tmp_path.iterdir())


def test_ablate_prints_the_form_asked_for(asked, capsys):
    for form in ([], ["--markdown"], ["--csv"]):
        assert cli.main(["ablate", "--no-report", *form]) == 0
    assert capsys.readouterr().out == "the tables\n| Markdown |\nC,S,V\n"


def test_a_mistake_is_reported_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", "--tables", "5"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cbam-keras ablate: error: `tables` must be")
    assert not list(tmp_path.iterdir())


def test_the_report_explains_networks_of_the_first_seed(
    tiny, tmp_path, monkeypatch
):
    explained = []
    pretended.install(monkeypatch)
    monkeypatch.setattr(
        explain, "explain_run", lambda *given: explained.append(given)
    )
    arguments = [
        *("ablate", "--data", "mnist5k", "--tables", "3", "4", "--seeds", "1"),
        *("--epochs", "1", "--batch-size", "35", "--quiet"),
        *("--output", str(tmp_path)),
    ]
    assert cli.main(arguments) == 0
    ((models, _, output, described),) = explained
    # The page shows no more than a few: those of Table 4 come first.
    names = ("none", "se", "cbam", "spatial-first", "parallel")
    assert [path.relative_to(tmp_path).as_posix() for path in models] == [
        f"{name}/seed-0/{name}.keras" for name in names
    ]
    assert all(path.exists() for path in models)
    assert (output, described["seed"]) == (tmp_path / "explain", 0)
    page = (tmp_path / "report.html").read_text()
    assert "Table 4: no attention, SE and CBAM" in page
