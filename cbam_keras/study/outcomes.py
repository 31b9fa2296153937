"""What a run has trained: outcomes, and rows of them over the seeds."""

import dataclasses
import pathlib
import statistics
from collections.abc import Sequence
from typing import Self

from cbam_keras import _files
from cbam_keras.study.cell import Outcome, Value
from cbam_keras.study.content import FOUND
from cbam_keras.study.statistics import Measured, counted, unlearned, verdict
from cbam_keras.study.study import Comparison, Measure

NOTHING = Measured((), None)


@dataclasses.dataclass(frozen=True)
class Row(Measured):
    """One network over all seeds in one table, compared with its baseline.

    Attributes:
        values, test_accuracies: Tuple of numbers, what the study compares,
            one per seed.
        mean, test_accuracy: Number, their mean, or `None` if no training
            finished.
        deviation: Number, their standard deviation (n - 1), or `None` for
            one seed.
        difference: Number, the mean over the seeds of its value minus that
            of the baseline, or `None` for the baseline.
        interval: Tuple of two numbers, the 95 % confidence interval of the
            difference: Student's t over the seeds, and for `test_accuracy`
            not narrower than drawing the test images allows. Of a single
            seed it is from the images alone, and holds for this training
            only. `None` for the baseline, if all differences are equal, and
            for a single seed of another measure.
        pairs: Integer, over how many seeds the difference is.
        network, variant: String, the name of the variant.
        seeds: Tuple of integers, the seeds with which its training finished.
        parameters, macs: See `Outcome`.
        validation_accuracy: Number in [0, 1], the mean over the seeds of the
            best validation accuracy, or `None`.
        seconds_per_epoch: Number, the median over the seeds, or `None`.
        failures: Tuple of strings, how other trainings ended.
        label: String, what tables call the network.
        table: Integer, the number of the table, or 0.
        trial: Integer, of what a search has confirmed the number of its best
            trial; 0 of other networks.
        attention: Of the same its kind of attention, usually a string;
            `None` if no hyperparameter has that name.
        options: Dictionary, of the same the arguments of its attention layer,
            or the hyperparameters of a search over something else.
    """

    network: str = ""
    seeds: tuple[int, ...] = ()
    parameters: int | None = None
    macs: int | None = None
    validation_accuracy: float | None = None
    seconds_per_epoch: float | None = None
    failures: tuple[str, ...] = ()
    label: str = ""
    table: int = 0
    trial: int = 0
    attention: Value | None = None
    options: _files.Json = dataclasses.field(default_factory=dict)

    @property
    def variant(self) -> str:
        """The name of the variant."""
        return self.network

    @property
    def test_accuracies(self) -> tuple[float, ...]:
        """The values."""
        return self.values

    @property
    def test_accuracy(self) -> float | None:
        """The mean of the values."""
        return self.mean


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """The outcomes of a run and their rows, see `Results`."""

    output: pathlib.Path
    outcomes: tuple[Outcome, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    comparisons: tuple[Comparison, ...]
    measures: tuple[Measure, ...]
    data: str
    sizes: dict[str, int]
    guess: float | None = dataclasses.field(default=None, repr=False)
    kind: str = "study"
    settings: _files.Json = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )
    labels: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)
    found: _files.Json = dataclasses.field(default_factory=dict, repr=False)
    confirmation: tuple[Row, ...] = ()

    @classmethod
    def of(
        cls,
        path: pathlib.Path,
        content: _files.Json,
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Self:
        """Returns the results of these variants and seeds, or of all."""
        settings = content["settings"]
        variants = tuple(variants or settings["variants"])
        seeds = tuple(seeds or content["seeds"])
        numbers = {name: i for i, name in enumerate(settings["variants"], 1)}
        known = {}
        for cell in content["cells"]:
            name = cell["variant"]
            known[name, cell["seed"]] = Outcome(
                **cell,
                number=numbers[name],
                label=content["labels"].get(name, name),
                values=settings["variants"][name],
            )
        ordered = [(v, seed) for seed in seeds for v in variants]
        description = next(iter(settings["data"].values()))
        guess = content.get("commonest")
        if guess is None and description.get("classes"):
            guess = 1 / description["classes"]
        return cls(
            output=path,
            outcomes=tuple(known[key] for key in ordered if key in known),
            variants=variants,
            seeds=seeds,
            comparisons=tuple(
                _comparison(held, variants) for held in content["comparisons"]
            ),
            measures=tuple(Measure(**held) for held in content["measures"]),
            data=description["name"],
            sizes=description["sizes"],
            guess=guess,
            kind=content["kind"],
            settings=settings,
            labels={
                name: label
                for name, label in content["labels"].items()
                if name in variants
            },
            found={name: content[name] for name in FOUND if name in content},
        )

    @property
    def runs(self) -> list[Outcome]:
        """The outcomes of trainings that finished."""
        return [outcome for outcome in self.outcomes if outcome.finished]

    @property
    def trials(self) -> tuple[Outcome, ...]:
        """The outcomes of a search."""
        return self.outcomes if self.kind == "tune" else ()

    @property
    def ranked(self) -> list[Outcome]:
        """The trials that finished, the best first."""
        return sorted((x for x in self.trials if x.finished), key=_rank)

    @property
    def best(self) -> Outcome | None:
        """The trial of the chosen configuration."""
        number = self.found.get("best")
        return next((x for x in self.trials if x.number == number), None)

    @property
    def best_options(self) -> _files.Json:
        """The arguments of the chosen attention layer."""
        return self.found.get("best_options", {})

    @property
    def code(self) -> str:
        """A line of code that makes this layer."""
        return self.found.get("code", "")

    @property
    def test_accuracy(self) -> float | None:
        """That of the network in `best.keras`."""
        return self.found.get("best_network", {}).get("test_accuracy")

    @property
    def baseline(self) -> str | None:
        """The baseline of the first table."""
        return self.comparisons[0].baseline

    @property
    def rows(self) -> list[Row]:
        """A `Row` per table and variant."""
        return [row for one in self.comparisons for row in self.rows_of(one)]

    def rows_of(self, comparison: Comparison) -> list[Row]:
        """Returns the rows of a table."""
        measured = self.compared(comparison=comparison)
        validation = self.compared("val_accuracy", comparison)
        names = comparison.variants
        if comparison.every_seed:
            # A baseline that lacks a seed stays, without values.
            kept = {comparison.baseline, *measured} if measured else ()
            names = [name for name in names if name in kept]
        rows = []
        for name in names:
            outcomes = [o for o in self.outcomes if o.variant == name]
            finished = [o for o in outcomes if o.finished]
            each = [outcome.seconds_per_epoch for outcome in finished]
            seconds = [one for one in each if one is not None]
            first = next(iter([*finished, *outcomes]), None)
            rows.append(
                Row(
                    **vars(measured.get(name, NOTHING)),
                    network=name,
                    seeds=tuple(outcome.seed for outcome in finished),
                    parameters=first.parameters if first else None,
                    macs=first.macs if first else None,
                    validation_accuracy=validation.get(name, NOTHING).mean,
                    seconds_per_epoch=(
                        statistics.median(seconds) if seconds else None
                    ),
                    failures=tuple(
                        f"seed {o.seed}: {o.status} ({o.message})"
                        for o in outcomes
                        if not o.finished
                    ),
                    label=self.labels.get(name, name),
                    table=comparison.number,
                )
            )
        return rows

    @property
    def history(self) -> list[dict[str, object]]:
        """A dictionary per network and epoch."""
        several = len(self.seeds) > 1
        return [
            {
                **({"seed": outcome.seed} if several else {}),
                "network": outcome.variant,
                **row,
            }
            for outcome in self.outcomes
            for row in outcome.history
        ]

    @property
    def test_images(self) -> int:
        """The number of test images."""
        return self.sizes["test"]

    @property
    def model(self) -> str:
        """What the network is called that the variants are of."""
        return str(self.settings.get("model", "your own"))

    @property
    def verdict(self) -> str:
        """The differences in a sentence."""
        if self.kind == "tune":
            return self.found.get("verdict", "")
        if self.kind == "ablate":
            return self._counted()
        if self.baseline is None:
            return ""
        first = self.measures[0]
        return self.unlearned() or verdict(
            self.compared(), self.baseline, first.heading, first.digits
        )

    def _counted(self):
        # Some are in two tables.
        compared = {
            (row.network, comparison.baseline): (row.label, row)
            for comparison in self.comparisons
            for row in self.rows_of(comparison)
            if row.difference is not None
        }
        said = counted([*compared.values()], len(self.seeds))
        return (compared and self.unlearned()) or said

    def unlearned(self) -> str:
        """Returns a sentence if no network has learned, or nothing."""
        if self.measures[0].key != "test_accuracy" or self.guess is None:
            return ""
        accuracies = [
            accuracy
            for variant in self.variants
            for accuracy in self.values(variant, "test_accuracy").values()
        ]
        return unlearned(accuracies, self.guess, self.test_images)

    def values(
        self, variant: str | None, measure: Measure | str
    ) -> dict[int, float]:
        """Returns a metric of a variant by seed, where it was measured."""
        measure = Measure(measure) if isinstance(measure, str) else measure
        values = {
            outcome.seed: value
            for outcome in self.runs
            if outcome.variant == variant
            and (value := outcome.metrics.get(measure.key)) is not None
        }
        if not measure.is_error:
            return values
        # Accuracies were computed in float32: the fraction that was meant.
        images = self.test_images
        return {
            seed: round((1 - value) * images) / images
            for seed, value in values.items()
        }

    def compared(
        self,
        measure: Measure | str | None = None,
        comparison: Comparison | None = None,
    ) -> dict[str, Measured]:
        """Returns a metric over the seeds, for each variant that has it.

        By default what is compared, in the first table.
        """
        measure = measure or self.measures[0]
        measure = Measure(measure) if isinstance(measure, str) else measure
        comparison = comparison or self.comparisons[0]
        values = {n: self.values(n, measure) for n in comparison.variants}
        least = len(self.seeds) if comparison.every_seed else 1
        values = {n: own for n, own in values.items() if len(own) >= least}
        baseline = values.get(comparison.baseline or "", {})
        # Other measures are no fractions of the images.
        is_part = measure.key == "test_accuracy"
        images = self.sizes.get("test") if is_part else None
        compared = {}
        for name, own in values.items():
            differences = [own[x] - baseline[x] for x in own if x in baseline]
            if name == comparison.baseline:
                differences = []
            compared[name] = Measured.of([*own.values()], differences, images)
        return compared


def _rank(trial):
    """Returns what trials are sorted by: accuracy, loss, size, number."""
    costs = trial.val_loss, trial.parameters, trial.number
    return -trial.val_accuracy, *costs


def _comparison(held, variants):
    """Returns a `Comparison` of these variants, as `results.json` holds it."""
    baseline = held["baseline"]
    return Comparison(
        **held
        | {
            "baseline": baseline if baseline in variants else None,
            "variants": tuple(
                name
                for name in held["variants"] or variants
                if name in variants
            ),
        }
    )
