"""What people hand in: forms of probabilities, labels, classes, logits."""

import numpy as np
import pytest

from cbam_keras import study

metrics = pytest.importorskip("sklearn.metrics")
pytest.importorskip("pandas")
pytestmark = pytest.mark.usefixtures("undrawn")

rng = np.random.default_rng(0)
TWO = rng.integers(0, 2, 80)
SCORES = 1 / (1 + np.exp(-3 * (TWO - 0.5) - rng.normal(size=80)))
THREE = rng.integers(0, 3, 80)
LOGITS = rng.normal(size=(80, 3)) + 1.5 * np.eye(3)[THREE]
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
NAMES = ["cat", "dog", "cow"]


def area_of(results):
    """Returns the AUC of the first network, of the last class."""
    return results.per_class()["auc"].iloc[-1]


@pytest.mark.parametrize(
    "labels",
    [
        *(TWO, TWO.astype(float), TWO[:, None], TWO.astype(bool)),
        *(TWO.astype("float32")[:, None], np.eye(2)[TWO]),
    ],
    ids=["whole", "float", "(N, 1)", "bool", "float (N, 1)", "one-hot"],
)
@pytest.mark.parametrize(
    "scores",
    [SCORES, SCORES[:, None], np.stack([1 - SCORES, SCORES], axis=1)],
    ids=["(N,)", "(N, 1)", "(N, 2)"],
)
def test_two_classes_in_all_forms(scores, labels):
    results = study.results_of({"a": scores}, labels)
    accuracy = metrics.accuracy_score(TWO, SCORES > 0.5)
    assert results.rows[0].mean == pytest.approx(accuracy)
    assert area_of(results) == pytest.approx(metrics.roc_auc_score(TWO, SCORES))
    assert results.measures[0].key == "test_accuracy"


def test_probabilities_keep_their_precision(tmp_path):
    saturated = 1 - 1e-9 * (1 - SCORES)
    results = study.results_of({"a": saturated}, TWO, measure="auc")
    expected = metrics.roc_auc_score(TWO, saturated)
    assert metrics.roc_auc_score(TWO, np.float32(saturated)) != expected
    assert results.rows[0].mean == pytest.approx(expected)
    results.write(tmp_path / "out")
    assert area_of(study.Results.read(tmp_path / "out")) == expected


def test_sums_near_one_are_normalized_once_and_said(tmp_path):
    rounded = np.round(PROBS, 3)
    rounded[0] = 0.33
    results = study.results_of({"a": PROBS, "b": rounded}, THREE)
    kept = results.tested["b"][study.Run(0)].probabilities
    assert kept == pytest.approx(rounded / rounded.sum(axis=1, keepdims=True))
    (note,) = results.content["notes"]
    assert note.startswith(
        'Probabilities of "b" did not sum to 1 (0.9900 to 1.0'
    )
    assert note in str(results)
    text = results.write(tmp_path / "out").read_text(encoding="utf-8")
    assert "did not sum to 1 (0.9900 to 1.0" in text
    # Of floats alone nothing is said.
    plain = study.results_of({"a": np.float32(PROBS)}, THREE)
    assert plain.content["notes"] == []


ANSWERS = PROBS.argmax(axis=1)


@pytest.mark.parametrize(
    ("answers", "labels", "names"),
    [
        (ANSWERS, THREE, None),
        (ANSWERS.astype(float), THREE, None),
        (np.array(NAMES)[ANSWERS], np.array(NAMES)[THREE], None),
        (np.array(NAMES)[ANSWERS], THREE, NAMES),
        (ANSWERS, np.array(NAMES)[THREE], NAMES),
    ],
    ids=["whole", "float", "names", "names of whole", "whole of names"],
)
def test_answers_without_probabilities(answers, labels, names, tmp_path):
    results = study.results_of({"a": answers}, labels, class_names=names)
    accuracy = metrics.accuracy_score(THREE, ANSWERS)
    assert results.rows[0].mean == pytest.approx(accuracy)
    frame = results.per_class().set_index("class")
    expected = metrics.f1_score(THREE, ANSWERS, average=None)
    order = [0, 1, 2] if names or answers.dtype.kind != "U" else [0, 2, 1]
    assert frame["f1"].to_numpy() == pytest.approx(expected[order])
    # No probabilities, no curve.
    assert frame["auc"].isna().all()
    text = results.write(tmp_path / "out").read_text(encoding="utf-8")
    assert "gives classes without probabilities" in text
    assert "cannot be read" not in text and "<h2>Calibration<" not in text


