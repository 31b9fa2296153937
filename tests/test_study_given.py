"""Predictions of any program as results: tables, intervals, page."""

import keras
import numpy as np
import pytest

from cbam_keras import cli, study

metrics = pytest.importorskip("sklearn.metrics")
pandas = pytest.importorskip("pandas")
stats = pytest.importorskip("scipy.stats")
pytestmark = pytest.mark.usefixtures("undrawn")

NAMES = ["healthy", "blight", "rust"]
LABELS = np.repeat([0, 1, 2], [40, 30, 20])


def guesses(seed, strength):
    """Returns probabilities that are better than chance."""
    logits = np.random.default_rng(seed).normal(size=(len(LABELS), 3))
    powers = np.exp(logits + strength * np.eye(3)[LABELS])
    return powers / powers.sum(axis=1, keepdims=True)


PLAIN = [guesses(seed, 1) for seed in range(5)]
CBAM = [guesses(seed, 2) for seed in range(5, 10)]
GIVEN = {"plain": PLAIN, "cbam": CBAM}


def test_all_numbers_are_those_of_other_libraries():
    results = study.results_of(GIVEN, LABELS, class_names=NAMES)
    plain, cbam = results.rows
    right = [[x.argmax(axis=1) == LABELS for x in y] for y in (PLAIN, CBAM)]
    changes = np.subtract(*np.array(right[::-1], float))
    assert cbam.values == pytest.approx(np.mean(right[1], axis=1))
    assert cbam.difference == pytest.approx(changes.mean())
    assert cbam.interval == study.Measured.of(cbam.values, changes).interval
    assert cbam.over == "5 seeds and 90 test examples"
    assert results.verdict.startswith("CBAM improved test accuracy by")
    frame = results.per_class()
    for variant, runs in GIVEN.items():
        scores = np.mean(
            [
                metrics.f1_score(LABELS, x.argmax(axis=1), average=None)
                for x in runs
            ],
            axis=0,
        )
        found = frame[frame["variant"] == variant]
        assert found["f1"].tolist() == pytest.approx(scores)
        assert found["class"].tolist() == NAMES
    matrix = sum(metrics.confusion_matrix(LABELS, x.argmax(1)) for x in CBAM)
    assert (results.confusion("cbam").to_numpy() == matrix).all()


def test_other_measures_and_groups_count():
    found = study.results_of(GIVEN, LABELS, measure="auc").rows[1]
    areas = metrics.roc_auc_score(LABELS, CBAM[2], multi_class="ovr")
    assert found.values[2] == pytest.approx(areas)
    patients = np.arange(len(LABELS)) % 8
    found = study.results_of(GIVEN, LABELS, groups=patients).rows[1]
    assert found.over == "5 seeds and 8 groups of test examples"


def pairs(rows, runs):
    """Returns runs as tuples of indices and predictions."""
    return {x: [*zip(rows * 2, y, strict=True)] for x, y in runs.items()}


@pytest.mark.parametrize(
    "say",
    [
        lambda rows, runs: (pairs(rows, runs), 3),
        lambda rows, runs: (pairs(rows, runs), True),
        lambda rows, runs: (runs, rows),
    ],
    ids=["number", "true", "indices"],
)
def test_folds_are_corrected_for_shared_images(say):
    rows = [np.arange(fold, 90, 3) for fold in range(3)]
    runs = {
        name: [y[x % 2][rows[x]] for x in (0, 1, 2)]
        + [y[x][rows[x]] for x in (0, 1, 2)]
        for name, y in GIVEN.items()
    }
    given, said = say(rows, runs)
    found = study.results_of(given, LABELS, folds=said).rows[1]
    folds = pairs(rows, runs)
    assert found.over == "3 folds x 2 seeds"
    accuracies = [
        [np.mean(p.argmax(1) == LABELS[r]) for r, p in x]
        for x in folds.values()
    ]
    differences = np.subtract(*accuracies[::-1])
    error = np.sqrt((1 / 6 + 1 / 2) * differences.var(ddof=1))
    expected = stats.t(5, differences.mean(), error).interval(0.95)
    assert found.interval == pytest.approx(expected)


AGES = np.random.default_rng(3).gamma(9, 5, 80)
OLD, NEW = (
    [AGES * np.random.default_rng(x).normal(1, scale, 80) for x in seeds]
    for scale, seeds in ((0.4, range(4)), (0.2, range(5, 9)))
)


