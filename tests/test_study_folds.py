"""Studies over the folds of a cross-validation."""

import dataclasses
import json

import numpy as np
import pytest
from data_checks import write_folder
from folder_checks import epochs
from study_checks import GATED, NARROW, content_of, made, planned

from cbam_keras import data, study

stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")
pytestmark = [
    pytest.mark.usefixtures("tiny", "quick"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Returns a folder of 4 images of each of five classes."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    write_folder(folder, per_class=4, classes="abcde", size=(8, 8))
    return folder


def folded(photos, *variants, folds=3, **options):
    options = {"task": study.Classification(photos), **options}
    options.setdefault("baseline", "narrow")
    variants = variants or (NARROW, GATED)
    return planned(*variants, folds=folds, **options)


def test_each_fold_of_each_seed_is_a_run(photos):
    assert folded(photos).runs == ((0, 0), (0, 1), (0, 2))
    twice = folded(photos, seeds=(0, 3))
    assert twice.runs == tuple((x, fold) for x in (0, 3) for fold in range(3))
    # Networks differ by the run, and images by seed and fold.
    seeds = {twice.recipe_for(None, run).seed for run in twice.runs}
    assert len(seeds) == 6
    run = twice.runs[4]
    loaded = twice.load(run)
    assert (loaded.seed, loaded.folds, loaded.fold) == (3, 3, 1)
    assert (str(run), run.name) == ("seed 3, fold 1", "seed3-fold1")
    plain = planned(NARROW, seeds=(4, 2)).runs
    assert plain == ((4, None), (2, None))
    assert (str(plain[0]), plain[0].name) == ("seed 4", "seed4")
    # Workers train a copy.
    assert dataclasses.replace(twice, finish=None).runs == twice.runs


def test_differences_are_paired_by_fold_and_corrected(photos, tmp_path):
    found = study.run(folded(photos), tmp_path)
    assert (found.folds, found.seeds) == (3, (0,))
    described = content_of(tmp_path)["settings"]["data"]
    names = [f"seed0-fold{fold}" for fold in range(3)]
    assert [described[name]["fold"] for name in names] == [0, 1, 2]
    tested = [described[name]["sizes"]["test"] for name in names]
    assert tested == [7, 7, 6] and found.test_images == 20
    narrow, gated = found.rows
    differences = np.subtract(gated.values, narrow.values)
    mean, deviation = differences.mean(), differences.std(ddof=1)
    half = stats.t.ppf(0.975, 2) * deviation * np.sqrt(1 / 3 + 1 / 2)
    assert gated.interval == pytest.approx((mean - half, mean + half))
    assert "; 3 folds), not statistically significant. Trained" in found.verdict
    assert found.tables()[0].title == "Networks, mean over 3 folds"
    assert "20 images, each tested in one fold" in str(found)
    assert json.loads(found.json())["folds"] == 3
    assert study.Results.read(tmp_path) == found
    assert list(found.to_dataframe()["seeds"]) == [3, 3]
    path = tmp_path / "gated-seed0-fold2/gated-seed0-fold2.keras"
    assert found.path("gated", fold=2) == path and path.exists()
    with pytest.raises(
        ValueError, match="fold=None. There are: narrow .seed 0, f"
    ):
        found.path("gated")
    assert {(row["seed"], row["fold"]) for row in found.history} == {
        (0, 0),
        (0, 1),
        (0, 2),
    }


def test_more_seeds_add_their_folds_and_other_folds_are_refused(
    photos, tmp_path
):
    study.run(folded(photos), tmp_path)
    with epochs() as trained:
        found = study.run(folded(photos, seeds=2), tmp_path)
    assert len(trained) == 6
    assert found.seeds == (0, 1) and len(found.runs) == 12
    # The same images in other folds.
    assert found.test_images == 20
    assert "; 3 folds x 2 seeds)" in found.verdict
    for folds, said in ((2, "folds was 3, is 2"), (None, "folds was 3, is N")):
        with pytest.raises(ValueError, match=said):
            study.run(folded(photos, folds=folds), tmp_path)


def test_guessing_counts_the_images_of_all_folds():
    runs = [study.Run(0, fold) for fold in range(3)]
    values = {"a": (0.8, 0.4, 0.5), "b": (1.0, 0.6)}
    ran = {name: dict(zip(runs, x, strict=False)) for name, x in values.items()}
    tested = {"seed0-fold0": 5, "seed0-fold1": 5, "seed0-fold2": 4}
    data = {run: {"sizes": {"test": n}} for run, n in tested.items()}
    sizes, settings = {"test": 5}, {"data": data}
    found = made(
        *(ran, "a"), sizes=sizes, settings=settings, folds=3, guess=0.6
    )
    # Another seed tests the same images in other folds.
    assert found.images_of([*runs, study.Run(1, 0)]) == 14
    # "b" is right about 0.8 in all, and chance about 0.6 + 0.26 of 14 images.
    assert "(up to 85.66% by chance with 14 images)" in found.verdict
    assert "learned" not in dataclasses.replace(found, guess=0.5).verdict


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"task": lambda: study.Classification(data.load("mnist5k"))},
            ValueError,
            '`folds` need data that are not loaded yet.*images of "mnist5k"',
        ),
        (
            {"task": lambda: study.Classification("mnist5k", fold=1)},
            TypeError,
            "no argument `fold`",
        ),
    ],
)
def test_folds_that_cannot_be_are_refused(
    photos, tmp_path, options, error, message
):
    task = options.get("task")
    with pytest.raises(error, match=message):
        if callable(task):
            options = {"task": task()}
        study.run(folded(photos, **options), tmp_path / "none")
    assert not (tmp_path / "none").exists()
