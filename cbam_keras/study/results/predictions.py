"""What networks predict for the test images, judged by scikit-learn."""

import dataclasses
import functools
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cbam_keras import _checks, _files
from cbam_keras._terminal import Table, number_cell
from cbam_keras.study.plans import measures
from cbam_keras.study.plans.study import Run
from cbam_keras.study.running.outcomes import Outcome, described

if TYPE_CHECKING:
    import pandas

# Sentences name so many pairs of classes, and a table in the terminal has so
# many classes and networks.
MAX_PAIRS, MAX_CLASSES, MAX_NETWORKS = 3, 10, 4


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Probabilities `(B, classes)` that a network gives the images of a split.

    `images` are their names, `labels` the indices of their classes.
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)

    @property
    def present(self) -> np.ndarray:
        """The classes of which there are images."""
        return np.unique(self.labels)

    @property
    def are_finite(self) -> bool:
        return bool(np.isfinite(self.probabilities).all())

    @property
    def has_learned(self) -> bool:
        """Whether the mean recall is above that of one answer for all."""
        if not self.are_finite:
            return False
        metrics = _checks.require("sklearn.metrics", extra="plot")
        options = {"labels": self.present, "average": "macro"}
        recall = metrics.recall_score(self.labels, self.predicted, **options)
        count = len(self.present)
        return count < 2 or bool(recall > 1 / count + 1e-9)

    def by_class(self) -> dict[str, Sequence]:
        """Returns images and scores of each class, NaN without images."""
        metrics = _checks.require("sklearn.metrics", extra="plot")
        classes = range(self.probabilities.shape[1])
        *scores, images = metrics.precision_recall_fscore_support(
            self.labels, self.predicted, labels=classes, zero_division=0
        )
        of_curves = {"auc": metrics.roc_auc_score}
        of_curves["average_precision"] = metrics.average_precision_score
        # There is no curve of a class without others.
        has_curve = (images > 0) & (images < len(self.labels))
        areas = {
            name: [
                area(self.labels == x, self.probabilities[:, x])
                if has_curve[x]
                else np.nan
                for x in classes
            ]
            for name, area in of_curves.items()
        }
        known = [np.where(images > 0, x, np.nan) for x in scores]
        named = zip(("precision", "recall", "f1"), known, strict=False)
        return {"images": images, **dict(named), **areas}


