"""The rule of all comparisons: paired differences, their error, and a verdict.

Other seeds and other test images would give another mean difference. Its error
holds both, and interval, p-value and power follow from it.
"""

import bisect
import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans.measures import TEST_ACCURACY, Measure
from cbam_keras.study.results.pseudo_values import find_placements

# Fewer seeds may give like differences by chance: they are not judged.
MIN_SEEDS = 3
# A comparison that needs more seeds is not made by seeds.
MOST_SEEDS = 10_000
# Where fewer images differ, intervals of one run each cover less than 92%.
LEAST_DIFFER = 5
# Fewer examples of a class, or groups that hold it, leave the variance of an
# area unknown.
LEAST_OF_AREA, LEAST_GROUPS_OF_CLASS = 20, 5
# Metrics are computed in float32: equal differences differ by a smaller part.
METRIC_ROUNDING = 1e-6
# The significance level, and the power.
BY_CHANCE, POWER = 0.05, 0.8
# Below so many seeds, a number of seeds or images is a rough one.
FEW_SEEDS = 10
# The fewest seeds from which a number of seeds is said, or the minimum
# detectable difference, which with three is 3.7 to 22.8 points (10% to 90%).
LEAST_TO_PLAN = 5
# The parts of a chi-square distribution above the limits of a range.
SEEDS_RANGE = (0.1, 0.9)
# What sentences call variants that are named after an attention type.
IN_WORDS = {"none": "No attention", "cbam": "CBAM", "se": "SE", "eca": "ECA"}
# What sentences call the network without attention where they need a noun.
NOUNS = {
    "No attention": "The network without attention",
    "no attention": "the network without attention",
}
# The quantiles by which means over a chi-square distribution are taken.
QUANTILES = (np.arange(200) + 0.5) / 200


