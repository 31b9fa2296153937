"""`Results`: the results of a run, read, printed, written and drawn."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Self

from cbam_keras import _checks, _files, _terminal
from cbam_keras._files import STUDY
from cbam_keras._terminal import Table
from cbam_keras.explain.figures import style
from cbam_keras.study.files.checkpoints import DAMAGE
from cbam_keras.study.files.folder import read_content
from cbam_keras.study.files.outcomes import history_of
from cbam_keras.study.plans.measures import (
    ACCURACY,
    FRACTIONS,
    as_measure,
    validation_key,
)
from cbam_keras.study.plans.study import Measure, Run, runs_of
from cbam_keras.study.results import learning, predictions, statistics, tables
from cbam_keras.study.results.changes import explain_no_interval, find_changes
from cbam_keras.study.results.figures import plot_comparison
from cbam_keras.study.results.kept import Tested
from cbam_keras.study.results.statistics import Measured
from cbam_keras.study.results.tables import Row


@dataclasses.dataclass(frozen=True)
class Results(Tested, _terminal.Tabular):
    """Results of a run; prints as tables with a verdict.

    `to_dataframe()` has a row per variant. The columns are `variant`, `seeds`
    (their number), `mean`, `std` (n - 1), `difference` from the baseline paired
    by seed, `low` and `high` (the 95% interval of the difference),
    `parameters` and `macs`.

    Attributes:
        output: Path of the output folder.
        outcomes: Tuple of `Outcome`, one per variant and seed.
        variants, seeds: Tuples of all variants (strings) and seeds.
        baseline: String, the variant that others are compared with, or `None`.
        measures: Tuple of `Measure`; the first one is compared.
        data: String, the name of the dataset.
        sizes: Dictionary, the number of images by split, of the first fold.
        guess: Number, the test accuracy of always predicting the majority
            class, or the metric of the best constant of the training data.
            `None` if it is not known.
        kind: String, the kind of the study, such as `"train"`.
        settings: Dictionary, the settings that a resumed run must share.
        labels: Dictionary, the names of variants in tables.
        runs: List of the `Outcome` of all training runs that finished.
        rows: List of `Row`, one per variant.
        history: List of dictionaries, one per network and epoch. They have
            `seed` (if there are several), `network`, `epoch` (from 1), the
            metrics of the task, `seconds`.
        test_images: Integer, the number of test images, of all folds.
        folds: Integer, the number of folds, or `None`.
        question: String, what the study asks, or empty.
        class_names: Tuple of strings, the classes by number.
        threshold: String, how the threshold is chosen, or `None`.
        candidates: Tuple of `Outcome`, the networks at each of several learning
            rates.
        learning_rates: Data frame, a row for each candidate. The columns are
            `variant`, `seed`, `fold`, `learning_rate`, `validation` (the
            metric on the validation data) and `chosen` (boolean).
        verdict: String, the differences from the baseline, after networks that
            have collapsed and before networks that may be undertrained, or
            that no network has learned.
        detectable: Number, the minimum detectable difference at 80% power, in
            units of the metric: 0.01 is one point. `None` with two to four
            seeds, or if even the largest gain is not detectable.
    """

    @staticmethod
    def read(folder: str | os.PathLike) -> "Results":
        """Returns the results in an output folder, also of an unfinished run.

        A search returns a `Ranking`.

        Args:
            folder: Path of the output folder of a run.

        Raises:
            ValueError: If there are no results, or if they are damaged.
        """
        path = pathlib.Path(folder)
        try:
            return read_results(path, read_content(path)).confirmed()
        except DAMAGE as error:
            raise ValueError(
                "`folder` must be the output folder of a study. Received: "
                f'folder="{path}", whose {STUDY} or networks cannot be read '
                f"({type(error).__name__}: {error})"
            ) from error

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
        outcomes = {(x.variant, x.run): x for x in content["outcomes"]}
        runs = runs_of(seeds, settings.get("folds"))
        in_order = [(variant, run) for run in runs for variant in variants]
        baseline = content["baseline"]
        description = next(iter(settings["data"].values()))
        guess = content.get("commonest")
        if guess is None and description.get("classes"):
            guess = 1 / description["classes"]
        return cls(
            output=path,
            outcomes=tuple(outcomes[x] for x in in_order if x in outcomes),
            variants=variants,
            seeds=seeds,
            baseline=baseline if baseline in variants else None,
            measures=tuple(Measure(**x) for x in content["measures"]),
            data=description["name"],
            sizes=description["sizes"],
            guess=guess,
            kind=content["kind"],
            settings=settings,
            labels=content["labels"],
            folds=settings.get("folds"),
            question=content["question"],
            class_names=tuple(content["class_names"]),
            threshold=content["threshold"],
            by_command=content.get("command") is not None,
            candidates=tuple(
                x
                for x in content.get("candidates", ())
                if x.original in variants and x.run in runs
            ),
        )

    def confirmed(self) -> Self:
        """Returns it with the confirmation that a search has in a subfolder."""
        return self

    @property
    def are_classifiers(self) -> bool:
        """Whether the networks have an accuracy, and can be explained."""
        keys = {measure.key for measure in self.measures}
        return not keys.isdisjoint({*FRACTIONS, validation_key(ACCURACY)})

    @property
    def first_run(self) -> Run:
        """The first run that finished, if any has."""
        return next((x.run for x in self.runs), self.planned_runs[0])

    @property
    def rows(self) -> list[Row]:
        """A `Row` per variant."""
        return tables.rows_of(self)

    @property
    def history(self) -> list[dict[str, object]]:
        """A dictionary per network and epoch."""
        return history_of(self.outcomes, len(self.planned_runs) > 1)

    @property
    def test_images(self) -> int:
        """The number of test images, those of all folds."""
        return self.images_of(self.planned_runs)

    def images_of(self, runs: Iterable[Run], split: str = "test") -> int:
        """Returns how many images were tested in these runs."""
        if self.folds is None:
            return self.sizes[split]
        descriptions = self.settings["data"]
        # Each seed tests the images again, in other folds.
        tested = {
            run.fold: descriptions[run.name]["sizes"][split]
            for run in runs
            if run.name in descriptions
        }
        return sum(tested.values())

    @property
    def seeds_in_words(self) -> str:
        """How many seeds and folds there are, in words."""
        planned = len(self.planned_runs)
        words = statistics.describe_runs(planned, self.folds)
        # A run that goes on has fewer, and so has a network that failed.
        is_whole = len(self.runs) == len(self.variants) * planned
        return words if is_whole or planned == 1 else f"up to {words}"

    @property
    def tested_on(self) -> str:
        """The test images in words, and how much of the accuracy one is."""
        images, noun, one = self.test_images, self.noun, ""
        accuracies = (*FRACTIONS, validation_key(ACCURACY))
        # One of more images is less than tables show.
        first = self.measures[0]
        if first.key in accuracies and 0 < images <= 10_000:
            points = first.in_points(first.number(1 / images))
            one = f" (one {noun} = {points})"
        if self.folds is None:
            tested = _checks.count(images, f"test {noun}")
            return f"Same {tested} for all runs{one}"
        return f"{images:,} {noun}s, each tested in one fold{one}"

    @property
    def model(self) -> str:
        """The name of the network that the variants are of."""
        return str(self.settings.get("model", "your own"))

    @property
    def title(self) -> str:
        """The network, the data and the seeds in words."""
        if self.are_given:
            return f"Predictions, {self.seeds_in_words}"
        return f"{self.model} on {self.data}, {self.seeds_in_words}"

    @property
    def verdict(self) -> str:
        """The differences in a sentence."""
        if guessing := self.describe_guessing():
            return guessing if self.baseline else ""
        sentences = [predictions.describe_collapse(self)]
        if self.baseline is not None:
            sentences.append(self._describe_differences())
            sentences.append(learning.describe_learning(self))
            epochs = max((x.epochs for x in self.runs), default=0)
            if epochs and (images := self.sizes.get("train")):
                trained = _checks.count(epochs, "epoch")
                text = f"Trained for {trained} on {images:,} {self.noun}s."
                sentences.append(text)
            sentences.append(
                tables.describe_few_images(self.sizes, self.folds, self.noun)
            )
        return " ".join(filter(None, sentences))

    def _describe_differences(self):
        label = self.labels.get(self.baseline, self.baseline)
        if self.baseline in self.collapsed:
            return f"Differences from {label} cannot be judged. {tables.ADVICE}"
        learned = {
            self.labels.get(name, name): x for name, x in self.learned().items()
        }
        first = self.measures[0]
        return statistics.verdict(
            learned, label, first, self.folds, self.are_given
        )

    def learned(self) -> dict[str, Measured]:
        """Returns the networks of which the verdict judges differences."""
        if self.baseline in self.collapsed or self.describe_guessing():
            return {}
        return {
            name: x
            for name, x in self.compared().items()
            if name not in self.collapsed
        }

    learning_rates = property(learning.learning_rates)
    describe_guessing = tables.describe_guessing
    per_class = predictions.per_class
    confusion = predictions.confusion
    calibration = predictions.calibration
    thresholds = predictions.thresholds
    mcnemar = predictions.mcnemar
    latex = tables.latex

    @property
    def detectable(self) -> float | None:
        """The minimum detectable difference at 80% power."""
        return statistics.find_detectable(
            self.compared().values(), self.measures[0]
        )

    def values(
        self, variant: str | None, measure: Measure | str
    ) -> dict[Run, float]:
        """Returns a metric of a variant by seed and fold, where it has it."""
        key = as_measure(measure).key
        return {
            outcome.run: value
            for outcome in self.runs
            if outcome.variant == variant
            and (value := outcome.metrics.get(key)) is not None
        }

    def compared(
        self, measure: Measure | str | None = None
    ) -> dict[str, Measured]:
        """Returns a metric, or what is compared, with each seed by variant."""
        measure = as_measure(measure or self.measures[0])
        if measure.key not in self._compared:
            self._compared[measure.key] = self._compare(measure)
        # A copy, since the caller may change it.
        return dict(self._compared[measure.key])

    @functools.cached_property
    def _compared(self) -> dict[str, dict[str, Measured]]:
        return {}

    def _compare(self, measure):
        compared = {}
        of_baseline = self.values(self.baseline, measure)
        for name in self.variants:
            values = self.values(name, measure)
            if not values:
                continue
            shared = [run for run in values if run in of_baseline]
            if name == self.baseline:
                shared = []
            differences = [values[run] - of_baseline[run] for run in shared]
            by_example = None
            if shared and self.folds is None:
                pair = name, self.baseline
                by_example = find_changes(
                    self, pair, shared, measure.key, differences
                )
            found = Measured.of(
                [*values.values()],
                differences if by_example is None else by_example.by_group,
                self.sizes.get("test", 0),
                self.folds,
                are_counts=measure.key in FRACTIONS,
                drawn=f"test {self.noun}s",
                sizes=by_example.sizes if by_example else (),
                differ=by_example.differ if by_example else None,
                degrees=by_example.degrees if by_example else None,
            )
            if reason := self._explain_no_interval(name, shared, measure.key):
                found = found.without_interval(reason)
            compared[name] = found
        return compared

    def _explain_no_interval(self, name, runs, key):
        """Returns why a measure has no interval, or an empty string."""
        if not runs:
            return ""
        tested = self.tested.get(name, {})
        # The folds of one seed have tested all examples.
        of_one_seed = [
            tested[run]
            for run in runs
            if run.seed == runs[0].seed and run in tested
        ]
        return explain_no_interval(
            key, of_one_seed, self.noun, self.class_names
        )

    def tables(self) -> list[Table]:
        """Returns the tables, without the names of folders."""
        title = "Networks, one seed"
        if len(self.planned_runs) > 1:
            title = f"Networks, mean over {self.seeds_in_words}"
        return [tables.networks_table(self, title)]

    def _tables(self):
        # They are printed with the name of the folder.
        title = f"Results in {self.output}"
        if len(self.planned_runs) > 1:
            title += f", {self.seeds_in_words}"
        return [tables.networks_table(self, title)]

    def _records(self):
        return [
            {
                "variant": row.variant,
                "seeds": len(row.seeds),
                "mean": row.mean,
                "std": row.deviation,
                "difference": row.difference,
                "low": row.interval and row.interval[0],
                "high": row.interval and row.interval[1],
                "parameters": row.parameters,
                "macs": row.macs,
            }
            for row in self.rows
        ]

    def json(self) -> str:
        """Returns the results as a JSON object."""
        rows = [
            {
                "network": row.variant,
                "standard_error": row.standard_error,
                **vars(row),
            }
            for row in self.rows
        ]
        if self.measures[0].key == ACCURACY:
            for row in rows:
                row["test_accuracy"] = row["mean"]
        values = {
            "data": self.data,
            "seeds": self.seeds,
            "folds": self.folds,
            "test_images": self.test_images,
            "rows": rows,
            "verdict": self.verdict,
            "detectable": self.detectable,
            "runs": [run.as_json() for run in self.runs],
            "output": str(self.output),
        }
        return json.dumps(values, indent=1)

    def unfinished(self) -> list[str]:
        """Returns a line for each seed that lacks networks."""
        trained = {(outcome.variant, outcome.run) for outcome in self.outcomes}
        lines = []
        for run in self.planned_runs:
            absent = [n for n in self.variants if (n, run) not in trained]
            if absent:
                named = _checks.first_few(absent, 20)
                lines.append(f"Not trained yet: {named} ({run}).")
        return lines

    def path(
        self, variant: str, seed: int = 0, fold: int | None = None
    ) -> pathlib.Path:
        """Returns the path of a trained network.

        Its predictions are beside it, in `*.predictions.npz`.

        Args:
            variant: String, its name.
            seed: Integer, the seed that it was trained with. Defaults to `0`.
            fold: Integer, its fold, if there are folds. Defaults to `None`.

        Raises:
            ValueError: If there is no such network.
        """
        files = {(x.variant, x.run): x.file for x in self.runs if x.file}
        if file := files.get((variant, Run(seed, fold))):
            return self.output / file
        named = ", ".join(f"{name} ({run})" for name, run in files) or "none"
        raise ValueError(
            "`variant`, `seed` and `fold` must be those of a network that is "
            f"kept. Received: {variant=}, {seed=}, {fold=}. There are: {named}"
        )

    def networks(self) -> dict[str, str]:
        """Returns the files of the networks of the first run, by variant."""
        runs = [x for x in self.runs if x.run == self.first_run]
        return {x.variant: x.file for x in runs if x.file}

    def plot(self) -> "style.Figure":
        """Returns a matplotlib figure of means, seeds and intervals."""
        return plot_comparison(self, self.title)

    predictions = predictions.frame_of


# The class of what folders of a kind hold, where it is not `Results`.
RESULTS_OF_KIND: dict[str, type[Results]] = {}


def read_results(path: pathlib.Path, content: _files.Json) -> Results:
    """Returns what a folder holds, without the confirmation of a search."""
    return RESULTS_OF_KIND.get(content["kind"], Results).of(path, content)
