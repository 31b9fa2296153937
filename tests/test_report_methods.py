"""The methods paragraph: each clause is held against what the numbers used."""

import dataclasses
import itertools

import numpy as np
import pytest

from cbam_keras import study
from cbam_keras.report.methods import (
    as_words,
    describe_intervals,
    describe_methods,
    describe_option,
    name_epoch,
)
from cbam_keras.report.summary import summarize

pytest.importorskip("sklearn")
EXAMPLES, GROUPS = 240, 24
MEASURES = ("test_accuracy", "auc", "macro_f1", "balanced_accuracy", "ece")


def predicted(measure, runs, groups, folds=None):
    """Returns results of two networks whose answers are drawn."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, EXAMPLES)
    kinds = {}
    for name, strength in (("none", 1.0), ("cbam", 1.5)):
        kinds[name] = []
        for run in range(runs):
            logits = strength * (2 * labels - 1) + rng.normal(0, 2, EXAMPLES)
            answers = 1 / (1 + np.exp(-logits))
            indices = np.arange(run, EXAMPLES, runs)
            whole = (indices, answers[indices]) if folds else answers
            kinds[name].append(whole)
    owners = np.arange(EXAMPLES) % GROUPS if groups else None
    return study.results_of(
        kinds, labels, measure=measure, groups=owners, folds=folds
    )


def sentence_and_row(results):
    summary = summarize(results, results.content)
    return describe_intervals(summary), results.rows[1]


@pytest.mark.parametrize(
    ("measure", "groups", "runs"),
    [*itertools.product(MEASURES, (False, True), (1, 3))],
)
def test_clauses_say_what_the_interval_was_computed_of(measure, groups, runs):
    text, row = sentence_and_row(predicted(measure, runs, groups))
    if row.interval is None:
        assert text == ""
        # No interval of the ECE was proved.
        assert measure == "ece"
        return
    # Examples, or groups of them, are the columns of what was analyzed.
    assert row.columns >= GROUPS
    assert ("crossed random effects" in text) == (runs > 1)
    assert ("Satterthwaite" in text) == (runs > 1)
    assert ("trained networks only" in text) == (runs == 1)
    # Whole groups are the columns of what is sampled, not examples.
    assert (row.columns <= GROUPS + 2) == groups
    assert ("24 groups of test" in text) == groups
    is_a_mean = measure == "test_accuracy"
    assert ("pseudo-value of the" in text) != is_a_mean
    assert ("two pseudo-observations" in text) == is_a_mean
    assert ("DeLong" in text) == (measure == "auc")


def test_folds_say_the_rule_of_folds_and_nothing_of_images():
    text, row = sentence_and_row(predicted("auc", 5, False, folds=5))
    assert row.by_images == 0
    assert "Nadeau and Bengio" in text and "pseudo" not in text
    assert "Satterthwaite" not in text


@pytest.mark.parametrize(
    ("names", "question"),
    [
        (["cbam"], "How good are the predictions of cbam?"),
        (["a", "b"], "How does b compare with a?"),
        (["cbam", "none"], "How does cbam compare with no attention?"),
        (["none", "b", "c"], "How do b and c compare with no attention?"),
        (["a", "b", "c", "d"], "How do b, c and d compare with a?"),
        ([*"abcde"], "How do the predictions of 5 networks compare?"),
    ],
    ids=lambda x: "".join(x),
)
def test_the_title_of_predictions_names_the_networks(names, question, tmp_path):
    rng = np.random.default_rng(0)
    tested = {name: rng.integers(0, 2, 20) for name in names}
    baseline = "none" if "none" in names else None
    results = study.results_of(
        {name: np.eye(2)[answers] for name, answers in tested.items()},
        rng.integers(0, 2, 20),
        baseline=baseline,
    )
    page = results.write(tmp_path / "out").read_text("utf-8")
    assert f"<h1>{question}</h1>" in page
    assert "<title>Comparison of predictions</title>" in page


def test_another_rule_changes_the_sentence(monkeypatch):
    results = predicted("auc", 3, True)
    text, row = sentence_and_row(results)
    assert "24 groups" in text
    # As if groups had been ignored, and runs alone were random.
    alone = dataclasses.replace(row, over="3 runs, these 240 test examples")
    rows = (results.rows[0], alone)
    monkeypatch.setattr(type(results), "rows", rows)
    text, _ = sentence_and_row(results)
    assert "24 groups" not in text and "pseudo-value" not in text
    assert "over 3 runs, on these 240 test examples" in text


def test_methods_have_no_identifiers_and_no_doubled_ends():
    results = predicted("auc", 3, True)
    for sentence in describe_methods(summarize(results, results.content)):
        assert sentence[0].isupper() and sentence.endswith(".")
        assert "_" not in sentence and ".." not in sentence


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("identity_init", True), "identity initialization"),
        (("identity_init", False), "no identity initialization"),
        (
            ("spatial_batch_norm", True),
            "batch normalization in the spatial attention",
        ),
        (("kernel_size", 7), "kernel size 7"),
        (("reduction_ratio", 4), "reduction ratio 4"),
        (("hidden_units", None), "default hidden units"),
        (("order", "channel_first"), "order channel first"),
        (("pool_types", ["avg", "max"]), "pooling avg and max"),
        (("learning_rate", 0.01), "learning rate 0.01"),
        (
            ("kernel_regularizer", {"class_name": "L2", "config": {"l2": 1}}),
            "kernel regularizer L2",
        ),
        (("stages", "top"), "after the last feature map"),
        (("stages", "last"), "in the last stage"),
        (("stages", "last 2"), "in the last 2 stages"),
        (("stages", "2"), "in stage 2"),
        (("stages", "1,3"), "in stages 1, 3"),
    ],
    ids=lambda x: str(x),
)
def test_options_are_words(option, words):
    assert describe_option(*option) == words


def test_classes_and_metrics_are_words():
    assert as_words("RandomFlip") == "random flip"
    assert as_words("random_resized_crop") == "random resized crop"
    assert name_epoch("best val_accuracy") == (
        "the epoch with the best validation accuracy"
    )