@dataclasses.dataclass(frozen=True)
class Measured:
    """A measure with all seeds, compared with a baseline; see `Row`."""

    values: tuple[float, ...] = ()
    mean: float | None = None
    deviation: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    over: str = ""
    pairs: int = 0
    p_value: float | None = None
    by_seeds: float = 0.0
    by_images: float = 0.0
    columns: float = 1
    drawn: str = "test images"
    differ: int | None = None
    mid_p: float | None = None
    reason: str = ""
    image_degrees: float | None = None

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        differences: Sequence[float] | Sequence[np.ndarray] = (),
        tested: int = 0,
        folds: int | None = None,
        are_counts: bool = True,
        drawn: str = drawn,
        sizes: Sequence[int] = (),
        differ: int | None = None,
        degrees: float | None = None,
    ) -> "Measured":
        """Returns the statistics of values, one per seed, or per fold.

        `differences` to the baseline are `(seeds,)`, on so many `tested`
        images, or for each of these, or group of them, `(seeds, groups)`. Then
        these were drawn, too, by an analysis of variance. Groups have `sizes`,
        by default equal ones, and their differences are sums over images by the
        mean size. Of images that are right or wrong, `are_counts`, two more
        with +1/2 and -1/2 widen intervals of few that differ (Bonett and Price,
        2012, https://doi.org/10.3102/1076998611411915). The interval of one
        seed is that of these two networks, over images alone; their predictions
        `differ` on so many images or groups, by default where differences do.
        The variance between images has so many `degrees` of freedom, by default
        and at most one less than there are columns.

        Trainings of different folds share training images: by Nadeau and
        Bengio, 2003 (https://doi.org/10.1023/A:1024068626366), the variance of
        their mean is larger by the number of test images by that of the others.
        """
        deviation = statistics.stdev(values) if len(values) > 1 else None
        found = cls(tuple(values), statistics.fmean(values), deviation)
        changes, pairs = np.asarray(differences, "float64"), len(differences)
        if not pairs:
            return found
        mean, over = float(changes.mean()), describe_runs(pairs, folds)
        parts = weights = np.ones(1)
        if pairs == 1 and changes.size > 1:
            mid_p = None
            if differ is None:
                differ = int(np.count_nonzero(changes))
            if are_counts and changes.size == tested:
                mid_p = mcnemar_p((changes > 0).sum(), (changes < 0).sum())[0]
            found = dataclasses.replace(found, differ=differ, mid_p=mid_p)
        if changes.ndim == 2 and changes.shape[1] == 1:
            # Nothing tells how groups differ.
            over += f", these {tested:,} {drawn} (one group)"
        elif changes.ndim == 2:
            groups = changes.shape[1]
            if groups < tested:
                drawn = f"groups of {drawn}"
            over = f"{over} and " if pairs > 1 else ""
            over += f"{groups:,} {drawn}"
            parts = np.asarray(sizes or np.ones(groups), "float64")
            parts, weights = parts / parts.sum(), np.ones(groups)
            # What a group adds to the mean, beyond what its size alone does.
            expected = changes.mean(axis=1, keepdims=True)
            changes = changes - (groups * parts - 1) * expected
            if are_counts:
                # They have the weight of an image beside those of groups.
                changes = np.hstack([changes, np.tile([0.5, -0.5], (pairs, 1))])
                image = groups / max(groups, tested)
                weights = np.append(weights, [image, image])
        elif tested and not folds:
            over += f", these {tested:,} {drawn}"
        found = dataclasses.replace(
            found, difference=mean, over=over, drawn=drawn, pairs=pairs
        )
        if pairs == 1 and (found.differ or 0) < LEAST_DIFFER:
            return found
        changes = changes.reshape(pairs, -1)
        by_images, columns = _variance_by_columns(changes, weights, parts)
        of_seed, by_seeds = np.average(changes, axis=1, weights=weights), 0.0
        if pairs > 1:
            share = 1 / pairs + (1 / (folds - 1) if folds else 0)
            by_seeds = float(of_seed.var(ddof=1)) * share
        variances = {"by_seeds": by_seeds, "by_images": by_images}
        found = dataclasses.replace(
            found, columns=columns, image_degrees=degrees, **variances
        )
        error = found.standard_error
        if error <= METRIC_ROUNDING * max(map(abs, values)):
            return found
        special = _checks.require("scipy.special", extra="plot")
        half = float(special.stdtrit(found.degrees, 1 - BY_CHANCE / 2)) * error
        p_value = 2 * float(special.stdtr(found.degrees, -abs(mean) / error))
        ends = mean - half, mean + half
        return dataclasses.replace(found, interval=ends, p_value=p_value)

    def without_interval(self, reason: str) -> "Measured":
        """Returns it without interval, p-value and error, for this reason."""
        return dataclasses.replace(
            self,
            interval=None,
            p_value=None,
            by_seeds=0.0,
            by_images=0.0,
            reason=reason,
        )

    @property
    def standard_error(self) -> float:
        """The standard error of the difference."""
        return math.sqrt(self.by_seeds + self.by_images)

    @property
    def degrees(self) -> float:
        """The degrees of freedom of this error, by Satterthwaite."""
        of_images = max(self.columns - 1, 1)
        if self.image_degrees is not None:
            of_images = min(of_images, self.image_degrees)
        parts = self.by_images**2 / of_images
        if self.pairs > 1:
            parts += self.by_seeds**2 / (self.pairs - 1)
        return self.standard_error**4 / parts if parts else math.inf

    def find_power(
        self,
        difference: float,
        comparisons: int = 1,
        seeds: int | None = None,
        *,
        is_error_known: bool = False,
    ) -> float:
        """Returns how many studies find a true difference, as a fraction.

        They have so many `seeds`, by default as many as this one, and test at
        the level of the smallest p-value in Holm's method. It is the mean over
        the distribution of the true error, given the one that was measured,
        unless that is the true one.
        """
        special = _checks.require("scipy.special", extra="plot")
        by_seeds = self.by_seeds * self.pairs / (seeds or self.pairs)
        known = dataclasses.replace(self, by_seeds=by_seeds)
        planned = dataclasses.replace(known, pairs=seeds or self.pairs)
        shifts = np.array([difference / known.standard_error])
        if math.isfinite(known.degrees) and not is_error_known:
            squares = special.chdtri(known.degrees, QUANTILES)
            shifts = shifts * np.sqrt(squares / known.degrees)
        limit = special.stdtrit(
            planned.degrees, 1 - BY_CHANCE / comparisons / 2
        )
        missed = special.nctdtr(planned.degrees, shifts, limit)
        # SciPy has no number where almost no study misses it.
        return 1 - float(np.nan_to_num(missed).mean())

    def detectable(self, comparisons: int = 1, power: float = POWER) -> float:
        """Returns the minimum detectable difference at this power."""
        optimize = _checks.require("scipy.optimize", extra="plot")
        most = self.standard_error
        while self.find_power(most, comparisons) < power:
            most *= 2
        return optimize.brentq(
            lambda x: self.find_power(x, comparisons) - power, 0, most
        )

    def needed(
        self, difference: float, comparisons: int = 1, power: float = POWER
    ) -> tuple[int | None, str]:
        """Returns how many seeds find a difference, or images, in words."""
        seeds = self._seeds_for(power, difference, comparisons)
        if seeds <= MOST_SEEDS:
            return seeds, f"{seeds:,} seeds"
        if not self.by_images:
            return None, f"more than {MOST_SEEDS:,} seeds"
        z = statistics.NormalDist().inv_cdf
        shift = (z(1 - BY_CHANCE / comparisons / 2) + z(power)) / difference
        images = 2 * shift**2 * self.by_images * self.columns
        # Images and seeds have half of the variance each.
        needs_seeds = self.pairs > 1 and 2 * self.by_seeds > 1 / shift**2
        more = " and more seeds" if needs_seeds else ""
        return None, f"about {float(f'{images:.2g}'):,.0f} {self.drawn}{more}"

    def describe_seeds(self, difference: float, comparisons: int = 1) -> str:
        """Returns in words how many seeds find a difference, as a range.

        The true deviation between seeds lies within what a chi-square
        distribution gives for its square, from the 10% to the 90% quantile.
        """
        special = _checks.require("scipy.special", extra="plot")
        degrees = self.pairs - 1
        counts = []
        for part in SEEDS_RANGE:
            square = float(special.chdtri(degrees, part))
            by_seeds = self.by_seeds * degrees / square
            true = dataclasses.replace(self, by_seeds=by_seeds)
            counts.append(
                true._seeds_for(
                    POWER, difference, comparisons, is_error_known=True
                )
            )
        fewest, most = counts
        if fewest > MOST_SEEDS:
            return self.needed(difference, comparisons)[1]
        if most > MOST_SEEDS:
            return f"{fewest:,} seeds or more"
        if fewest == most:
            return f"about {_checks.count(fewest, 'seed')}"
        return f"{fewest:,} to {most:,} seeds"

    def _seeds_for(
        self, power, difference, comparisons, *, is_error_known=False
    ):
        """Returns how many seeds have this power; one more than the most."""
        return bisect.bisect_left(
            range(MOST_SEEDS + 1),
            power,
            MIN_SEEDS,
            key=lambda seeds: self.find_power(
                difference, comparisons, seeds, is_error_known=is_error_known
            ),
        )