def test_numbers_are_judged_by_their_absolute_errors():
    results = study.results_of({"old": OLD, "new": NEW}, AGES)
    old, new = results.rows
    errors = np.abs([OLD, NEW] - AGES)
    assert new.values == pytest.approx(errors[1].mean(axis=1))
    # An analysis of variance in two ways, without pseudo-observations.
    changes = errors[1] - errors[0]
    by_seed, by_row = changes.mean(axis=1), changes.mean(axis=0)
    rest = changes - by_seed[:, None] - by_row + changes.mean()
    left = np.square(rest).sum() / (3 * 79)
    seeds, rows = by_seed.var(ddof=1) / 4, (by_row.var(ddof=1) - left / 4) / 80
    degrees = (seeds + rows) ** 2 / (seeds**2 / 3 + rows**2 / 79)
    student = stats.t(degrees, changes.mean(), np.sqrt(seeds + rows))
    assert new.interval == pytest.approx(student.interval(0.95))
    assert rows > 0 and new.over == "4 seeds and 80 test examples"
    run = results.runs[-1]
    for key, function in {
        "rmse": metrics.root_mean_squared_error,
        "r2": metrics.r2_score,
    }.items():
        expected = function(AGES, NEW[3])
        assert run.metrics[key] == pytest.approx(expected)
    guess = np.abs(AGES - np.median(AGES)).mean()
    assert results.guess == pytest.approx(guess)
    frame = results.predictions("new", 3)
    assert [*frame] == ["image", "label", "number"]
    assert frame["number"].to_numpy() == pytest.approx(NEW[3])


def test_a_measure_of_ones_own_and_several_values_for_each_example():
    targets = np.stack([AGES, AGES**2], axis=1)
    worse = targets + 20
    median = metrics.median_absolute_error
    results = study.results_of(
        {"a": [targets + 1] * 3, "b": [worse] * 3},
        targets,
        task="regression",
        measure=median,
    )
    assert results.rows[1].values == pytest.approx([median(targets, worse)] * 3)
    assert "test median absolute error" in str(results)
    constant = study.results_of({"a": [AGES * 0 + 5]}, AGES).verdict
    assert constant.startswith("No network beats the constant baseline")


def test_scores_need_no_labels():
    dice = [np.clip(x / 100, 0, 1) for x in NEW]
    given = {"plain": dice, "cbam": [x * 0.9 for x in dice]}
    measure = study.Measure("dice", "Dice")
    results = study.results_of(given, task="scores", measure=measure)
    expected = 0.9 * np.mean(dice, axis=1)
    assert results.rows[1].values == pytest.approx(expected)
    assert "CBAM worsened Dice by" in results.verdict
    assert "percentage points compared with plain" in results.verdict
    halves = [np.arange(40), np.arange(40, 80)]
    parts = {"a": [dice[0][x] for x in halves]}
    pairs = {"a": [*zip(halves, parts["a"], strict=True)]}
    for folded, folds in ((parts, halves), (pairs, 2)):
        found = study.results_of(folded, task="scores", folds=folds)
        assert found.test_images == 80
    note = "The CI cannot account for failures too rare to appear in these "
    note += "examples."
    assert note in results.tables()[0].note
    many = {name: [np.tile(x, 13) for x in y] for name, y in given.items()}
    many = study.results_of(many, task="scores", measure=measure)
    assert note[:40] not in many.tables()[0].note
    alone = study.results_of({"a": [*dice[0]]}, task="scores")
    assert alone.rows[0].mean == pytest.approx(dice[0].mean())


@pytest.mark.parametrize(
    ("given", "bold"),
    [
        ({"a": PLAIN, "b": CBAM}, "b"),
        ({"b": CBAM, "a": PLAIN}, "b"),
        ({"a": PLAIN, "b": PLAIN[::-1]}, None),
        ({"b": CBAM}, None),
    ],
)
def test_latex_is_bold_where_the_best_is_significant(given, bold):
    results = study.results_of(given, LABELS)
    rows = results.latex().splitlines()
    assert [x[0] for x in rows if r"\textbf" in x] == [bold] * bool(bold)
    if bold and next(iter(given)) == bold:
        low, high = results.rows[1].interval
        assert f"[$-${-100 * low:.2f}, $-${-100 * high:.2f}]" in rows[-3]


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ({"a": PLAIN[0]}, np.eye(3)[LABELS]),
        ({"a": pandas.DataFrame(PLAIN[0])}, np.array(NAMES)[LABELS]),
        ({"a": PLAIN[0].tolist()}, LABELS.tolist()),
        ({"a": tuple(PLAIN[:1])}, pandas.Series(LABELS)),
    ],
    ids=["one-hot", "data frame, names", "lists", "tuple of runs"],
)
def test_data_frames_lists_and_one_hot_labels_are_read(given, labels):
    results = study.results_of(given, labels, class_names=NAMES)
    accuracy = metrics.accuracy_score(LABELS, PLAIN[0].argmax(axis=1))
    assert results.rows[0].values == pytest.approx((accuracy,))


