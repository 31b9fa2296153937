"""The models, the data and the classes of a run are found in its folder."""

import pathlib
import shutil

import digits
import networks
import pretended
import pytest
from data_checks import write_folder
from explain_files_checks import explain, picture

from cbam_keras import ablation, cli, comparison, training, tuning
from cbam_keras.explain import files_of_run


def units(hp):
    return networks.mlp(hp.Choice("units", [2, 3]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns a folder with runs of all commands, of pretended training."""
    folder = tmp_path_factory.mktemp("runs")
    figure = pytest.importorskip("matplotlib.figure", reason="runs are drawn")
    write_folder(folder / "pets", 5, ("cat", "dog", "eel"), size=(8, 8))
    given = {
        "images": "mnist5k",
        "recipe": training.Recipe(epochs=1, batch_size=35),
    }
    command = ["train", "--epochs", "1", "--no-report", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        digits.replace(digits.few, patch.setattr)
        networks.replace_tiny(patch.setitem)
        pretended.install(patch)
        patch.setattr(
            figure.Figure,
            "savefig",
            lambda self, path, **options: pathlib.Path(path).touch(),
        )
        for name, data, attention in (
            ("train", "cluttered_mnist", ["none", "cbam"]),
            ("pets", str(folder / "pets"), ["none"]),
        ):
            own = ["--data", data, "--output", str(folder / f"{name}-run")]
            assert cli.main([*command, *own, "--attention", *attention]) == 0
        comparison.compare(
            ["none"], **given, seeds=[4, 3], output=folder / "compare-run"
        )
        ablation.run(
            **given, tables=[4], seeds=[4], output=folder / "ablate-run"
        )
        tuning.search(
            units, **given, max_trials=1, confirm=0, output=folder / "tune-run"
        )
    return folder


@pytest.mark.parametrize(
    ("name", "models", "data"),
    [
        ("train-run", ["none", "cbam"], "cluttered_mnist"),
        # Where the images lie is not known.
        ("pets-run", ["none"], None),
        ("compare-run", ["seed-4/none"], "mnist5k"),
        (
            "ablate-run",
            [f"{name}/seed-4/{name}" for name in ("none", "se", "cbam")],
            "mnist5k",
        ),
        ("tune-run", ["best"], "mnist5k"),
    ],
)
def test_a_run_holds_its_models(runs, name, models, data):
    found = files_of_run(runs / name)
    assert found.models == [runs / name / f"{model}.keras" for model in models]
    assert found.data == data


def test_unfinished_networks_are_left_out(runs, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(runs / "train-run", run)
    (run / "none.keras").unlink()
    assert files_of_run(run).models == [run / "cbam.keras"]
    (run / "cbam.keras").unlink()
    with pytest.raises(ValueError, match="none is finished yet"):
        files_of_run(run)
    assert cli.main(["explain", str(run)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_other_folders_are_no_runs_and_runs_of_other_commands_refused(tmp_path):
    assert files_of_run(tmp_path) is None
    for content in ("{", "[]", '{"kind": "search"}'):
        (tmp_path / "results.json").write_text(content)
        assert files_of_run(tmp_path) is None
    content = '{"kind": "comparison of detectors", "settings": {"data": {}}}'
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"command \(comparison of detectors"):
        files_of_run(tmp_path)


def test_a_folder_of_digits_is_explained_with_its_data(
    runs, few_digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    content, _ = explain(
        *(runs / "train-run", "--count", "2", "--quiet"),
        output="runs/explain-train-run",
    )
    assert list(content["images"][0]["models"]) == ["none", "cbam"]
    assert content["settings"]["data"] == "cluttered_mnist"
    assert capsys.readouterr().err == ""


def test_images_beside_a_run_replace_its_data_and_its_classes_are_known(
    runs, here, capsys
):
    picture(here / "it.png")
    content, _ = explain("it.png", runs / "pets-run", "--class", "eel")
    assert [entry["image"] for entry in content["images"]] == ["it.png"]
    assert content["settings"]["data"] is None
    assert content["class_names"] == ["cat", "dog", "eel"]
    assert content["images"][0]["models"]["none"]["class_index"] == 2
    assert cli.main(["explain", str(runs / "pets-run")]) == 2
    assert "or --data NAME" in capsys.readouterr().err