def _variance_by_columns(changes, weights, parts):
    """Returns the variance of the mean by drawing columns, and their number.

    `parts` are what each group has of all images. The largest have most
    influence, so that their effective number is smaller, and the last factor
    below corrects squares that are too small (1 for equal sizes).
    """
    pairs, groups, columns = len(changes), len(parts), weights.sum()
    if groups == 1:
        return 0.0, 1
    of_column = changes.mean(axis=0)
    of_seed = np.average(changes, axis=1, weights=weights)
    mean = of_seed.mean()
    rest = np.square(changes - of_seed[:, None] - of_column + mean)
    # One run has no residual.
    by_both = (rest @ weights).sum() / max(pairs - 1, 1) / (columns - 1)
    by_column = np.square(of_column - mean) @ weights / (columns - 1)
    squares, cubes = (parts**2).sum(), (parts**3).sum()
    variance = max(float(by_column - by_both / pairs), 0.0) / columns
    variance *= (1 - 1 / groups) / (1 - 2 * cubes / squares + squares)
    return float(variance), float(1 / squares + columns - groups)


def interval_of_fraction(
    is_right: np.ndarray, groups: np.ndarray
) -> tuple[float, float]:
    """Returns the 95% confidence interval of a fraction, by Wilson.

    Examples of one group are alike: their number is divided by the design
    effect, and the quantile is Student's. One group tells nothing.
    """
    special = _checks.require("scipy.special", extra="plot")
    _, group_of = np.unique(groups, return_inverse=True)
    sizes, right = np.bincount(group_of), np.bincount(group_of, is_right)
    count, total, mean = len(sizes), len(is_right), float(np.mean(is_right))
    if count == 1 < total:
        return 0.0, 1.0
    quantile, effective = special.ndtri(1 - BY_CHANCE / 2), float(total)
    if count < total:
        quantile = special.stdtrit(count - 1, 1 - BY_CHANCE / 2)
        mean_size = np.square(sizes).sum() / total
        rates = right / sizes
        between = (sizes * (rates - mean) ** 2).sum() / (count - 1)
        within = (right * (1 - rates)).sum() / (total - count)
        usual_size = (total - mean_size) / (count - 1)
        spread = between + (usual_size - 1) * within
        # Where all are right, or none, groups may be all alike.
        correlation = (between - within) / spread if spread else 1.0
        effective /= 1 + (mean_size - 1) * min(max(correlation, 0.0), 1.0)
    part = quantile**2 / effective
    center = (mean + part / 2) / (1 + part)
    variance = mean * (1 - mean) / effective + part / effective / 4
    half = quantile * math.sqrt(variance) / (1 + part)
    return float(center - half), float(center + half)


