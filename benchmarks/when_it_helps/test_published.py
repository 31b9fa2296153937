"""What published comparisons say: the rows, and what is computed of them."""

import csv
import dataclasses
import re
import statistics

import numpy as np
import pytest
from scipy import optimize, stats

from benchmarks.when_it_helps import pooling, published, recompute, tables

ROWS = published.read()
ROW = next(row for row in ROWS if row.is_pooled)


def row(**changes):
    return dataclasses.replace(ROW, **changes)


def test_each_row_says_where_it_was_read():
    assert len(ROWS) >= 60
    for one in ROWS:
        texts = (one.source, one.version, one.network, one.data, one.kind)
        assert all(texts) and one.read and one.measure
        assert one.start in published.STARTS
        assert 0 < one.none < 100 and 0 < one.with_attention < 100
        # The second reading was a later one of the same text.
        assert one.readings in (1, 2)
        if len(one.version) == 40:
            assert re.fullmatch("[0-9a-f]{40}", one.version)


def test_no_comparison_is_there_twice():
    # Several tables of a source may agree.
    keys = [(*dataclasses.astuple(one)[:11], one.read) for one in ROWS]
    assert len(set(keys)) == len(keys)


def test_accuracies_are_multiples_of_one_over_small_numbers_of_images():
    for one in ROWS:
        # Means of seeds are not, nor are numbers with few digits.
        if not one.is_pooled or one.test_images > 2500 or one.seeds != 1:
            continue
        for percent in (one.none, one.with_attention):
            digits = len(str(percent).partition(".")[2])
            right = round(percent / 100 * one.test_images)
            nearest = 100 * right / one.test_images
            assert abs(nearest - percent) <= 0.51 * 10**-digits, one


def test_only_accuracies_on_a_known_number_of_images_are_pooled():
    assert row().is_pooled
    assert not row(measure="mAP@.5").is_pooled
    assert not row(test_images=None).is_pooled
    measures = {one.measure for one in ROWS} - {"accuracy"}
    drawn = [x for names in published.UNPOOLED.values() for x in names]
    assert measures == set(drawn)


def test_unpaired_variance_is_that_of_independent_binomials():
    one = row(none=80.0, with_attention=84.0, test_images=500)
    expected = sum(stats.binom(500, p).var() for p in (0.8, 0.84)) / 500**2
    assert published.unpaired_variance(one) == pytest.approx(1e4 * expected)


def test_paired_variance_is_that_of_the_images_differences():
    # 30 and 50 images of 400 are right in one network alone.
    changes = np.repeat([-1, 1, 0], [30, 50, 320])
    none, with_attention = (290 + 30) / 4, (290 + 50) / 4
    one = row(none=none, with_attention=with_attention, test_images=400)
    independent = published.unpaired_variance(one) * 400 / 1e4
    found = published.paired_variance(one, 80 / 400 / independent)
    assert found == pytest.approx(1e4 * changes.var() / 400)


def test_disagreement_is_that_of_the_stored_counts():
    accuracies, shares = published.disagreement_shares()
    with published.AGREEMENT.open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    # Epochs of two seeds and two datasets.
    assert len(accuracies) == len(shares) == len(rows) * 2 / 6
    assert (np.diff(accuracies) >= 0).all() and (shares > 0).all()
    # Networks that have learned agree more than by chance.
    assert (shares[accuracies > 0.5] < 0.9).all()


def paule_mandel(gains, variances):
    """Returns the mean and the spread by Paule and Mandel's equation."""
    gains, variances = np.array(gains), np.array(variances)

    def excess(tau2):
        weights = 1 / (variances + tau2)
        mean = np.average(gains, weights=weights)
        return (weights * (gains - mean) ** 2).sum() - (len(gains) - 1)

    tau2 = 0 if excess(0) < 0 else optimize.brentq(excess, 0, 1e4)
    weights = 1 / (variances + tau2)
    return np.average(gains, weights=weights), tau2**0.5


@pytest.mark.parametrize("spread", [0, 2])
def test_pooled_gains_have_a_jackknife_by_source(spread):
    pytest.importorskip("statsmodels", reason="it pools published gains")
    rng = np.random.default_rng(0)
    # Twelve sources, every second of which has two effects.
    sources = [f"source {x}" for x in range(12) for _ in range(1 + x % 2)]
    variances = rng.uniform(0.1, 2, len(sources))
    gains = rng.normal(0.5, np.sqrt(variances + spread**2))
    columns = [*zip(sources, gains, variances, strict=True)]
    found = pooling.pool(pooling.Effect(*each) for each in columns)
    mean, expected_spread = paule_mandel(gains, variances)
    means = []
    for left_out in dict.fromkeys(sources):
        kept = [each for each in columns if each[0] != left_out]
        means.append(paule_mandel(*[*zip(*kept, strict=True)][1:])[0])
    error = np.sqrt(11 / 12 * ((np.array(means) - mean) ** 2).sum())
    half = stats.t(11).ppf(0.975) * error
    of_new = stats.t(10).ppf(0.975) * np.hypot(expected_spread, error)
    assert (found.effects, found.sources) == (18, 12)
    values = (
        *(found.mean, found.low, found.high),
        *(found.new_low, found.new_high, found.spread),
    )
    expected = (
        *(mean, mean - half, mean + half),
        *(mean - of_new, mean + of_new, expected_spread),
    )
    assert values == pytest.approx(expected, abs=3e-3)


