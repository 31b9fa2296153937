"""Networks compared with several seeds or folds: means and a verdict."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from cbam_keras import _checks
from cbam_keras._files import Json
from cbam_keras.study.plans.measures import TEST_ACCURACY, Measure, as_measure
from cbam_keras.study.plans.study import Run
from cbam_keras.study.running.outcomes import Outcome

# With so many networks, tables have their multiply-accumulates, too.
MANY = 4
# Fewer seeds may give like differences by chance: they are not judged.
MIN_SEEDS = 3
# Metrics are computed in float32: equal differences differ by less than this.
ROUNDING = 1e-6
# The fraction of intervals that exclude zero by chance.
BY_CHANCE = 0.05


def error_of_drawing(fraction: float, images: int) -> float:
    """Returns the standard error of a fraction of test images.

    For a difference it is the least: that of a network which is right about
    all images that the other is right about, and about this fraction more.
    """
    fraction = min(abs(fraction), 1)
    return math.sqrt(fraction * (1 - fraction) / images)


def holm(p_values: Mapping[str, float]) -> set[str]:
    """Returns the names whose differences are clear, by Holm's correction.

    The smallest of n p-values is compared with 5 % / n, the next with
    5 % / (n - 1), and so on up to the first that is larger.
    """
    clear: set[str] = set()
    for name in sorted(p_values, key=lambda name: p_values[name]):
        if p_values[name] > BY_CHANCE / (len(p_values) - len(clear)):
            break
        clear.add(name)
    return clear


def judge_learning(
    accuracies: Sequence[float], guess: float, images: int
) -> str:
    """Returns a sentence if no network has learned, or all have, or nothing.

    None has if no test accuracy is higher than what guessing gives, the
    accuracy `guess`, by more than drawing the test images explains.
    """
    if min(accuracies, default=0) == 1:
        return (
            f"Every network is right on all {images:,} test images, which "
            "cannot tell them apart: take more, or harder ones."
        )
    z = statistics.NormalDist().inv_cdf(1 - BY_CHANCE / 2)
    luck = guess + z * error_of_drawing(guess, images)
    highest = max(accuracies, default=math.inf)
    if highest > luck:
        return ""
    return (
        "No network is better than guessing: the highest test accuracy is "
        f"{100 * highest:.2f} %, and guessing gives {100 * guess:.2f} %, with "
        f"luck up to {100 * luck:.2f} % of {images:,} images. Train for more "
        "epochs or change the learning rate before you compare."
    )


@dataclasses.dataclass(frozen=True)
class Measured:
    """One measure of a network with all seeds, compared with a baseline.

    See `Row` for its attributes.
    """

    values: tuple[float, ...]
    # It is `None` if there are no values.
    mean: float | None
    deviation: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    pairs: int = 0
    p_value: float | None = None
    standard_error: float | None = None

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        differences: Sequence[float] | None,
        images: int | None = None,
        folds: int | None = None,
    ) -> "Measured":
        """Returns the statistics of values, one per seed, or per fold.

        `differences` are those to the baseline for the seeds that both have,
        if any. The interval and the two-sided p-value are Student's t over the
        seeds. All seeds share the test images, so if the values are fractions
        of so many test `images`, of all folds if there are some, the interval
        is not narrower than the least that drawing these allows. A single seed
        and equal differences tell nothing of the variation between seeds, and
        have none.

        Trainings of different folds share training images: by Nadeau and
        Bengio, 2003 (https://doi.org/10.1023/A:1024068626366), the variance of
        their mean is larger by the number of test images by that of the others,
        also over several cross-validations (Bouckaert and Frank, 2004,
        https://doi.org/10.1007/978-3-540-24775-3_3).
        """
        deviation = statistics.stdev(values) if len(values) > 1 else None
        measured = cls(tuple(values), statistics.fmean(values), deviation)
        if not differences:
            return measured
        mean, pairs = statistics.fmean(differences), len(differences)
        measured = dataclasses.replace(measured, difference=mean, pairs=pairs)
        if pairs == 1:
            return measured
        stats = _checks.require("scipy.stats", extra="plot")
        overlap = 0 if folds is None else 1 / (folds - 1)
        error = statistics.stdev(differences) * math.sqrt(1 / pairs + overlap)
        tests = [(error, stats.t(pairs - 1))]
        if images:
            tests.append((error_of_drawing(mean, images), stats.norm))
        interval = p_value = None
        half = max(float(test.isf(BY_CHANCE / 2)) * x for x, test in tests)
        if half > ROUNDING:
            interval = mean - half, mean + half
            # Equal differences leave one of no width out.
            tails = [test.sf(abs(mean) / x) for x, test in tests if x]
            p_value = 2 * float(max(tails))
        return dataclasses.replace(
            measured, interval=interval, p_value=p_value, standard_error=error
        )

    def mean_cell(self, measure: Measure) -> str:
        """Returns mean and deviation as shown, for a table."""
        numbers = map(measure.number, (self.mean, self.deviation))
        return " \N{PLUS-MINUS SIGN} ".join(filter(None, numbers))

    def difference_cell(self, measure: Measure) -> str:
        """Returns difference and interval as shown, without the unit."""
        text = measure.number(self.difference, "+")
        if self.interval is None:
            return text
        low, high = (measure.number(end, "+") for end in self.interval)
        return f"{text} [{low}, {high}]"


def compare(
    values: Mapping[str, Mapping[Run, float]],
    baseline: str | None,
    of_baseline: Mapping[Run, float],
    count_images: Callable[[Sequence[Run]], int] | None,
    folds: int | None,
) -> dict[str, Measured]:
    """Returns what is measured of networks, paired with a baseline by run.

    `values` are by network and run. If they are fractions of images, a
    function counts those of runs.
    """
    compared = {}
    for name, by_run in values.items():
        if not by_run:
            continue
        shared = [run for run in by_run if run in of_baseline]
        if name == baseline:
            shared = []
        compared[name] = Measured.of(
            [*by_run.values()],
            [by_run[run] - of_baseline[run] for run in shared],
            count_images(shared) if count_images else None,
            folds,
        )
    return compared


NOTHING = Measured((), None)
MEASURED = dataclasses.fields(Measured)


@dataclasses.dataclass(frozen=True)
class Row(Measured):
    """One network with all seeds, compared with the baseline.

    With folds, each fold of each seed counts as a seed.

    Attributes:
        values: Tuple of numbers, what the study compares, one per seed.
        mean: Number, their mean. It is `None` if no training finished.
        deviation: Number, their standard deviation (n - 1). It is `None` for
            one seed.
        difference: Number, the mean difference to the baseline, paired by
            seed, or `None` for the baseline.
        interval: Tuple of two numbers, the 95 % confidence interval of the
            difference, or `None`. It is that of Student's t of the seeds,
            corrected for folds, and for the test accuracy not narrower than by
            the least possible error of the test images. `None` for the
            baseline, for a single seed, and if all differences are equal.
        pairs: Integer, the number of seeds that both have.
        p_value: Number in [0, 1], less than 0.05 where the interval excludes
            zero, or `None`.
        standard_error: Number, of the difference, or `None` for one seed.
        variant: String, its name.
        seeds: Tuple of integers, the seed of each training that finished.
        parameters, macs: See `Outcome`.
        validation, validation_accuracy: Numbers or `None`, the means on the
            validation images in the best epoch. The first is of what is
            compared.
        seconds_per_epoch: Number, the median of the seeds, or `None`.
        failures: Tuple of strings, how other trainings ended.
        label: String, what tables call the network.
    """

    variant: str = ""
    seeds: tuple[int, ...] = ()
    parameters: int | None = None
    macs: int | None = None
    validation: float | None = None
    validation_accuracy: float | None = None
    seconds_per_epoch: float | None = None
    failures: tuple[str, ...] = ()
    label: str = ""

    @classmethod
    def of_outcomes(
        cls,
        variant: str,
        outcomes: Sequence[Outcome],
        measured: Measured,
        *,
        validation: float | None,
        validation_accuracy: float | None,
        label: str,
    ) -> "Row":
        """Returns the row of a network with these outcomes of its runs."""
        finished = [x for x in outcomes if x.finished]
        every = [x.seconds_per_epoch for x in finished]
        seconds = [x for x in every if x is not None]
        first = next(iter([*finished, *outcomes]), None)
        return cls(
            **vars(measured),
            variant=variant,
            seeds=tuple(x.seed for x in finished),
            parameters=first.parameters if first else None,
            macs=first.macs if first else None,
            seconds_per_epoch=statistics.median(seconds) if seconds else None,
            failures=tuple(
                f"{x.run}: {x.status} ({x.message})"
                for x in outcomes
                if not x.finished
            ),
            validation=validation,
            validation_accuracy=validation_accuracy,
            label=label,
        )

    def as_json(self) -> Json:
        """Returns what JSON holds of it."""
        return {
            **{x.name: getattr(self, x.name) for x in MEASURED},
            "network": self.variant,
            "seeds": self.seeds,
            "parameters": self.parameters,
            "macs": self.macs,
            "validation_accuracy": self.validation_accuracy,
            "seconds_per_epoch": self.seconds_per_epoch,
            "failures": self.failures,
        }

    def as_record(self) -> Json:
        """Returns what a data frame holds of it."""
        low, high = self.interval or (None, None)
        return {
            "variant": self.variant,
            "seeds": len(self.seeds),
            "mean": self.mean,
            "std": self.deviation,
            "difference": self.difference,
            "low": low,
            "high": high,
            "parameters": self.parameters,
            "macs": self.macs,
        }


def describe_runs(count: int, folds: int | None) -> str:
    """Returns how many seeds or folds there are, as "5 folds x 2 seeds"."""
    if folds is None:
        return _checks.count(count, "seed")
    seeds, rest = divmod(count, folds)
    if seeds > 1 and not rest:
        return f"{folds} folds x {seeds} seeds"
    return _checks.count(count, "fold")


def describe_differences(rows: Sequence[Measured], measure: Measure) -> str:
    """Returns what cells of differences hold, as sentences after another."""
    text, unit = "", measure.unit_of_differences
    if unit and any(row.difference is not None for row in rows):
        text = f" Differences are in {unit}."
    if any(row.interval for row in rows):
        text += " In brackets: the 95 % interval of a difference."
    return text


def verdict(
    networks: Mapping[str, Measured],
    baseline: str,
    measure: Measure | str = TEST_ACCURACY,
    folds: int | None = None,
    seen: str = "",
) -> str:
    """Returns how networks compare with the baseline, as a sentence.

    `seen` says what would be detected, where something may be chance.
    """
    measure = as_measure(measure)
    others = {k: x for k, x in networks.items() if x.difference is not None}
    if not others:
        return (
            f'No differences: "{baseline}" and another network are needed to '
            "measure what attention changes."
        )
    if any(x.pairs > 1 for x in others.values()):
        # A difference that is not judged over seeds counts.
        p_values = {
            name: 1.0 if x.p_value is None else x.p_value
            for name, x in others.items()
        }
        count, clear, corrected = len(others), {*others}, ""
        if count > 1:
            clear = holm(p_values)
            corrected = f" (corrected for {count} comparisons by Holm's method)"
        clauses = [
            judge(name, x, baseline, measure, folds)
            for name, x in others.items()
            if name in clear
        ]
        if unclear := count - len(clear):
            clauses.append(
                f"{unclear} of {count} differences from {baseline} may be "
                "chance"
            )
        if seen and (unclear or max(p_values.values()) >= BY_CHANCE):
            corrected += f"; {seen}"
        return f"{'; '.join(clauses)}{corrected}."
    *changes, last = (
        f"{name} by {measure.number(measured.difference, '+')}"
        for name, measured in others.items()
    )
    listed = f"{', '.join(changes)} and {last}" if changes else last
    noun, more = "fold", "The other folds"
    if folds is None:
        more = "--seeds 3 on the command line, seeds=3 in Python"
        noun, more = "seed", f"Several seeds ({more})"
    return (
        f"Compared with {baseline}, the {measure.heading} "
        f"{'(lower is better) ' * measure.lower_is_better}changes with "
        f"{measure.in_points(listed)}; a single {noun} gives no estimate of "
        f"the variation between {noun}s. {more} give an interval."
    )


def judge(
    network: str,
    measured: Measured,
    baseline: str,
    measure: Measure | str = TEST_ACCURACY,
    folds: int | None = None,
) -> str:
    """Returns how one network compares with the baseline, as a clause."""
    measure = as_measure(measure)
    pairs, noun = measured.pairs, "seed" if folds is None else "fold"
    runs = describe_runs(pairs, folds)
    if measured.difference is None:
        return f"{network} has no {noun} in common with {baseline}"
    of_measure = f"{'of' if measure.unit else 'in'} {measure.heading}"
    differs = (
        f"{network} differs from {baseline} by "
        f"{measure.in_points(measure.number(measured.difference, '+'))} "
        f"{of_measure}"
    )
    if pairs == 1:
        return (
            f"{differs} with one {noun}, which gives no estimate of the "
            f"variation between {noun}s"
        )
    if measured.interval is None:
        if abs(measured.difference) <= ROUNDING:
            return (
                f"no difference seen between {network} and {baseline} in "
                f"{measure.heading} over {runs}"
            )
        return (
            f"{differs} with each of {runs}, and equal differences give no "
            f"estimate of the variation between {noun}s"
        )
    low, high = measured.interval
    limits = f"{measure.number(low, '+')} to {measure.number(high, '+')}"
    ends = f"95 % interval {limits} over {runs}"
    if folds is not None:
        ends += ", corrected for overlapping training images"
    if low <= 0 <= high:
        return f"{differs}, which may be chance ({ends})"
    if pairs < MIN_SEEDS:
        return f"{differs} ({ends}; too few {noun}s to judge)"
    is_better = measure.merit(measured.difference) > 0
    word = "better" if is_better else "worse"
    amount = measure.in_points(measure.number(abs(measured.difference)))
    return (
        f"{network} is {word} than {baseline} by {amount} {of_measure} ({ends})"
    )
