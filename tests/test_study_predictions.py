"""What networks predict: kept beside them, and judged by scikit-learn."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
from data_checks import write_folder
from folder_checks import files, killed_at
from networks import linear
from PIL import Image
from study_checks import made, planned

from cbam_keras import _files, study, training
from cbam_keras.report.judged import describe_threshold
from cbam_keras.study.plans.measures import reliability
from cbam_keras.study.results import predictions
from cbam_keras.study.results.predictions import describe_collapse
from cbam_keras.study.results.statistics import interval_of_fraction

calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
metrics = pytest.importorskip("sklearn.metrics")
pandas = pytest.importorskip("pandas")
stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")

pytestmark = pytest.mark.usefixtures("eagerly")
NAMES = ("ant", "bee", "cat")
LABELS = np.repeat([0, 1, 2], [12, 9, 4])
RECIPE = training.Recipe(epochs=1, batch_size=20, image_size=14)


# Kept.


def build(loaded, units, activation):
    shape = loaded.image_shape
    return linear(activation=activation, classes=units, shape=shape)


def trained(pets, output, units=2, activation="softmax", seeds=(0,)):
    network = functools.partial(build, units=units, activation=activation)
    variant = study.Variant("net", network)
    task = study.Classification(pets, validation_fraction=0.2)
    return study.run(
        planned(variant, task=task, recipe=RECIPE, seeds=seeds), output
    )


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "pets"
    write_folder(root, 12, classes=("cat", "label"), size=(14, 14))
    return root


@pytest.mark.parametrize(
    ("units", "activation"), [(2, "softmax"), (1, "sigmoid"), (2, None)]
)
def test_probabilities_are_those_of_the_network_in_the_file(
    units, activation, pets, tmp_path
):
    results = trained(pets, tmp_path / "run", units, activation)
    model = keras.saving.load_model(tmp_path / "run/net-seed0/net-seed0.keras")
    for split in ("test", "validation"):
        frame = results.predictions("net", 0, split)
        # A class may be called like a column.
        assert [*frame] == ["image", "label", "cat", "label"]
        assert len(frame) == results.sizes[split] > 0
        pixels = [np.asarray(Image.open(path)) for path in frame["image"]]
        found = model.predict(np.stack(pixels).astype("float32"), verbose=0)
        if activation is None:
            found = keras.ops.convert_to_numpy(keras.ops.softmax(found))
        elif units == 1:
            found = np.hstack([1 - found, found])
        values = frame.iloc[:, 2:].to_numpy("float32")
        np.testing.assert_allclose(values, found, atol=1e-5)
        folders = [path.split("/")[-2] for path in frame["image"]]
        assert [*frame.iloc[:, 1]] == folders
    # What tables say is what the predictions say.
    right = np.array([*results.read_tested()["net"].values()])[0]
    accuracy = np.mean(right.predicted == right.labels)
    assert results.runs[0].test_accuracy == pytest.approx(accuracy)


def test_files_are_the_same_after_a_kill_and_of_more_seeds(pets, tmp_path):
    whole = files(trained(pets, tmp_path / "whole").output)
    with killed_at(_files.PREDICTIONS, tmp_path / "run"):
        trained(pets, tmp_path / "run")
    results = trained(pets, tmp_path / "run")
    name = f"net-seed0/net-seed0{_files.PREDICTIONS}"
    assert files(results.output)[name] == whole[name]
    assert files(results.output).keys() == whole.keys()
    more = trained(pets, tmp_path / "run", seeds=(0, 1))
    assert files(more.output)[name] == whole[name]
    tested = [more.predictions("net", seed)["image"] for seed in (0, 1)]
    assert tested[0].equals(tested[1])
    with pytest.raises(ValueError, match="that finished.* seed=7, split="):
        more.predictions("net", 7)


# Judged.


def judged(folder, *networks, labels=LABELS, names=NAMES, **options):
    """Returns results of `networks`, each the probabilities by its seed."""
    accuracies = {}
    for number, by_seed in enumerate(networks):
        accuracies["abcd"[number]] = {
            seed: np.mean(x.argmax(axis=1) == labels)
            for seed, x in enumerate(by_seed)
        }
        for seed, x in enumerate(by_seed):
            arrays = {"images": labels.astype("U9"), "labels": labels}
            arrays["probabilities"] = x.astype("float32")
            name = f"{'abcd'[number]}-seed{seed}{_files.PREDICTIONS}"
            named = {f"test/{key}": value for key, value in arrays.items()}
            _files.write_arrays(folder / name, named)
    guess = np.bincount(labels).max() / len(labels)
    defaults = {"sizes": {"train": 9, "test": len(labels)}, "guess": guess}
    results = made(
        accuracies, "a", output=folder, class_names=names, **defaults, **options
    )
    for outcome in results.outcomes:
        name = f"{outcome.variant}-seed{outcome.seed}"
        object.__setattr__(outcome, "file", f"{name}.keras")
        predictions = f"{name}{_files.PREDICTIONS}"
        object.__setattr__(outcome, "predictions", predictions)
    return results


def guesses(seed=0, strength=1.0, classes=3, labels=LABELS):
    """Returns probabilities that are better than chance."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), classes))
    logits += strength * np.eye(classes)[labels]
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype("float32")