def interval_of_area(
    is_positive: np.ndarray, scores: np.ndarray, groups: np.ndarray
) -> tuple[float, float] | None:
    """Returns the 95% confidence interval of the area under a ROC curve.

    The variance is that of the placements of examples (DeLong et al., 1988,
    https://doi.org/10.2307/2531595), of groups that of their sums (Obuchowski,
    1997, https://doi.org/10.2307/2533958). The interval is of the logit, by
    Student's t with the degrees of freedom of Welch and Satterthwaite for the
    two classes. There is none with fewer than `LEAST_OF_AREA` examples of a
    class or `LEAST_GROUPS_OF_CLASS` groups that hold it, or where the area is 0
    or 1.
    """
    special = _checks.require("scipy.special", extra="plot")
    _, group_of = np.unique(groups, return_inverse=True)
    placements = find_placements(is_positive, scores)
    area = float(placements[is_positive].mean())
    if not 0 < area < 1:
        return None
    sums, variances, degrees = [], [], []
    for of_class in (is_positive, ~is_positive):
        examples = int(of_class.sum())
        count = len(np.unique(group_of[of_class]))
        if examples < LEAST_OF_AREA or count < LEAST_GROUPS_OF_CLASS:
            return None
        parts = np.where(of_class, placements - area, 0.0) / examples
        sums.append(np.bincount(group_of, parts))
        variances.append(np.square(sums[-1]).sum() * count / (count - 1))
        degrees.append(count - 1)
    every = len(sums[0])
    # Zero where each example is a group, and where a group is of one class.
    covariance = (sums[0] * sums[1]).sum() * every / (every - 1)
    variance = sum(variances) + 2 * covariance
    if variance <= 0:
        return None
    parts = sum(
        x**2 / count for x, count in zip(variances, degrees, strict=True)
    )
    # Groups that hold both classes are counted once.
    freedom = min(sum(variances) ** 2 / parts, every - 1)
    logit = math.log(area / (1 - area))
    half = math.sqrt(variance) / (area * (1 - area))
    half *= float(special.stdtrit(freedom, 1 - BY_CHANCE / 2))
    ends = special.expit([logit - half, logit + half])
    return float(ends[0]), float(ends[1])


def mcnemar_p(first: int, second: int) -> tuple[float, float]:
    """Returns McNemar's mid-p and exact p-value (Fagerland et al., 2013).

    `first` and `second` are how many images one network alone is right about
    (https://doi.org/10.1186/1471-2288-13-91).
    """
    special = _checks.require("scipy.special", extra="plot")
    both, fewer = first + second, min(first, second)
    up_to = float(special.bdtr(fewer, both, 0.5))
    below = float(special.bdtr(fewer - 1, both, 0.5)) if fewer else 0.0
    if first == second:
        # Where none differ, there is nothing to test.
        return 1 - (up_to - below) / 2 if both else 1.0, 1.0
    return up_to + below, 2 * up_to