class Judged:
    """Mixin of results with predictions beside their networks."""

    output: pathlib.Path
    variants: tuple[str, ...]
    labels: dict[str, str]
    class_names: tuple[str, ...]
    folds: int | None
    threshold: str | None

    @property
    def runs(self) -> Sequence[Outcome]:
        raise NotImplementedError

    def predictions(
        self,
        variant: str,
        seed: int,
        split: str = "test",
        *,
        fold: int | None = None,
    ) -> "pandas.DataFrame":
        """Returns what a network predicts for each image.

        Args:
            variant: String, its name.
            seed: Integer, the seed that it was trained with.
            split: `"test"` or `"validation"`. Defaults to `"test"`.
            fold: Integer, its fold, where there are folds. Defaults to `None`.

        Returns:
            A `pandas.DataFrame` with a row per image: `image` (its path, or its
            number), `label` (the name of its class), and the probability of
            each class in a column of its name.

        Raises:
            ValueError: If there are none.
        """
        pandas = _checks.require("pandas", extra="plot")
        key = variant, Run(seed, fold)
        runs = [x for x in self.runs if (x.variant, x.run) == key]
        kept = self._read(runs[0], split) if runs else None
        if kept is None:
            raise ValueError(
                "`variant`, `seed` and `fold` must be those of a classifier "
                "that finished, with predictions beside it. Received: "
                f'{variant=}, {seed=}, split="{split}", {fold=}'
            )
        names = np.array(self.class_names, object)
        frame = pandas.DataFrame(kept.probabilities, columns=names)
        # A class may be called like this, too.
        frame.insert(0, "label", names[kept.labels], allow_duplicates=True)
        frame.insert(0, "image", kept.images, allow_duplicates=True)
        return frame

    def _read(self, outcome: Outcome, split: str) -> Predictions | None:
        """Returns predictions, if they are kept and whole."""
        key = outcome.variant, outcome.run
        if key not in self._files_read:
            self._files_read[key] = read_predictions(
                self.output, outcome, len(self.class_names)
            )
        return (self._files_read[key] or {}).get(split)

    @functools.cached_property
    def _files_read(self) -> dict[tuple, dict[str, Predictions] | None]:
        return {}

    @functools.cached_property
    def _kept(self) -> dict[str, dict[Run, Predictions]]:
        """Predictions for the test images, by variant and run."""
        kept: dict[str, dict[Run, Predictions]] = {x: {} for x in self.variants}
        for run in self.runs:
            if predictions := self._read(run, "test"):
                kept[run.variant][run.run] = predictions
        return {variant: x for variant, x in kept.items() if x}

    @functools.cached_property
    def tested(self) -> dict[str, dict[Run, Predictions]]:
        """Those of networks that give numbers for all images."""
        finite = {
            variant: {run: x for run, x in by_run.items() if x.are_finite}
            for variant, by_run in self._kept.items()
        }
        return {variant: x for variant, x in finite.items() if x}

    def _check_tested(self):
        if not self.tested:
            raise ValueError(
                "Classes are judged by predictions beside the networks, which "
                "runs of classifiers keep since version 0.5. Received: "
                f'"{self.output}", without any'
            )

    def count_labels(self, split: str) -> np.ndarray | None:
        """Returns the images of each class, in a split of the first run."""
        kept = next((self._read(run, split) for run in self.runs), None)
        if kept is None:
            return None
        return np.bincount(kept.labels, minlength=len(self.class_names))

    @functools.cached_property
    def collapsed(self) -> dict[str, list[Run]]:
        """The runs in which networks have learned nothing, by variant."""
        runs = {
            variant: [run for run, x in by_run.items() if not x.has_learned]
            for variant, by_run in self._kept.items()
        }
        return {variant: x for variant, x in runs.items() if x}

    def _describe_collapse(self) -> str:
        """Returns sentences on networks and classes that have collapsed."""
        sentences = []
        for variant, by_run in self._kept.items():
            useless = self.collapsed.get(variant, [])
            which = functools.partial(_which, count=len(by_run))
            missed: dict[str, list[Run]] = {}
            for run, x in by_run.items():
                for index in np.setdiff1d(x.present, x.predicted):
                    if run not in useless:
                        name = self.class_names[index]
                        missed.setdefault(name, []).append(run)
            label = self.labels.get(variant, variant)
            if useless:
                how = "it is no better than one answer for all images"
                if not by_run[useless[0]].are_finite:
                    how = "its probabilities are not numbers"
                text = f"{label} has learned nothing{which(useless)}: {how}."
                sentences.append(text)
            if missed:
                names = [f'"{x}"{which(runs)}' for x, runs in missed.items()]
                listed = _checks.first_few(names, 5)
                sentences.append(f"{label} never predicts {listed}.")
        return " ".join(sentences)

    def per_class(self) -> "pandas.DataFrame":
        """Returns how well each network tells each class.

        Returns:
            A `pandas.DataFrame` with a row per variant and class: `variant`,
            `class`, `images` (tested with one seed), and means over the seeds
            of `precision`, `recall`, `f1`, and of the class against the others
            `auc` (of the ROC curve) and `average_precision`, each with its
            deviation (n - 1) in `precision_std` and so on. A class without
            test images has none. The precision of one that is never predicted
            is 0.
        """
        pandas = _checks.require("pandas", extra="plot")
        self._check_tested()
        frames = [
            pandas.DataFrame(
                {"variant": variant, "class": self.class_names, **x.by_class()}
            )
            for variant, by_seed in self.tested.items()
            for x in by_seed.values()
        ]
        frame, keys = pandas.concat(frames), ["variant", "class"]
        means = mean_and_deviation(frame, keys).drop(columns="images_std")
        # The folds of one seed have tested all images.
        images = means["images"] * (self.folds or 1)
        return means.assign(images=images.round().astype(int))

    def confusion(self, variant: str) -> "pandas.DataFrame":
        """Returns the confusion matrix of a variant, summed over its seeds.

        Args:
            variant: String, its name.

        Returns:
            A `pandas.DataFrame` of numbers of images, with a row for each true
            class and a column for each predicted one.
        """
        pandas = _checks.require("pandas", extra="plot")
        metrics = _checks.require("sklearn.metrics", extra="plot")
        self._check_tested()
        _checks.one_of("variant", variant, self.tested)
        classes, names = range(len(self.class_names)), [*self.class_names]
        matrix = sum(
            metrics.confusion_matrix(x.labels, x.predicted, labels=classes)
            for x in self.tested[variant].values()
        )
        return pandas.DataFrame(matrix, pandas.Index(names, name="true"), names)

    def confusions(self) -> dict[str, list[list[int]]]:
        """Returns the matrices of all variants, by row, for JSON."""
        return {x: self.confusion(x).to_numpy().tolist() for x in self.tested}

    def describe_confusion(self, variant: str) -> str:
        """Returns which pairs of classes are confused most, in a sentence."""
        matrix = self.confusion(variant).to_numpy()
        wrong, totals = matrix - np.diag(np.diag(matrix)), matrix.sum(axis=1)
        order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
        pairs = [
            f"{self.class_names[a]} taken for {self.class_names[b]} "
            f"({wrong[a, b]:,} of {totals[a]:,})"
            for a, b in zip(*np.unravel_index(order, wrong.shape), strict=True)
            if wrong[a, b]
        ]
        label = self.labels.get(variant, variant)
        listed = ", ".join(pairs) or "no classes"
        return f"{label} most often confuses: {listed}."

    def calibration(self) -> "pandas.DataFrame":
        """Returns means of `ece` and `brier` over seeds, a row per variant."""
        pandas = _checks.require("pandas", extra="plot")
        self._check_tested()
        records = [
            {
                "variant": variant,
                **{
                    key: measures.calibration(key, x.probabilities, x.labels)
                    for key in measures.SHOWN
                },
            }
            for variant, by_seed in self.tested.items()
            for x in by_seed.values()
        ]
        return mean_and_deviation(pandas.DataFrame(records), ["variant"])

    def thresholds(self) -> "pandas.DataFrame":
        """Returns how well networks for two classes find the second one.

        A row per variant and seed has the `threshold`, `sensitivity` and
        `specificity` on test images, and the ends of their 95 % intervals by
        Wilson, `sensitivity_low` and so on. The threshold is 0.5 if none is to
        be chosen, or if there are no validation images of both classes.
        """
        pandas = _checks.require("pandas", extra="plot")
        stats = _checks.require("scipy.stats", extra="plot")
        records = []
        order = self.variants.index
        for run in sorted(self.runs, key=lambda x: order(x.variant)):
            x = self.tested.get(run.variant, {}).get(run.run)
            if x is None:
                continue
            kept = self._read(run, "validation")
            chosen = choose_threshold(self.threshold, kept)
            is_positive = x.predicted == 1
            if chosen is not None:
                is_positive = x.probabilities[:, 1] >= chosen
            record = {"variant": run.variant, **described(run.run)}
            record["threshold"] = 0.5 if chosen is None else chosen
            for name, index in (("sensitivity", 1), ("specificity", 0)):
                is_right = (is_positive == index)[x.labels == index]
                if len(is_right):
                    test = stats.binomtest(is_right.sum(), len(is_right))
                    low, high = test.proportion_ci(method="wilson")
                    record |= {name: test.statistic, f"{name}_low": low}
                    record[f"{name}_high"] = high
            records.append(record)
        return pandas.DataFrame(records)

    def judged(self) -> "dict[str, pandas.DataFrame]":
        """Returns all data frames but confusion matrices, by their names."""
        if not self.tested:
            return {}
        frames = {
            "per_class": self.per_class(),
            "calibration": self.calibration(),
        }
        if len(self.class_names) == 2:
            frames["thresholds"] = self.thresholds()
        return frames

    def judged_values(self) -> _files.Json:
        """Returns what JSON holds of predictions, nothing without any."""
        if not self.tested:
            return {}
        return {
            "class_names": self.class_names,
            "collapse": self._describe_collapse(),
            "confusion": self.confusions(),
            # JSON has no NaN.
            **{
                name: x.astype(object).where(x.notna(), None).to_dict("records")
                for name, x in self.judged().items()
            },
        }

    def class_table(self) -> Table | None:
        """Returns the F1 score of each class as a table, if that is small."""
        sizes = len(self.class_names), len(self.tested)
        if not 0 < sizes[1] <= MAX_NETWORKS or sizes[0] > MAX_CLASSES:
            return None
        rows: dict[str, dict[str, str]] = {}
        for row in self.per_class().to_dict("records"):
            cells = rows.setdefault(row["class"], {"class": row["class"]})
            cells["images"] = f"{row['images']:,}"
            label = self.labels.get(row["variant"], row["variant"])
            cells[label] = mean_cell(row, "f1")
        return Table("F1 score of each class (%)", [*rows.values()])