def constant(index, labels=LABELS):
    return np.tile(0.98 * np.eye(3)[index] + 0.02 / 3, (len(labels), 1))


def test_scores_by_class_are_means_of_those_of_scikit_learn(tmp_path):
    networks = [[guesses(seed) for seed in (1, 2, 3)], [guesses(4)] * 2]
    results = judged(tmp_path, *networks)
    frame = results.per_class()
    assert [*frame["variant"]] == [*"aaabbb"]
    assert [*frame["images"]] == [12, 9, 4] * 2
    reports = [
        metrics.classification_report(
            LABELS, x.argmax(axis=1), target_names=NAMES, output_dict=True
        )
        for x in networks[0]
    ]
    for _, row in frame[:3].iterrows():
        for key, name in (
            ("f1", "f1-score"),
            ("recall",) * 2,
            ("precision",) * 2,
        ):
            values = [report[row["class"]][name] for report in reports]
            assert row[key] == pytest.approx(np.mean(values))
            assert row[f"{key}_std"] == pytest.approx(np.std(values, ddof=1))
        index = NAMES.index(row["class"])
        areas = [
            metrics.roc_auc_score(LABELS == index, x[:, index])
            for x in networks[0]
        ]
        assert row["auc"] == pytest.approx(np.mean(areas))
    matrix = sum(
        metrics.confusion_matrix(LABELS, x.argmax(axis=1)) for x in networks[0]
    )
    assert (results.confusion("a").to_numpy() == matrix).all()
    assert [*results.confusion("a").index] == [*NAMES]


def test_differences_are_of_each_image_where_all_are_predicted(tmp_path):
    networks = [[guesses(x, 2.0) for x in y] for y in ((1, 2, 3), (4, 5, 6))]
    row = judged(tmp_path, *networks).rows[1]
    right = np.array(
        [[x.argmax(axis=1) == LABELS for x in y] for y in networks]
    )
    changes = right[1].astype(float) - right[0]
    assert row.difference == pytest.approx(changes.mean())
    assert row.interval == study.Measured.of(row.values, changes).interval
    assert row.over == "3 seeds and 25 test images"
    # One network has none, or those of other images.
    path = tmp_path / f"b-seed1{_files.PREDICTIONS}"
    with np.load(path) as stored:
        others = dict(stored) | {"test/images": LABELS[::-1].astype("U9")}
    _files.write_arrays(path, others)
    found = judged(tmp_path, *networks)
    _files.write_arrays(path, others)
    assert found.rows[1].over == "3 seeds, these 25 test images"
    path.unlink()
    found = judged(tmp_path, *networks)
    path.unlink()
    with pytest.warns(UserWarning, match="left out: .* is missing. The call"):
        rows = found.rows
    assert rows[1].over == "3 seeds, these 25 test images"


def test_images_of_one_patient_are_drawn_together(tmp_path):
    networks = [[guesses(x, 2.0) for x in y] for y in ((1, 2, 3), (4, 5, 6))]
    found = judged(tmp_path, *networks)
    patients = np.arange(25) % 7
    for path in tmp_path.glob(f"*{_files.PREDICTIONS}"):
        with np.load(path) as stored:
            arrays = dict(stored) | {"test/groups": patients.astype(str)}
        _files.write_arrays(path, arrays)
    changes = [
        (b.argmax(axis=1) == LABELS).astype(float)
        - (a.argmax(axis=1) == LABELS)
        for a, b in zip(*networks, strict=True)
    ]
    sums = pandas.DataFrame(np.array(changes).T).groupby(patients).sum()
    row, columns = found.rows[1], sums.to_numpy().T * 7 / 25
    assert row.difference == pytest.approx(np.mean(changes))
    sizes = np.bincount(patients).tolist()
    expected = study.Measured.of(row.values, columns, 25, sizes=sizes).interval
    assert row.interval == pytest.approx(expected)
    assert row.over == "3 seeds and 7 groups of test images"


def test_classes_without_images_have_no_scores(tmp_path):
    labels = np.repeat([0, 1], [12, 1])
    results = judged(tmp_path, [guesses(labels=labels)], labels=labels)
    frame = results.per_class().set_index("class")
    assert [*frame["images"]] == [12, 1, 0]
    assert frame.loc["cat", ["precision", "recall", "f1", "auc"]].isna().all()
    assert np.isfinite(frame.loc["bee", "auc"])
    assert results.confusion("a").loc["cat"].sum() == 0
    one = judged(tmp_path, [guesses(labels=labels[:12])], labels=labels[:12])
    assert one.per_class()["auc"].isna().all()
    assert describe_collapse(one) == ""