@pytest.mark.every_backend
def test_tensors_and_two_classes_are_read():
    second = (LABELS[:70] == 1) * 0.4 + PLAIN[0][:70, 1] / 2
    given = {"a": [keras.ops.convert_to_tensor(second)], "b": [second]}
    results = study.results_of(given, LABELS[:70])
    area = metrics.average_precision_score(LABELS[:70], second)
    found = results.per_class()["average_precision"]
    assert found[1] == pytest.approx(area, abs=1e-6)
    assert results.rows[1].difference == 0


LOGITS = np.log(PLAIN[0])
FOLD = np.arange(45)


def fold_of(rows):
    """Returns two folds, the first of wrong indices."""
    return [(rows, PLAIN[0][:45]), (FOLD + 45, PLAIN[0][45:])]


HALVES = [(x, PLAIN[0][x]) for x in (FOLD, FOLD + 45)]


@pytest.mark.parametrize(
    ("given", "options", "error", "words"),
    [
        ([PLAIN], {}, TypeError, "mapping of the names"),
        ({"a": []}, {}, ValueError, "must not be empty"),
        ({"a/b": PLAIN}, {}, ValueError, "valid file names"),
        ({"a": LOGITS}, {}, ValueError, "pass logits=True"),
        ({"a": PLAIN[0] * 2}, {}, ValueError, "pass logits=True"),
        ({"a": PLAIN[0] * 0.9}, {}, ValueError, "pass logits=True"),
        (
            {"a": np.array(PLAIN)},
            {},
            ValueError,
            r"must be a list.*\[\*array\]",
        ),
        (
            {"a": PLAIN[0][:50]},
            {},
            ValueError,
            r"cover all 90 .*unless `folds`",
        ),
        (
            {"a": np.ma.masked_less(PLAIN[0], 0.1)},
            {},
            ValueError,
            "no masked values",
        ),
        (GIVEN, {"groups": [None] * 90}, ValueError, "Received: None or NaN"),
        (GIVEN, {"groups": [np.nan] * 90}, ValueError, "Received: None or NaN"),
        (
            GIVEN,
            {"class_names": [2, 1, 0]},
            ValueError,
            "as text, labels.astype.str.",
        ),
        (
            GIVEN,
            {"class_names": ["1", "2", "3"]},
            ValueError,
            "must not be numbers",
        ),
        (
            *(GIVEN, {"class_names": [2, 1, 0], "labels": LABELS.astype("O")}),
            ValueError,
            "must not be numbers",
        ),
        (
            {"a": PLAIN, "b": PLAIN[:2]},
            {},
            ValueError,
            'Received: 2 of "b" and 5 of "a"',
        ),
        ({"a": HALVES}, {}, ValueError, "as folds=5"),
        (
            {"a": HALVES[0]},
            {},
            ValueError,
            "cover all 90 .*unless `folds`",
        ),
        ({"a": HALVES[:1]}, {"folds": 2}, ValueError, "test each example once"),
        ({"a": HALVES}, {"folds": 3}, ValueError, "test each example once"),
        ({"a": PLAIN}, {"folds": 3}, ValueError, "list of tuples"),
        (
            {"a": HALVES, "b": HALVES[::-1]},
            {"folds": True},
            ValueError,
            "or other folds",
        ),
        (
            {"a": fold_of(FOLD * 0)},
            {"folds": 2},
            ValueError,
            "1 of them different, and 45",
        ),
        ({"a": fold_of(FOLD - 1)}, {"folds": 2}, ValueError, "from 0 to 89"),
        (
            {"a": fold_of(FOLD + 46)},
            {"folds": 2},
            ValueError,
            "in fold 0 an array of",
        ),
        (
            {"a": fold_of(FOLD[1:])},
            {"folds": 2},
            ValueError,
            "44 of them .*, and 45",
        ),
        (GIVEN, {"baseline": "c"}, ValueError, "`baseline` must be one of"),
        (GIVEN, {"measure": "r2"}, ValueError, "`measure` must be one of"),
        (GIVEN, {"task": "segmentation"}, ValueError, "`task` must be one of"),
        (GIVEN, {"task": "scores"}, ValueError, "except for scores"),
        (GIVEN, {"labels": None}, ValueError, 'task="scores"'),
        (
            GIVEN,
            {"labels": None, "task": "scores"},
            ValueError,
            r"of shape \(90,\)",
        ),
        (
            {"a": PLAIN[0][:, 0] * 9},
            {"labels": LABELS == 1},
            ValueError,
            "must be probabilities or these classes",
        ),
        (
            {"a": LOGITS},
            {"labels": LOGITS},
            ValueError,
            'pass task="regression"',
        ),
        (
            {"a": FOLD / 9},
            {"labels": FOLD / 0.7, "measure": "auc"},
            ValueError,
            "one of",
        ),
        (
            {"a": FOLD * np.nan},
            {"labels": FOLD / 7},
            ValueError,
            "must be finite numbers",
        ),
        (
            {"a": FOLD / 9},
            {"labels": FOLD * np.nan},
            ValueError,
            "must be finite numbers",
        ),
        (
            {"a": FOLD},
            {"labels": FOLD / 7, "measure": np.sum},
            ValueError,
            "_score",
        ),
        (GIVEN, {"class_names": ["a", "b"]}, ValueError, "name each column"),
        (GIVEN, {"labels": LABELS + 1}, ValueError, "integers from 0 to 2"),
        (GIVEN, {"labels": LABELS / 2}, ValueError, "integers from 0 to 2"),
        (
            GIVEN,
            {"labels": np.array(NAMES)[LABELS]},
            ValueError,
            "`class_names` must be",
        ),
        (
            GIVEN,
            {"groups": [1, 2]},
            ValueError,
            r"90 examples. Received: shape \(2,\)",
        ),
    ],
)
def test_what_has_no_meaning_or_two_is_refused(given, options, error, words):
    options = {"labels": LABELS, **options}
    with pytest.raises(error, match=words):
        study.results_of(given, **options)