def pooled(compared: Iterable[Measured]) -> tuple[Measured | None, int]:
    """Returns the mean error over most seeds, if any, and the comparisons."""
    others = [x for x in compared if x.pairs]
    pairs = max((x.pairs for x in others), default=0)
    most = [x for x in others if x.pairs == pairs]
    if pairs < MIN_SEEDS or not any(x.standard_error for x in most):
        return None, len(others)
    by_seeds = statistics.fmean(x.by_seeds for x in most)
    by_images = statistics.fmean(x.by_images for x in most)
    widest = max(most, key=lambda x: x.columns)
    found = dataclasses.replace(widest, by_seeds=by_seeds, by_images=by_images)
    return found, len(others)


def holm(p_values: Mapping[str, float]) -> set[str]:
    """Returns the names whose differences are clear, by Holm's correction."""
    clear: set[str] = set()
    for name in sorted(p_values, key=lambda name: p_values[name]):
        if p_values[name] > BY_CHANCE / (len(p_values) - len(clear)):
            break
        clear.add(name)
    return clear


def ends_of(found: Measured, measure: Measure) -> tuple[float, float] | None:
    """Returns the interval that is shown, of percentages within 100 points."""
    if found.interval is None or measure.unit != "%":
        return found.interval
    low, high = found.interval
    most = 100 / measure.scale
    return max(low, -most), min(high, most)


def find_clear(networks: Mapping[str, Measured]) -> set[str]:
    """Returns the networks that verdicts call better or worse."""
    # One run each is about these networks only; two seeds are not judged.
    p_values = {
        name: 1.0 if x.p_value is None or x.pairs == 2 else x.p_value
        for name, x in networks.items()
        if x.pairs
    }
    return holm(p_values)


def describe_runs(count: int, folds: int | None) -> str:
    """Returns how many seeds or folds there are, e.g. "5 folds x 2 seeds"."""
    seeds, rest = divmod(count, folds or 1)
    if folds and seeds > 1 and not rest:
        return f"{folds} folds x {seeds} seeds"
    return _checks.count(count, "fold" if folds else "seed")


def verdict(
    networks: Mapping[str, Measured],
    baseline: str,
    measure: Measure = TEST_ACCURACY,
    folds: int | None = None,
    are_given: bool = False,
) -> str:
    """Returns how networks compare with the baseline, a sentence for each."""
    baseline = IN_WORDS.get(baseline, baseline).replace("No att", "no att")
    others = {name: x for name, x in networks.items() if x.pairs}
    if not others:
        other = NOUNS.get(baseline, baseline)
        return (
            f"A comparison with {other} needs another network "
            "with the same seeds."
        )
    clear, most = find_clear(others), max(x.pairs for x in others.values())
    sentences = [
        _judge(IN_WORDS.get(name, name), x, baseline, measure, name in clear)
        for name, x in others.items()
    ]
    if len(others) > 1:
        sentences.append(
            f"Significance is Holm-corrected for {len(others)} comparisons; "
            "the intervals are not."
        )
    if all(x.reason for x in others.values()):
        # More seeds give no interval.
        pass
    elif most < MIN_SEEDS:
        differ = {x.differ for x in others.values()} - {None}
        of_one = most == 1 and bool(differ)
        sentences.append(_ask_for_more(of_one, folds, are_given))
    elif len(clear) < len(others):
        sentences.append(describe_power(others.values(), measure, folds))
    text = " ".join(filter(None, sentences))
    return text.replace(" points", " percentage points", 1)


def _ask_for_more(of_one, folds, are_given):
    """Returns what more runs would tell, and how to get them."""
    noun = "seed" if folds is None else "fold"
    how = f" (--{noun}s 5, in Python {noun}s=5)"
    if are_given:
        noun, how = "run" if folds is None else "fold", ""
    if of_one:
        return (
            "This compares these trained networks only. To compare the "
            f"methods, train each several times{how}."
        )
    return f"Significance needs at least {MIN_SEEDS} {noun}s: use five{how}."


