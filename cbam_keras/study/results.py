"""`Results`: what a run has come to, read, printed, written and drawn."""

import dataclasses
import json
import os
import pathlib
import statistics
from typing import Self

from cbam_keras import _files, _terminal, plotting
from cbam_keras.study.checkpoints import DAMAGE
from cbam_keras.study.content import CONFIRMATION, RESULTS, read_content
from cbam_keras.study.outcomes import Outcomes
from cbam_keras.study.tables import (
    NETWORKS,
    SHOWN,
    ablation_title,
    search_text,
)


@dataclasses.dataclass(frozen=True)
class Results(Outcomes, _terminal.Tabular):
    """Results of a run of any kind; prints as tables with a verdict.

    `to_dataframe()` has a row per variant: `variant`, `seeds` (how many),
    `mean`, `std` (n - 1), `difference` to the baseline paired by seed, `low`
    and `high` (its 95 % interval over two seeds or more), `parameters` and
    `macs`. Of an ablation it has a row per network and table, with its errors
    in %, those of each seed among them, of detectors one per network and
    seed, with what was measured, and of a search one per trial, with its
    hyperparameters. `csv()` and `latex()` return it as text.

    Attributes:
        output: Path of the output folder.
        outcomes: Tuple of `Outcome`, one per variant and seed that has been
            trained, in the order of training.
        variants, seeds: Tuples of all variants (strings) and seeds.
        comparisons: Tuple of `Comparison`, one per table.
        measures: Tuple of `Measure`, first the one that is compared.
        data: String, the name of the dataset.
        sizes: Dictionary, the number of images by split.
        guess: Number in [0, 1], the test accuracy of guessing: the part of
            the commonest class of the test images or, where their labels are
            not known, of each of so many classes; `None` for other data.
        kind: String, `"study"`, `"train"`, `"ablate"`, `"detect"` or
            `"tune"`.
        settings: Dictionary, what a resumed run must agree in.
        labels: Dictionary of variants to what tables call them, where that is
            not their name.
        runs: List of the `Outcome` of all trainings that finished.
        baseline: String, the variant that the others of the first table are
            compared with, or `None`.
        rows: List of `Row`, one per table and variant.
        history: List of dictionaries, one per network and epoch: `seed` (if
            there are several), `network`, `epoch` (from 1), the metrics of
            the task, `seconds`.
        test_images: Integer, the number of test images.
        verdict: String, the differences in a sentence, or that no network
            has learned; empty without a baseline.
        trials: Tuple of `Outcome`, those of a search, in the order in which
            they began. Of another run this and what follows is empty or
            `None`.
        ranked: List of the trials that finished, the best first.
        confirmation: Tuple of `Row`: no attention, SE, and the best two
            others, as far as they are in the space, trained again.
        best: The trial of the chosen configuration: of those confirmed, the
            one of the highest mean validation accuracy; without confirmation
            the best trial.
        best_options: Dictionary, the arguments of the attention layer of
            `best`, if the search was over a `CBAMHyperModel`.
        code: String, a line of code that makes this layer; empty without
            attention, for a layer that no code can import, such as one of a
            lambda, or if the search was over something else.
        test_accuracy: Number in [0, 1], of the network in `best.keras`: the
            training of the chosen configuration which validates best.
        found: Dictionary, what `results.json` holds of these.
    """

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Self:
        """Returns the results in an output folder, as far as there are any.

        Args:
            folder: Path of the output folder of a run.

        Raises:
            ValueError: If it holds none, or if they are damaged.
        """
        path = pathlib.Path(folder)
        try:
            results = cls.of(path, read_content(path))
            return results.with_confirmation(results.found.get("confirmation"))
        except DAMAGE as error:
            raise ValueError(
                "`folder` must be the output folder of a study. Received: "
                f'folder="{path}", whose {RESULTS} cannot be read '
                f"({type(error).__name__}: {error})"
            ) from error

    def with_confirmation(self, confirmation: list[_files.Json] | None) -> Self:
        """Returns these results with the rows of a confirmation, if any.

        It is as `results.json` holds it: trials, and with which seeds they
        have been trained again, in a folder of their own.
        """
        if not confirmation:
            return self
        path = self.output / CONFIRMATION
        content = read_content(path)
        trials = {trial.number: trial for trial in self.trials}
        names = [
            name
            for held in confirmation
            for name, options in content["settings"]["variants"].items()
            if options == trials[held["trial"]].values
        ]
        seeds = dict.fromkeys(x for held in confirmation for x in held["seeds"])
        again = self.of(path, content, names, tuple(seeds))
        rows = [
            dataclasses.replace(
                row,
                trial=held["trial"],
                attention=trials[held["trial"]].values.get("attention"),
                options=held["options"],
            )
            for row, held in zip(again.rows, confirmation, strict=True)
        ]
        return dataclasses.replace(self, confirmation=tuple(rows))

    def __str__(self) -> str:
        if self.kind == "tune":
            return search_text(self)
        text = super().__str__()
        if self.kind == "ablate":
            text += f"\n\nAll files are in {self.output}"
        if self.kind == "detect":
            text += f"\nResults in {self.output}, detections in detections.png"
        return text

    def markdown(self) -> str:
        """Returns tables and verdict in Markdown."""
        tables = [table.markdown() for table in self.tables()]
        return "\n\n".join(filter(None, [*tables, self.verdict]))

    def json(self) -> str:
        """Returns the results as a JSON object."""
        return json.dumps(self._shown.json(self), indent=1)

    def tables(self) -> list[_terminal.Table]:
        """Returns the tables, without the names of folders."""
        return self._shown.tables(self)

    @property
    def _shown(self):
        return SHOWN.get(self.kind, NETWORKS)

    def _tables(self):
        return (self._shown.printed or self._shown.tables)(self)

    def _records(self):
        return self._shown.records(self)

    def plot(self) -> "plotting.style.Figure | plotting.style.Axes":
        """Returns a matplotlib figure of means, seeds and intervals."""
        if self.kind == "ablate":
            return plotting.plot_ablation(self, ablation_title(self))
        rows = [row for row in self.rows if row.values]
        names = [row.label for row in rows]
        figure = plotting.new_figure(8, 1.2 + 0.5 * len(rows), self.data)
        axes = figure.subplots()
        plotting.style_axes(axes, "x")
        styles = plotting.styles_of(names)
        means = [100 * statistics.fmean(row.values) for row in rows]
        networks = [row.network for row in rows]
        if self.baseline in networks:
            # Where an interval does not touch this line, it excludes zero.
            start = means[networks.index(self.baseline)]
            axes.axvline(start, c="0.35", ls="--", lw=1)
        for place, row in enumerate(rows):
            accuracies = [100 * value for value in row.values]
            color = styles[row.label]["color"]
            axes.plot(accuracies, [place + 0.2] * len(accuracies), ".", c=color)
            axes.plot(means[place], place, "o", c=color)
            if row.interval is not None:
                ends = [start + 100 * end for end in row.interval]
                axes.plot(ends, [place, place], "k|-")
        axes.set_yticks(range(len(rows)), names, parse_math=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        alone = max((row.pairs for row in rows), default=0) == 1
        heading = self.measures[0].heading
        axes.set_xlabel(
            f"{heading} (%): mean, seeds, and 95 % interval of the difference"
            f"{' (test images alone)' if alone else ''}",
            parse_math=False,
        )
        return figure
