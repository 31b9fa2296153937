"""The studies on when attention helps: their task, what is stored, tables."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from benchmarks.when_it_helps import recompute, results, storing, tables
from benchmarks.when_it_helps.titles import TITLES
from cbam_keras import study
from cbam_keras.study.results.statistics import Measured

LONGER = "none-20-epochs", "none-longer"
RESULTS = {
    "format": 4,
    "kind": "train",
    "command": "cbam-keras train",
    "source": {"name": "/home/me/photographs"},
    "settings": {
        "recipe": {},
        "variants": {"none": {}},
        "data": {"seed0": {"name": "photographs", "sizes": {"test": 100}}},
    },
    "measures": [{"key": "test_accuracy", "heading": "test accuracy"}],
    "baseline": "none",
    "labels": {},
    "seeds": [0],
    "networks": [],
}


def trained(accuracy):
    """Returns the content of an output folder with one trained network."""
    network = {"variant": "none", "seed": 0, "status": "finished", "file": "x"}
    history = [{"val_accuracy": 0.5}, {"val_accuracy": accuracy}]
    metrics = {"test_accuracy": accuracy}
    return RESULTS | {
        "networks": [{**network, "metrics": metrics, "history": history}]
    }


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Returns a function that stores runs by name, and reads the results."""
    monkeypatch.setattr(results, "STORED", tmp_path / "stored.jsonl")
    results.STORED.touch()

    def store(**runs):
        for name, content in runs.items():
            folder = tmp_path / name.replace("_", "-")
            folder.mkdir(exist_ok=True)
            (folder / "results.json").write_text(json.dumps(content))
        storing.store(tmp_path)
        (content,) = results.stored().values()
        return results.results_of(content)

    return store


def test_a_study_that_is_stored_again_replaces_the_one_before(stored):
    stored(bccd=trained(0.25))
    assert [row.values for row in stored(bccd=trained(0.75)).rows] == [(0.75,)]


def test_the_network_trained_for_longer_is_compared_in_the_same_study(stored):
    for _ in range(2):
        found = stored(bccd=trained(0.5), bccd_longer=trained(0.75))
        rows = {row.variant: row for row in found.rows}
        assert [*rows] == ["none", "none-longer"]
        assert rows["none-longer"].difference == 0.25


def test_seeds_without_a_trained_network_are_not_stored(stored):
    untrained = RESULTS | {"seeds": [0, 1, 2]}
    found = stored(bccd=trained(0.5) | {"seeds": [0, 1, 2]}, camvid=untrained)
    assert found.seeds == (0,)


def test_no_place_on_a_machine_is_stored(stored):
    stored(bccd=trained(0.5))
    assert "/home/me" not in results.STORED.read_text()


def test_no_verdict_is_stored(stored):
    stored(bccd=trained(0.5) | {"verdict": "none is best, by a former test"})
    assert "former test" not in results.STORED.read_text()


def test_what_intervals_about_other_images_need_is_stored(
    stored, tmp_path, monkeypatch
):
    changes = [[1.0, 0.0, 0.0, -1.0], [1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0]]
    measured = Measured.of([0.5, 0.6, 0.7], np.array(changes))
    compared = {"none": Measured(), "cbam": measured}
    monkeypatch.setattr(
        study.Results,
        "read",
        lambda _: SimpleNamespace(compared=lambda: compared),
    )
    (tmp_path / "bccd").mkdir()
    (tmp_path / "bccd/study.json").touch()
    stored(bccd=trained(0.5))
    (content,) = results.stored().values()
    kept = {"pairs": 3, "columns": 6, "by_seeds": measured.by_seeds}
    assert content["errors"] == {
        "cbam": kept | {"by_images": measured.by_images}
    }


@pytest.mark.parametrize("pairs", [(3, 2), (2, 3)])
def test_variances_of_the_call_with_most_seeds_are_kept(pairs):
    old, new = (
        {
            "settings": {"variants": {}, "data": {}},
            "networks": [],
            "errors": {"cbam": {"pairs": number}},
        }
        for number in pairs
    )
    assert results.combine(old, new)["errors"] == {"cbam": {"pairs": 3}}