def _judge(network, found, baseline, measure, is_clear):
    amount = measure.in_points(measure.number(found.difference, "+"))
    amount += f" {'of' if measure.unit else 'in'} {measure.heading}"
    text, end, sign = f"{network} vs. {baseline}: {amount}", "", "+"
    subject = NOUNS.get(network, network)
    other = NOUNS.get(baseline, baseline)
    ends, of_one = ends_of(found, measure), found.differ is not None
    is_better = measure.merit(found.difference) > 0
    if is_clear and of_one and measure == TEST_ACCURACY:
        how = "more" if is_better else "less"
        text = f"{subject} is {how} accurate than {other} on these "
        text += f"{found.drawn}: {amount}"
    elif is_clear:
        verb, than = "improved", "over"
        if not is_better:
            verb, than = "worsened", "compared with"
        amount = measure.in_points(measure.number(abs(found.difference)))
        text = f"{subject} {verb} {measure.heading} by {amount}"
        text += f" {than} {other}"
        # The interval is of the same amount, without its sign.
        ends, sign = sorted(map(abs, ends)), ""
    elif of_one and found.differ < LEAST_DIFFER and not found.reason:
        text = f"{subject} and {other} disagree on too few {found.drawn} to be "
        text += f"compared: {amount}"
    elif found.p_value is not None:
        end = ", not statistically significant"
    over = found.over.replace(" and ", ", ")
    limits = f"no CI; {over}"
    if ends is not None:
        low, high = (measure.number(end, sign) for end in ends)
        limits = f"95% CI {low} to {high}; {over}"
    elif found.reason:
        limits = f"no CI: {found.reason}"
    elif of_one:
        limits = f"they differ on {found.differ} of {over}"
    if found.mid_p is not None:
        limits += f"; McNemar's mid-p {found.mid_p:.2g}"
        is_other = found.mid_p <= BY_CHANCE < (found.p_value or 0)
        is_other |= (found.p_value or 1) <= BY_CHANCE < found.mid_p
        limits += ", borderline" if is_other else ""
    return f"{text} ({limits}){end}."


def find_detectable(
    compared: Iterable[Measured], measure: Measure
) -> float | None:
    """Returns the minimum detectable difference at 80% power, if any."""
    found, comparisons = pooled(compared)
    if found is None or _are_too_few(found):
        return None
    seen, best = found.detectable(comparisons), math.inf
    # No percentage is better than the baseline by more than that lacks.
    if measure.unit == "%" and found.mean is not None:
        of_baseline = found.mean - (found.difference or 0)
        best = of_baseline if measure.lower_is_better else 1 - of_baseline
    return seen if seen <= best else None


def describe_power(
    compared: Iterable[Measured], measure: Measure, folds: int | None = None
) -> str:
    """Returns the minimum detectable difference as a sentence, or nothing."""
    compared = [*compared]
    found, comparisons = pooled(compared)
    if found is None or _are_too_few(found):
        return ""
    about = "about " if found.pairs < FEW_SEEDS else ""
    seen, point = find_detectable(compared, measure), 1 / measure.scale
    if seen is None:
        text = "With these data, not even the difference of a perfect network "
        text += "would be detected with 80% power"
    else:
        amount = f"{about}{measure.in_points(measure.number(seen))}"
        text = f"Minimum detectable difference at 80% power: {amount}"
    if measure.unit == "%" and folds is None and (seen or 1) > point:
        if found.pairs == 1:
            # Only examples were sampled.
            _, words = found.needed(point, comparisons)
        else:
            words = found.describe_seeds(point, comparisons)
        text += f"; a 1-point difference would need {words}"
    return f"{text}."


def _are_too_few(found: Measured) -> bool:
    """Returns whether runs are too few to say what others would find.

    The deviation between three seeds is one of 7 to 213 seeds that a difference
    needs, so that nothing is said. One run has none, but that of examples.
    """
    return 1 < found.pairs < LEAST_TO_PLAN
