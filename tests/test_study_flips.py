"""Which test images networks are right about: kept, compared, counted."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
from explain_files_checks import explain
from folder_checks import killed_at
from networks import linear
from scipy import stats
from study_checks import GATED, NARROW, made, planned

from cbam_keras import cli, data, study
from cbam_keras.study.flips import variance_of_drawing
from cbam_keras.study.statistics import Measured

NAMES = ("narrow", "gated")


def write(folder, name, seed, bits):
    packed = np.packbits(np.asarray(bits, bool))
    np.save(folder / f"{name}-seed{seed}.correct.npy", packed)


def judged(folder, **correct):
    """Writes bits by network and seed, and returns their results."""
    accuracies = {}
    for name, by_seed in correct.items():
        accuracies[name] = dict(enumerate(map(np.mean, by_seed)))
        for seed, bits in enumerate(by_seed):
            write(folder, name, seed, bits)
    results = made(accuracies, sizes={"test": len(bits)}, output=folder)
    outcomes = [
        dataclasses.replace(x, file=f"{x.variant}-seed{x.seed}.keras")
        for x in results.outcomes
    ]
    return dataclasses.replace(results, outcomes=tuple(outcomes))


def some(first, last):
    """Returns bits of 100 images, the ones from one image to another."""
    return [first <= image < last for image in range(100)]


@pytest.fixture(scope="module")
def trained(brighter_digits, tmp_path_factory):
    """Returns the results of a run that was killed, resumed and extended."""
    folder = tmp_path_factory.mktemp("trained")
    run = functools.partial(study.run, output=folder)
    with killed_at("narrow.keras", folder):
        run(planned(NARROW))
    run(planned(NARROW))
    first = (folder / "narrow.correct.npy").read_bytes()
    results = run(planned(NARROW, GATED, seeds=(0, 1), baseline="narrow"))
    assert (folder / "narrow-seed0.correct.npy").read_bytes() == first
    return results


def test_each_network_has_a_bit_per_test_image_also_after_a_resume(trained):
    images, labels = data.load("mnist5k", batch_size=None).test
    for outcome in trained.outcomes:
        file = trained.output / outcome.file
        model = keras.saving.load_model(file)
        outputs = model.predict(images.astype("float32"), verbose=0)
        is_right = outputs.argmax(axis=1) == labels
        packed = np.load(file.with_suffix(".correct.npy"))
        np.testing.assert_array_equal(packed, np.packbits(is_right))
        assert is_right.mean() == outcome.test_accuracy
    assert len([*trained.output.glob("*.npy")]) == len(trained.outcomes) == 4
    assert trained.rows[1].drawing > 0


@pytest.mark.parametrize(
    ("classes", "activation"),
    [(1, "sigmoid"), (1, None), (2, "softmax"), (2, None)],
)
def test_images_are_right_as_the_accuracy_counts(classes, activation):
    images = np.random.default_rng(0).integers(0, 256, (90, 7, 7, 1), "uint8")
    model = linear(activation=activation, classes=classes, shape=(7, 7, 1))
    task = study.Classification((images, np.arange(90) % 2))
    recipe = study.Recipe(epochs=1, class_weight="balanced")
    loaded = task.load(recipe)
    task.compile(model, recipe, loaded)
    correct = task.find_correct(model, loaded)
    assert 0 < correct.mean() == task.evaluate(model, loaded)["test_accuracy"]


def test_drawing_adds_what_seeds_share_on_single_images():
    rng = np.random.default_rng(0)
    shared = rng.integers(-1, 2, 200)
    changes = np.where(rng.random((3, 200)) < 0.5, shared, 0)
    pairs = [np.cov(changes[[a, b]])[0, 1] for a, b in ((0, 1), (0, 2), (1, 2))]
    drawing = np.mean(pairs) / 200 + 1 / 200**2
    assert variance_of_drawing(changes) == pytest.approx(drawing)
    # Of opposite changes the covariance is negative.
    opposite = np.array([shared, -shared])
    assert variance_of_drawing(opposite) == pytest.approx(1 / 200**2)


@pytest.mark.parametrize(
    "differences", [[0.02, 0.03, 0.022], [0.01, 0.07, 0.03]]
)
def test_seeds_and_images_make_the_interval(differences):
    drawing = 0.01**2
    found = Measured.of(differences, differences, 200, None, drawing)
    seeds = np.var(differences, ddof=1) / 3
    degrees = (seeds + drawing) ** 2 / (seeds**2 / 2 + drawing**2 / 199)
    both = stats.t(degrees, np.mean(differences), np.sqrt(seeds + drawing))
    # Few seeds may differ little by chance: they alone are judged, too.
    alone = stats.t(2, np.mean(differences), np.sqrt(seeds))
    widest = max(
        both, alone, key=lambda student: np.ptp(student.interval(0.95))
    )
    assert (widest is both) == (differences[0] == 0.02)
    assert found.interval == pytest.approx(widest.interval(0.95))
    assert found.p_value == pytest.approx(2 * widest.cdf(0))


def test_claims_are_false_in_one_study_of_twenty():
    # Of 2,000 images 14 % change sides with each of ten seeds, which share an
    # effect of variance 0.01 on each. By the least possible error 11 % claim.
    rng, studies, claims = np.random.default_rng(1), 400, np.zeros(2)
    for _ in range(studies):
        effects = rng.choice([-0.1, 0.1], 2000)
        draws = rng.random((10, 2000))
        gained, lost = draws < 0.07 + effects / 2, draws > 0.93 + effects / 2
        changes = gained.astype("int8") - lost
        means = changes.mean(axis=1).tolist()
        for way, drawing in enumerate((variance_of_drawing(changes), None)):
            found = Measured.of(means, means, 2000, None, drawing)
            claims[way] += found.p_value < 0.05
    measured, least_possible = 100 * claims / studies
    assert 3 <= measured <= 7 and 9 <= least_possible <= 14


def test_few_images_that_all_seeds_gain_are_no_claim(tmp_path):
    bits = {"none": [some(4, 80)] * 3, "cbam": [some(0, 80)] * 3}
    results = judged(tmp_path, **bits)
    assert "which may be chance" in results.verdict
    assert "least possible" not in str(results)
    (tmp_path / "cbam-seed1.correct.npy").unlink()
    assert results.verdict.startswith("cbam is better than none by 4.00 points")
    assert "counts by the least possible error" in " ".join(
        str(results).split()
    )


@pytest.mark.parametrize(("gained", "lost"), [(4, 0), (0, 0), (3, 7), (30, 12)])
def test_one_seed_is_judged_by_mcnemars_exact_test(tmp_path, gained, lost):
    bits = {"none": [some(40, 80)], "cbam": [some(40 - gained, 80 - lost)]}
    results = judged(tmp_path, **bits)
    row, count = results.rows[1], gained + lost
    expected = stats.binomtest(gained, count).pvalue if count else 1
    assert row.p_value == pytest.approx(expected) and row.interval is None
    assert results.verdict.endswith(
        f"Of 100 test images, cbam gains {gained} and loses {lost} of none "
        f"(p {expected:.3g} by McNemar's exact test, which says nothing of "
        "other seeds)."
    )


def test_flips_count_with_how_many_seeds_an_image_changes_sides(tmp_path):
    none = [[1, 1, 0, 0, 0], [1, 0, 0, 0, 1]]
    cbam = [[1, 0, 1, 1, 0], [1, 0, 1, 0, 0]]
    results = judged(tmp_path, none=none, cbam=cbam)
    flips = results.flips("none", "cbam")
    assert flips.gained.tolist() == [0, 0, 2, 1, 0]
    assert flips.lost.tolist() == [0, 1, 0, 0, 1] and flips.seeds == 2
    said = "cbam gains 1.5 and loses 1 of none per seed, 1 and 0 with each of 2"
    assert said in str(flips)
    with pytest.raises(ValueError, match="Did you mean .*cbam"):
        results.flips("none", "cbamm")
    with pytest.raises(ValueError, match="without folds.*without such"):
        dataclasses.replace(results, folds=2).flips("none", "cbam")


@pytest.mark.parametrize(
    "content", [b"PK", np.zeros(1, "uint8"), np.full(13, 255, "uint8")]
)
def test_damaged_bits_are_as_if_there_were_none(tmp_path, content):
    none = [some(0, 60), some(0, 70)]
    results = judged(tmp_path, none=none, cbam=[some(0, 80)] * 2)
    file = tmp_path / "none-seed1.correct.npy"
    save = (
        np.save if isinstance(content, np.ndarray) else type(file).write_bytes
    )
    save(file, content)
    expected = Measured.of([0.2, 0.1], [0.2, 0.1], 100).interval
    assert results.rows[1].interval == pytest.approx(expected)
    with pytest.raises(ValueError, match="none-seed1.correct.npy.*damaged"):
        results.flips("none", "cbam")


def test_images_that_change_sides_in_most_seeds_are_drawn(
    trained, tmp_path, capsys
):
    correct = {("gated", 0): [1, 2], ("gated", 1): [2], ("narrow", 0): [3]}
    for name, seed in [(name, seed) for name in NAMES for seed in (0, 1)]:
        rows = correct.get((name, seed), [])
        bits = np.isin(np.arange(trained.test_images), rows)
        write(trained.output, name, seed, bits)
    given = "--flips", *NAMES, "--draw", "4"
    content, _ = explain(trained.output, *given, output=tmp_path)
    assert [(x["image"], x["change"]) for x in content["images"]] == [
        ("test 2", "gained with 2 of 2"),
        ("test 1", "gained with 1 of 2"),
        ("test 3", "lost with 1 of 2"),
    ]
    assert [*content["models"]] == ["narrow-seed0", "gated-seed0"]
    same = [str(trained.output), "--flips", "narrow", "narrow"]
    assert cli.main(["explain", *same]) == 2
    assert "must be of networks that differ" in capsys.readouterr().err
    assert cli.main(["explain", *same, "--split", "train"]) == 2
    assert "of one run, alone" in capsys.readouterr().err