def test_a_tuple_of_whole_numbers_is_several_runs():
    answers = [x.argmax(axis=1) == 1 for x in PLAIN[:2]]
    runs = tuple(x.astype(int) for x in answers)
    truth = LABELS == 1
    found = study.results_of({"a": runs}, truth).rows[0]
    assert found.values == pytest.approx([(x == truth).mean() for x in answers])
    numbers = tuple(LABELS * 3 + x for x in (1, 2))
    found = study.results_of({"a": numbers}, LABELS * 3, task="regression")
    assert found.rows[0].values == (1, 2)


def test_a_square_list_of_lists_has_two_meanings():
    square = [[0.2, 0.8], [0.7, 0.3]]
    with pytest.raises(ValueError, match="which could be either"):
        study.results_of({"a": square}, [0, 1])


def test_a_written_folder_of_numbers_reads_as_the_same_results(tmp_path):
    file = tmp_path / "ages.npz"
    np.savez(file, labels=AGES, old=OLD, new=NEW)
    words = ["report", str(file), "--output", str(tmp_path / "out")]
    assert cli.main(words) == 0
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    results = study.Results.read(tmp_path / "out")
    assert results.verdict[:60] in page and "test RMSE" in page
    assert "cannot be read" not in page and "0 classes" not in page
    expected = study.results_of({"old": OLD, "new": NEW}, AGES)
    assert results.rows[1].interval == expected.rows[1].interval


def test_a_written_folder_reads_as_the_same_results(tmp_path):
    results = study.results_of(GIVEN, LABELS, class_names=NAMES)
    page = results.write(tmp_path / "out").read_text(encoding="utf-8")
    for text in ("Confusion", "ROC", "Calibration", results.verdict[:40]):
        assert text in page
    for text in ("cannot be read", "Recipe", "What the networks look at"):
        assert text not in page
    found = study.Results.read(tmp_path / "out")
    assert found.verdict == results.verdict
    pandas.testing.assert_frame_equal(found.per_class(), results.per_class())
    with pytest.raises(ValueError, match="new or empty"):
        results.write(tmp_path / "out")