def read_predictions(
    folder: pathlib.Path, outcome: Outcome, classes: int
) -> dict[str, Predictions] | None:
    """Returns what a network of so many classes predicts, by split.

    `None` if there is no file, or a damaged one, which is renamed. Arrays that
    are no predictions of classes are read, too, and left out.
    """
    if outcome.predictions is None:
        return None
    path = folder / outcome.predictions
    try:
        content = io.BytesIO(_files.read_bytes(path))
    except FileNotFoundError:
        return None
    try:
        with np.load(content) as file:
            arrays = {name: file[name] for name in file.files}
        return _by_split(arrays, outcome, classes)
    # Damage has many types, and nothing else fails in memory.
    except Exception as error:
        _files.quarantine(path, error)
        return None


def _by_split(arrays, outcome, classes):
    """Returns predictions of classes by split, or raises if they are none."""
    names = [x.name for x in dataclasses.fields(Predictions)]
    by_split = {}
    for split in dict.fromkeys(key.partition("/")[0] for key in arrays):
        if f"{split}/probabilities" not in arrays:
            continue
        kept = Predictions(*(arrays[f"{split}/{name}"] for name in names))
        shape = len(kept.images), classes
        labels, scores = kept.labels, kept.probabilities
        if scores.shape != shape or labels.shape != shape[:1]:
            raise ValueError(f"it has {scores.shape} and {labels.shape} values")
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"it has labels that are not of {classes} classes")
        by_split[split] = kept
    accuracy = outcome.test_accuracy
    if (kept := by_split.get("test")) and accuracy is not None:
        hits = np.sum(kept.predicted == kept.labels)
        expected = accuracy * len(kept.labels)
        # Two classes may be equally probable.
        if kept.are_finite and abs(hits - expected) > 1.5:
            raise ValueError(
                f"it is right for {hits} images, and the network for "
                f"{expected:.0f}"
            )
    return by_split