@pytest.mark.parametrize("page", recompute.PAGES)
def test_pages_print_differences_that_scipy_alone_gives(page):
    text = (recompute.ROOT / page).read_text("utf-8")
    wrong, count = recompute.mismatches(text, recompute.read())
    assert wrong == [] and count


def test_the_figure_shows_differences_that_scipy_alone_gives():
    studies, names = recompute.read(), {y: x for x, y in TITLES.items()}
    (axes,) = tables.forest().axes
    places = dict(enumerate(tables.FOREST))
    shown = [x for x in axes.lines if x.get_label() in names]
    for line in shown:
        ((difference, height),) = line.get_xydata()
        study = studies[places[round(height)]]
        mean, _, _ = recompute.difference(study, names[line.get_label()])
        assert difference == pytest.approx(mean)
    filled = [x for x in shown if x.get_markerfacecolor() != "white"]
    assert (len(shown), len(filled)) == (21, 5)


def test_the_task_made_for_attention_is_described_as_its_notebook_says():
    gains = recompute.read_notebook()
    page = (recompute.HERE / "results.md").read_text("utf-8")
    # After 5 and after 20 epochs.
    assert len(gains) == 2 and {*recompute.OF_NOTEBOOK.findall(page)} == gains


@pytest.mark.parametrize(
    ("printed", "other"),
    [
        ("+1.75 ± 0.37", "+1.76 ± 0.37"),
        ("+1.75 ± 0.37", "+1.75 ± 0.38"),
        ("+1.57 (1 seed)", "+1.57 (2 seeds)"),
        ("-0.95 ± 1.02", "+0.95 ± 1.02"),
        ("+0.18 ± 0.31", "+0.18 ± 0.30"),
        ("+9.4 and", "+9.5 and"),
    ],
)
def test_another_difference_than_was_measured_is_found(printed, other):
    text = (recompute.ROOT / "docs/when-it-helps.md").read_text("utf-8")
    wrong, _ = recompute.mismatches(
        text.replace(printed, other, 1), recompute.read()
    )
    assert [x.startswith(other.removesuffix(" and")) for x in wrong] == [True]


@pytest.mark.parametrize(
    ("name", "clear"),
    [
        ("photographs", {"cbam-paper"}),
        ("solar-cells", set()),
        ("photographs-again", set()),
        ("photographs-one-rate", set()),
        ("photographs-chosen", set()),
        ("solar-cells-again", set()),
        (
            "photographs-frozen",
            {"se", "cbam", "affine", "lora", "batch-norm"},
        ),
        (
            "photographs-frozen-chosen",
            {"se", "cbam", "coordinate", "affine", "lora"},
        ),
        *((f"{name}-chosen", set()) for name in tables.TOP),
        ("cifar10", {"cbam", "coordinate", *LONGER}),
        ("cifar10-pooled", {"se", "cbam", "coordinate", *LONGER}),
        ("bccd", set()),
        ("camvid", {"eca"}),
        ("digits", {"cbam", "spatial", "parallel", "none-wide"}),
        ("articles", set()),
        ("digits-stages", {"cbam-stage-1,3"}),
    ],
)
def test_what_pages_call_significant_is_so_by_holm(name, clear):
    found = results.results_of(results.studies()[name]).compared()
    pairs = sorted((x.p_value, name) for name, x in found.items() if x.pairs)
    significant = set()
    for left, (p_value, network) in zip(
        range(len(pairs), 0, -1), pairs, strict=True
    ):
        if p_value > 0.05 / left:
            break
        significant.add(network)
    assert significant == clear