GOOD = guesses(5, 4.0)


@pytest.mark.parametrize(
    ("networks", "sentence"),
    [
        ([[GOOD], [GOOD]], ""),
        (
            [[GOOD], [constant(2)]],
            "b collapsed: it does no better than always predicting one",
        ),
        (
            [[GOOD] * 3, [GOOD, constant(2), GOOD]],
            "b collapsed in 1 of 3 runs: it does no",
        ),
        ([[GOOD], [guesses(6, -0.5)]], "b collapsed"),
        ([[GOOD], [GOOD * np.nan]], "its probabilities are not finite."),
    ],
    ids=["none", "constant", "one seed", "chance", "nan"],
)
def test_what_has_collapsed_is_said_first(networks, sentence, tmp_path):
    results = judged(tmp_path, *networks)
    described = describe_collapse(results)
    assert sentence in described and bool(sentence) == bool(described)
    assert results.verdict.startswith(described)


def test_nothing_is_claimed_of_networks_that_have_collapsed(tmp_path):
    better = [guesses(seed, 9.0) for seed in range(3)]
    usual = [guesses(seed, 1.5) for seed in range(3)]
    broken = [constant(0)] * 3
    assert (
        "b improved test accuracy by" in judged(tmp_path, usual, better).verdict
    )
    verdict = judged(tmp_path, usual, better, broken).verdict
    assert "c collapsed" in verdict
    assert "b improved" in verdict and "c worsened" not in verdict
    verdict = judged(tmp_path, broken, better).verdict
    assert "Differences from a cannot be judged. Train longer or" in verdict
    assert "improved" not in verdict


def test_calibration_is_that_of_scikit_learn(tmp_path, monkeypatch):
    few = judged(tmp_path, [guesses()]).calibration()
    assert [*few.columns] == ["variant", "seeds", "brier", "brier_std"]
    monkeypatch.setattr(predictions, "MANY_IMAGES", len(LABELS))
    networks = [guesses(seed, 2.0) for seed in (1, 2)]
    row = judged(tmp_path, networks).calibration().iloc[0]
    errors = [np.square(x - np.eye(3)[LABELS]) for x in networks]
    scores = [x.sum(axis=1).mean() for x in errors]
    assert row["brier"] == pytest.approx(np.mean(scores))
    assert row["brier_std"] == pytest.approx(np.std(scores, ddof=1))
    errors = []
    for x in networks:
        confidence, right = x.max(axis=1), x.argmax(axis=1) == LABELS
        curve = calibration_curve(
            right, confidence.astype(float), n_bins=15, strategy="quantile"
        )
        bins = reliability(x, LABELS)
        np.testing.assert_allclose(bins[["right", "confidence"]].T, curve)
        assert bins["images"].sum() == len(LABELS)
        assert set(bins["images"]) <= {1, 2, 3}
        gaps = bins["images"] * np.abs(np.subtract(*curve)) / len(LABELS)
        errors.append(gaps.sum())
    assert row["ece"] == pytest.approx(np.mean(errors))
    # All images are in one bin where all are equally likely.
    assert len(reliability(constant(0), LABELS)) == 1


# Found, of two classes.

TWO = np.repeat([0, 1], [30, 20])


def binary(folder, rule, *networks, validated=()):
    """Returns results of two classes, also for validation images."""
    options = {"labels": TWO, "names": ("healthy", "ill"), "threshold": rule}
    results = judged(folder, networks, **options)
    for seed, x in enumerate(validated):
        path = folder / f"a-seed{seed}{_files.PREDICTIONS}"
        with np.load(path) as stored:
            arrays = dict(stored)
        arrays |= {"validation/images": TWO, "validation/labels": TWO}
        arrays["validation/probabilities"] = x
        _files.write_arrays(path, arrays)
    return results