def test_answers_of_many_classes_need_no_names():
    labels = np.arange(500) % 250
    answers = np.where(np.arange(500) < 100, 499, labels)
    with pytest.raises(ValueError, match="`task` must be given"):
        study.results_of({"top-1": answers}, labels)
    results = study.results_of(
        {"top-1": answers}, labels, task="classification"
    )
    assert results.rows[0].mean == pytest.approx(0.8)
    assert len(results.class_names) == 251


@pytest.mark.parametrize(
    ("logits", "labels", "options"),
    [
        (LOGITS, THREE, {}),
        (LOGITS + 300, THREE, {}),
        (np.log(SCORES / (1 - SCORES))[:, None], TWO, {}),
    ],
    ids=["softmax", "large", "sigmoid"],
)
def test_logits_are_said_and_never_guessed(logits, labels, options):
    results = study.results_of({"a": logits}, labels, logits=True)
    expected = PROBS if labels is THREE else np.stack([1 - SCORES, SCORES], 1)
    kept = results.tested["a"][study.Run(0)].probabilities
    assert kept == pytest.approx(expected)
    with pytest.raises(ValueError, match="logits=True"):
        study.results_of({"a": logits}, labels)


def test_several_labels_are_those_of_scikit_learn(tmp_path):
    labels = rng.integers(0, 2, (80, 4))
    scores = 1 / (1 + np.exp(-2 * labels + 1 - rng.normal(size=(80, 4))))
    given = {"a": scores, "b": scores**2}
    results = study.results_of(given, labels, multi_label=True)
    assert results.measures[0].key == "average_precision"
    for key, function in {
        "average_precision": metrics.average_precision_score,
        "auc": metrics.roc_auc_score,
    }.items():
        found = results.values("b", key)[study.Run(0)]
        assert found == pytest.approx(function(labels, scores**2))
    found = results.values("b", "macro_f1")[study.Run(0)]
    answers = scores**2 > 0.5
    expected = metrics.f1_score(labels, answers, average="macro")
    assert found == pytest.approx(expected)
    logits = {"a": np.log(scores / (1 - scores))}
    of_logits = study.results_of(
        logits, labels, multi_label=True, logits=True, measure="auc"
    )
    assert of_logits.rows[0].mean == pytest.approx(
        metrics.roc_auc_score(labels, scores)
    )
    page = results.write(tmp_path / "out").read_text(encoding="utf-8")
    assert "cannot be read" not in page
    assert study.Results.read(tmp_path / "out").verdict == results.verdict
    # Classes that all examples have, or none, have no curve.
    few = labels * [1, 0, 1, 0] + [0, 0, 0, 1]
    areas = metrics.roc_auc_score(labels[:, ::2], scores[:, ::2])
    assert study.compute("auc", scores, few) == pytest.approx(areas)


@pytest.mark.parametrize(
    ("given", "labels", "options", "words"),
    [
        (
            np.where(TWO, ANSWERS, -1),
            THREE,
            {},
            r"without a prediction or label \(-1\)",
        ),
        (PROBS, np.where(TWO, THREE, -1), {}, r"without a prediction \(-1\)"),
        (PROBS, np.eye(3)[THREE] + np.eye(3)[0], {}, "`labels` must be the"),
        (PROBS, np.ones((80, 3)), {}, r"multi_label=True \(--multi-label\)"),
        (PROBS, THREE, {"multi_label": True}, "must be 0 and 1 for each"),
        (
            PROBS * 3,
            np.eye(3)[THREE],
            {"multi_label": True},
            "float64 from 0.0121",
        ),
        *(
            (PROBS, np.full((80, 3), held), {"multi_label": True}, words)
            for held, words in (
                (0, "others lack. Received: 80 images each with the same 0 cl"),
                (1, "others lack. Received: 80 images each with the same 3 cl"),
            )
        ),
        (PROBS, 0 * THREE, {"measure": "auc"}, "80 images of class 0 alone"),
        (ANSWERS, THREE, {"measure": "auc"}, "classes without probabilities"),
        (PROBS, np.array(NAMES)[THREE], {}, "`class_names` must be given"),
        (LOGITS[:, 0], LOGITS[:, 1], {"logits": True}, "or `logits`"),
        (PROBS.astype(complex), THREE, {}, "complex128"),
        (np.array(NAMES)[ANSWERS], THREE, {}, "Received: c[ao][tw], "),
    ],
)
def test_what_is_no_such_form_is_refused(given, labels, options, words):
    with pytest.raises(ValueError, match=words):
        study.results_of({"a": given}, labels, **options)