@pytest.mark.parametrize(
    ("gains", "is_decided"),
    [
        pytest.param([1.0] * 4, False, id="four-sources"),
        pytest.param([1.0] * 5, True, id="five-sources"),
        pytest.param([0.5] * 6 + [-9.0], False, id="one-decides"),
        pytest.param([0.5] * 12 + [-9.0], True, id="one-of-many-decides"),
    ],
)
def test_few_sources_or_one_that_decides_are_undecided(gains, is_decided):
    pytest.importorskip("statsmodels", reason="it pools published gains")
    found = pooling.pool(
        # Equal gains would have no spread to estimate.
        pooling.Effect(str(number), gain + number / 100, 0.1)
        for number, gain in enumerate(gains)
    )
    assert found.is_decided == is_decided
    assert ("undecided" in published.interval(found)) != is_decided


def test_intervals_by_source_cover_where_effects_of_a_source_are_alike():
    pytest.importorskip("statsmodels", reason="it pools published gains")
    shares = pooling.simulate(
        [4] * 8, [0.1] * 32, between=1, within=0.2, seed=0, count=60
    )
    # Of 60 studies, 51 are 3 standard errors below 95%.
    assert min(shares.values()) >= 51 / 60


def test_a_source_has_one_effect_for_each_kind():
    gains = {"SE": (1, 2, 9), "CBAM": (4,)}
    rows = [
        row(source=source, kind=kind, none=50.0, with_attention=50.0 + gain)
        for source in "ab"
        for kind, values in gains.items()
        for gain in values
    ]
    found = published.effects(rows, lambda x: x.gain)
    assert found == [
        pooling.Effect(source, *(statistics.median(values),) * 2)
        for source in "ab"
        for values in gains.values()
    ]


def test_gains_above_the_limit_of_their_images_are_counted():
    with published.STORED.open(encoding="utf-8") as file:
        cells = [
            (float(x["none"]), float(x["with"]), int(x["test_images"]))
            for x in csv.DictReader(file)
            if x["measure"] == "accuracy" and x["test_images"]
        ]
    none, attention, images = np.array(cells).T
    errors = np.sqrt(
        (none * (100 - none) + attention * (100 - attention)) / images
    )
    counts = published.exceed(ROWS)
    assert counts["claimed"] == (attention > none).sum()
    above = attention - none > 1.96 * errors
    assert counts["images, unpaired"] == above.sum()
    assert counts["images and one seed, unpaired"] < above.sum()


def test_seeds_spread_as_in_the_studies():
    studies, deviations = recompute.read(), []
    studies.pop("cifar10-pooled")
    for content in studies.values():
        if content["settings"].get("folds"):
            continue
        names = {x["variant"] for x in content["networks"]}
        for name in names:
            if name.startswith("none") or "none" not in names:
                continue
            if content["measures"][0]["key"] != "test_accuracy":
                continue
            _, half, count = recompute.difference(content, name)
            if count > 2:
                t = stats.t(count - 1).ppf(0.975)
                deviations.append(half / t * count**0.5)
    expected = statistics.median(deviations)
    assert published.seed_deviation() == pytest.approx(expected)


def test_more_training_or_channels_gained_as_much_as_the_page_says():
    studies, enough = recompute.read(), []
    for name in tables.FOREST:
        gains = {
            one: recompute.difference(studies[name], one)[0]
            for one in ("cbam", "none-wide", "none-longer")
            if one in {x["variant"] for x in studies[name]["networks"]}
        }
        if len(gains) > 1:
            enough.append(max([*gains.values()][1:]) >= gains["cbam"])
    page = (recompute.ROOT / "docs/when-it-helps.md").read_text("utf-8")
    told = f"gained at least as much as CBAM in {sum(enough)} of {len(enough)}"
    assert told in " ".join(page.split())


def test_the_page_tells_how_much_the_recipe_changes_for_one_network():
    changes = [
        one.gain
        for one in ROWS
        if one.network.startswith("ResNet-50")
        and (one.data, one.kind) == ("ImageNet", "SE")
    ]
    told = "{:.1f} points worse (timm's recipe A3) to {:.1f} better"
    page = (recompute.ROOT / "docs/when-it-helps.md").read_text("utf-8")
    told = told.format(-min(changes), max(changes))
    assert told in " ".join(page.split())


def test_the_page_says_what_is_counted():
    pytest.importorskip("statsmodels", reason="it pools published gains")
    page = (recompute.ROOT / "docs/when-it-helps.md").read_text("utf-8")
    rows = [one for one in ROWS if one.is_pooled]
    found = published.pooled(ROWS)
    counts = published.exceed(ROWS)
    numbers = (
        f"{len(ROWS)} published comparisons of {len({x.source for x in ROWS})}",
        f"{len(rows)} accuracies",
        published.interval(found["all"]["unpaired"]),
        f"Of {counts['claimed']} claimed gains, {counts['images, unpaired']} "
        "exceed the sampling error of their test set, and "
        f"{counts['images and one seed, unpaired']} also the variation "
        "between seeds",
        f"{sum((x.seeds or 1) > 1 for x in rows)} of {len(rows)} pooled",
        f"may gain {published.of_new(found['all']['unpaired'])} points",
        published.interval(found["up to 2,000 test images"]["unpaired"]),
    )
    text = " ".join(page.split())
    readme = (recompute.ROOT / "README.md").read_text("utf-8")
    sources = len({one.source for one in rows})
    assert f"| {len(rows)}, of {sources} sources | {numbers[2]} |" in readme
    assert f"| {published.of_new(found['all']['unpaired'])} |" in readme
    assert [number for number in numbers if number not in text] == []