def test_sentences_have_other_numbers_of_the_studies():
    page = (recompute.ROOT / "docs/when-it-helps.md").read_text("utf-8")
    rows = results.results_of(results.stored()["cifar10-converged"]).rows
    seconds = {row.variant: row.seconds_per_epoch for row in rows}
    longer = seconds["cbam"] / seconds["none"] - 1
    assert f"CBAM took {100 * longer:.0f}% longer on the GPU" in page
    studies = recompute.read()
    for name, where in (
        (
            "photographs-again",
            "above {:.1f} points on these 2,000 images of CIFAR-10",
        ),
        ("solar-cells-again", "above {:.1f} on solar cells"),
        ("few", "above {:.1f} points ruled out on these 10,000 test images"),
    ):
        mean, half, _ = recompute.difference(studies[name], "cbam")
        assert where.format(mean + half) in page
    gains = [
        recompute.difference(studies["cifar10"], "cbam", "none-wide", seed)[0]
        for seed in range(3)
    ]
    # CBAM was better with each of three seeds.
    assert min(gains) > 0
    pooled = studies["cifar10-pooled"]
    mean, half, _ = recompute.difference(pooled, "cbam", "none-20-epochs")
    # The page says so, and why that does not decide.
    assert mean > half


def test_training_times_that_pages_call_equal_are_nearly_so():
    seconds = {
        (x["variant"], x["seed"]): x["seconds"]
        for x in recompute.read()["cifar10-equal-time"]["networks"]
    }
    ratios = [
        seconds["cbam", seed] / seconds["none-20-epochs", seed]
        for seed in (20, 21, 22)
    ]
    least, most = (100 * (end(ratios) - 1) for end in (min, max))
    page = (recompute.ROOT / "docs/when-it-helps.md").read_text("utf-8")
    assert f"took {least:.0f} to {most:.0f}% longer than these" in page


def test_rates_that_runs_chose_changed_both_networks_alike():
    studies = recompute.read()
    chosen = studies["photographs-chosen"]["networks"]
    # The page names them, and that all are above 0.001.
    assert {x["learning_rate"] for x in chosen} == {0.003, 0.009}
    gains = [
        [
            recompute.difference(studies[name], "cbam", seed=seed)[0]
            for seed in (20, 21, 22)
        ]
        for name in ("photographs-one-rate", "photographs-chosen")
    ]
    assert stats.ttest_rel(*gains).pvalue > 0.05


@pytest.mark.parametrize("name", [*results.stored()])
def test_accuracies_are_multiples_of_one_over_the_images_stored(name):
    content = results.stored()[name]
    descriptions = content["settings"]["data"]
    (shared, *_) = descriptions.values()
    for network in content["networks"]:
        accuracy = network["metrics"].get("test_accuracy", 0)
        run = study.Run(network["seed"], network.get("fold"))
        description = descriptions.get(run.name, shared)
        right = accuracy * description["sizes"]["test"]
        # Keras' metrics are of float32.
        assert right == pytest.approx(round(right), abs=1e-3)


def test_trainings_that_were_ahead_while_frozen_are_counted():
    ahead = dict.fromkeys(("se", "cbam", "coordinate"), 0)
    for name in tables.FINE_TUNED:
        networks = results.stored()[name]["networks"]
        # The second epoch is the last frozen one.
        accuracies = {
            (x["variant"], x["seed"], x.get("fold")): (
                x["history"][1]["val_accuracy"]
            )
            for x in networks
        }
        for variant, *run in accuracies:
            none = accuracies["none", *run] + 1e-6
            if variant in ahead and accuracies[variant, *run] > none:
                ahead[variant] += 1
    # docs/when-it-helps.md says so.
    assert ahead == {"se": 8, "cbam": 9, "coordinate": 8}


@pytest.mark.parametrize(
    ("loss", "is_noted"), [(0.31, True), (0.29, False)], ids=["high", "low"]
)
def test_a_network_that_may_learn_more_is_noted(loss, is_noted):
    runs = [
        study.Outcome(name, 0, "finished", history=[{"loss": last}])
        for name, last in (("none", loss), ("cbam", 0.2))
    ]
    found = SimpleNamespace(runs=runs)
    assert tables.still_learning(found) == ["none"] * is_noted