def _which(runs: Sequence[Run], count: int) -> str:
    """Returns with which seeds and folds, unless it is with all."""
    if len(runs) == count:
        return ""
    if runs[0].fold is None:
        seeds = _checks.first_few([run.seed for run in runs], 5)
        return f" with seed{'s' * (len(runs) > 1)} {seeds} of {count}"
    named = _checks.first_few([f"({run})" for run in runs], 5)
    return f" in {named} of {count} runs"


def mean_and_deviation(
    frame: "pandas.DataFrame", keys: list[str]
) -> "pandas.DataFrame":
    """Returns means of columns, and deviations in columns called `..._std`."""
    means = frame.groupby(keys, sort=False).agg(["mean", "std"])
    means.columns = [
        name if kind == "mean" else f"{name}_std" for name, kind in means
    ]
    return means.reset_index()


def mean_cell(
    row: Mapping, key: str, form: str = "{:.1f}", scale: float = 100
) -> str:
    """Returns a mean and its deviation as shown, without what is NaN."""
    numbers = (row.get(name) for name in (key, f"{key}_std"))
    known = [number_cell(form, x, scale) for x in numbers if x == x]
    return " \N{PLUS-MINUS SIGN} ".join(filter(None, known))


def choose_threshold(
    rule: str | None, predictions: Predictions | None
) -> float | None:
    """Returns the probability of the second class from which it is answered.

    It is one of those of validation images, or `None` without a rule, and
    without images of both classes.
    """
    metrics = _checks.require("sklearn.metrics", extra="plot")
    if rule is None or predictions is None or len(predictions.present) < 2:
        return None
    scores = predictions.probabilities[:, 1]
    least = measures.sensitivity_of(rule)
    wrong, right, thresholds = metrics.roc_curve(
        predictions.labels, scores, drop_intermediate=False
    )
    reached = right - wrong if least is None else right >= least
    # At the first threshold no image is answered.
    return float(thresholds[1:][np.argmax(reached[1:])])