@pytest.mark.parametrize("rule", ["youden", "sensitivity=0.9", None])
def test_a_threshold_of_validation_images_is_judged_on_test_images(
    rule, tmp_path
):
    networks = [guesses(x, 1.5, 2, TWO) for x in (0, 1)]
    validated = [guesses(x, 1.5, 2, TWO) for x in (2, 3)]
    results = binary(tmp_path, rule, *networks, validated=validated)
    for row, x, y in zip(
        results.thresholds().to_dict("records"),
        networks,
        validated,
        strict=True,
    ):
        candidates = np.sort(y[:, 1])[::-1]
        recalls = [metrics.recall_score(TWO, y[:, 1] >= c) for c in candidates]
        if rule == "youden":
            sums = [
                metrics.balanced_accuracy_score(TWO, y[:, 1] >= c)
                for c in candidates
            ]
            assert row["threshold"] == candidates[np.argmax(sums)]
        elif rule:
            first = np.argmax(np.array(recalls) >= 0.9)
            assert row["threshold"] == candidates[first]
        else:
            assert row["threshold"] == 0.5
        answers = x[:, 1] >= row["threshold"]
        for name, label in (("sensitivity", 1), ("specificity", 0)):
            recall = metrics.recall_score(TWO, answers, pos_label=label)
            assert row[name] == pytest.approx(recall)
            count, z = np.sum(TWO == label), 1.959964
            center = (recall + z**2 / 2 / count) / (1 + z**2 / count)
            half = recall * (1 - recall) / count + z**2 / 4 / count**2
            half = z * np.sqrt(half) / (1 + z**2 / count)
            ends = row[f"{name}_low"], row[f"{name}_high"]
            assert ends == pytest.approx((center - half, center + half))


def design_effect(right, groups):
    """Returns Kish's design effect, by loops over groups."""
    sizes = [np.sum(groups == x) for x in np.unique(groups)]
    rates = [right[groups == x].mean() for x in np.unique(groups)]
    total, count, mean = len(right), len(sizes), right.mean()
    between = sum(
        m * (x - mean) ** 2 for m, x in zip(sizes, rates, strict=True)
    )
    within = sum(m * x * (1 - x) for m, x in zip(sizes, rates, strict=True))
    between, within = between / (count - 1), within / (total - count)
    mean_size = sum(m * m for m in sizes) / total
    usual = (total - mean_size) / (count - 1)
    rho = (between - within) / (between + (usual - 1) * within)
    return 1 + (mean_size - 1) * np.clip(rho, 0, 1)


def test_sensitivity_of_patients_has_an_interval_of_patients(tmp_path):
    results = binary(tmp_path, None, guesses(0, 1.0, 2, TWO))
    assert "design effect" not in describe_threshold(results)
    # Of the ill 4, 4, 5 and 7 images are of one patient.
    patients = np.repeat(np.arange(9), [6, 6, 6, 6, 6, 4, 4, 5, 7])
    path = tmp_path / f"a-seed0{_files.PREDICTIONS}"
    with np.load(path) as stored:
        arrays = dict(stored) | {"test/groups": patients.astype(str)}
    _files.write_arrays(path, arrays)
    results = dataclasses.replace(results)
    row = results.thresholds().to_dict("records")[0]
    right = arrays["test/probabilities"].argmax(axis=1) == TWO
    for name, label, count in (("sensitivity", 1, 4), ("specificity", 0, 5)):
        of_class = right[TWO == label].astype(float)
        effect = design_effect(of_class, patients[TWO == label])
        t = stats.t.ppf(0.975, count - 1)
        # Wilson's ends are where the test of a fraction is at its limit.
        for end in (row[f"{name}_low"], row[f"{name}_high"]):
            error = np.sqrt(end * (1 - end) * effect / len(of_class))
            assert abs(end - of_class.mean()) == pytest.approx(t * error)
    assert "from the design effect" in describe_threshold(results)


@pytest.mark.parametrize(("patients", "images"), [(20, 10), (50, 5)])
def test_intervals_of_patients_cover_a_sensitivity(patients, images):
    random, covered = np.random.default_rng(1), []
    groups = np.repeat(np.arange(patients), images)
    for _ in range(300):
        # A correlation of 1/2 inside a patient.
        scores = random.normal(size=(patients, 1))
        scores = (scores + random.normal(size=(patients, images))) / 2**0.5
        right = scores.ravel() < stats.norm.ppf(0.7)
        low, high = interval_of_fraction(right, groups)
        covered.append(low < 0.7 < high)
    assert 0.92 < np.mean(covered) < 0.99
    # One patient tells nothing; nor do patients who are all alike say more
    # than their number.
    assert interval_of_fraction(right, 0 * groups) == (0, 1)
    low, high = interval_of_fraction(np.ones_like(right), groups)
    quantile = stats.t.ppf(0.975, patients - 1) ** 2
    assert high == pytest.approx(1)
    assert low == pytest.approx(patients / (patients + quantile))


def test_a_threshold_needs_validation_images_and_two_classes(pets, tmp_path):
    results = binary(tmp_path, "youden", guesses(0, 1.0, 2, TWO))
    assert [*results.thresholds()["threshold"]] == [0.5]
    with pytest.raises(ValueError, match='"youden", or a minimum sensitivity'):
        study.Classification(pets, threshold="0.3")
    task = study.Classification("mnist5k", threshold="sensitivity=0.95")
    with pytest.raises(ValueError, match="two classes. Received: "):
        task.load(RECIPE)
