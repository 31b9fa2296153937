"""What networks predict for the test images, judged by scikit-learn."""

import collections
from typing import cast

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import DataFrame
from cbam_keras.study.files.outcomes import described
from cbam_keras.study.plans import measures
from cbam_keras.study.plans.study import Run
from cbam_keras.study.results import statistics
from cbam_keras.study.results.kept import (
    CLASSES,
    LABELS,
    OF_CLASSES,
    Kept,
    Numbers,
    Predictions,
    Tested,
)

# On fewer images a perfectly calibrated network has a large calibration error:
# 8% on 200, 24% on 22.
MANY_IMAGES = 1_000


def frame_of(
    results: Tested,
    variant: str,
    seed: int,
    split: str = "test",
    *,
    fold: int | None = None,
) -> DataFrame:
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
    runs = [x for x in results.runs if (x.variant, x.run) == key]
    kept = results.read_split(runs[0], split) if runs else None
    if kept is None:
        raise ValueError(
            "`variant`, `seed` and `fold` must be those of a network "
            "that finished, with predictions beside it. Received: "
            f'{variant=}, {seed=}, split="{split}", {fold=}'
        )
    if isinstance(kept, Numbers):
        columns = {"image": kept.images}
        given = {"label": kept.labels, "number": kept.numbers}
        for name, values in given.items():
            if values is None:
                continue
            flat = values.reshape(len(values), -1).T
            several = {f"{name} {x}": y for x, y in enumerate(flat)}
            columns |= several if len(flat) > 1 else {name: flat[0]}
        return pandas.DataFrame(columns)
    names = np.array(results.class_names, object)
    frame = pandas.DataFrame(kept.probabilities, columns=names)
    if kept.kind == CLASSES:
        labels = names[kept.labels]
    else:
        labels = ["; ".join(names[row > 0]) for row in kept.labels]
    # A class may be called like this, too.
    frame.insert(0, "label", labels, allow_duplicates=True)
    frame.insert(0, "image", kept.images, allow_duplicates=True)
    return frame


def per_class(results: Tested) -> DataFrame:
    """Returns precision, recall and F1 of each class, by network.

    Returns:
        A `pandas.DataFrame` with a row per variant and class: `variant`,
        `class`, `seeds` (how many have predictions), `images` (tested with
        one seed), and means over the seeds of `precision`, `recall`, `f1`,
        and of the class against the others `auc` (of the ROC curve) and
        `average_precision`, each with its deviation (n - 1) in
        `precision_std` and so on. A class without test images has none. The
        precision of one that is never predicted is 0.
    """
    pandas = _checks.require("pandas", extra="plot")
    tested = of_classes(results)
    frames = [
        pandas.DataFrame(
            {"variant": variant, "class": results.class_names, **x.by_class}
        )
        for variant, by_seed in tested.items()
        for x in by_seed.values()
    ]
    frame, keys = pandas.concat(frames), ["variant", "class"]
    means = mean_and_deviation(frame, keys).drop(columns="images_std")
    means.insert(2, "seeds", means["variant"].map(_counts(results)))
    # The folds of one seed have tested all images.
    images = means["images"] * (results.folds or 1)
    return means.assign(images=images.round().astype(int))


def confusion(results: Tested, variant: str) -> DataFrame:
    """Returns the confusion matrix of a variant, summed over its seeds.

    Args:
        variant: String, its name.

    Returns:
        A `pandas.DataFrame` of numbers of images, with a row for each true
        class and a column for each predicted one.
    """
    pandas = _checks.require("pandas", extra="plot")
    metrics = _checks.require("sklearn.metrics", extra="plot")
    tested = of_classes(results)
    _checks.one_of("variant", variant, tested)
    classes, names = range(len(results.class_names)), [*results.class_names]
    matrix = sum(
        metrics.confusion_matrix(x.labels, x.predicted, labels=classes)
        for x in tested[variant].values()
    )
    return pandas.DataFrame(matrix, pandas.Index(names, name="true"), names)


def calibration(results: Tested) -> DataFrame:
    """Returns means of `brier`, and of `ece`, a row per variant.

    They are over the `seeds` that have predictions. Below 1,000 test images
    there is no `ece`: that of a perfectly calibrated network is large, too.
    """
    pandas = _checks.require("pandas", extra="plot")
    records = [
        {"variant": variant}
        | {
            key: measures.measure_calibration(key, x.probabilities, x.labels)
            for key in measures.SHOWN_AS
            if key != "ece" or len(x.labels) >= MANY_IMAGES
        }
        for variant, by_seed in with_probabilities(results).items()
        for x in by_seed.values()
    ]
    means = mean_and_deviation(pandas.DataFrame(records), ["variant"])
    means.insert(1, "seeds", means["variant"].map(_counts(results)))
    return means


def thresholds(results: Tested) -> DataFrame:
    """Returns sensitivity and specificity of networks for two classes.

    A row per variant and seed has the `threshold`, and on test images
    `sensitivity`, `specificity`, `ppv`, `npv` (the predictive values: the
    fractions of positive and negative answers that are right) and the `auc` of
    the ROC curve, with the ends of their 95% intervals, `sensitivity_low` and
    so on: Wilson's, with the design effect of groups such as patients; for the
    AUC, of the logit by the variance of DeLong et al. (1988), of groups by that
    of Obuchowski (1997). The AUC has none with less than 20 images of a class
    or 5 groups that hold it, and where it is 0 or 1. The threshold is 0.5 by
    default, or if the validation images lack a class.
    """
    pandas = _checks.require("pandas", extra="plot")
    records = []
    order = results.variants.index
    for run in sorted(results.runs, key=lambda x: order(x.variant)):
        x = results.tested.get(run.variant, {}).get(run.run)
        if not isinstance(x, Predictions):
            continue
        kept = results.read_split(run, "validation")
        chosen = choose_threshold(results.threshold, kept)
        is_positive = x.predicted == 1
        if chosen is not None:
            is_positive = x.probabilities[:, 1] >= chosen
        record = {"variant": run.variant, **described(run.run)}
        record["threshold"] = 0.5 if chosen is None else chosen
        is_right = is_positive == (x.labels == 1)
        for name, rows in {
            "sensitivity": x.labels == 1,
            "specificity": x.labels == 0,
            "ppv": is_positive,
            "npv": ~is_positive,
        }.items():
            if rows.any():
                ends = statistics.interval_of_fraction(
                    is_right[rows], x.groups[rows]
                )
                record[name] = float(is_right[rows].mean())
                record[f"{name}_low"], record[f"{name}_high"] = ends
        if len(x.present) == 2 and not x.are_answers:
            record["auc"] = x.compute("auc")
            of_area = statistics.interval_of_area(
                x.labels == 1, x.probabilities[:, 1], x.groups
            )
            if of_area is not None:
                record["auc_low"], record["auc_high"] = of_area
        records.append(record)
    return pandas.DataFrame(records)


def mcnemar(results: Tested) -> DataFrame:
    """Returns McNemar's table of each network and the baseline.

    A row per variant and seed has the numbers of test images that
    `both_right`, `alone_right` (the variant alone), `baseline_right` (the
    baseline alone) and `both_wrong` count, and `mid_p` and `exact_p` of
    McNemar's test, unless images are of groups, which are not independent.
    """
    pandas = _checks.require("pandas", extra="plot")
    metrics = _checks.require("sklearn.metrics", extra="plot")
    of_classes(results)
    records = []
    for outcome in results.runs:
        names = outcome.variant, results.baseline
        pair = _find_pair(results, names, outcome.run)
        if pair is None or outcome.variant == results.baseline:
            continue
        right = (x.of_each.ravel() for x in pair)
        table = metrics.confusion_matrix(*right, labels=[1, 0])
        (both, alone), (of_baseline, neither) = table.tolist()
        record = {"variant": outcome.variant, **described(outcome.run)}
        record |= {"both_right": both, "alone_right": alone}
        record |= {"baseline_right": of_baseline, "both_wrong": neither}
        if not results.has_groups:
            p_values = statistics.mcnemar_p(alone, of_baseline)
            record["mid_p"], record["exact_p"] = p_values
        records.append(record)
    return pandas.DataFrame(records)


def _find_pair(results, pair, run):
    """Returns predictions of two networks, if for the same images."""
    kept = [results.tested.get(name, {}).get(run) for name in pair]
    if any(x is None for x in kept):
        return None
    return kept if np.array_equal(kept[0].images, kept[1].images) else None


def of_classes(results: Tested) -> dict[str, dict[Run, Predictions]]:
    """Returns what classifiers predict, or raises if there is none."""
    if results.predicts not in OF_CLASSES:
        reasons = [*results.files_left_out.values()]
        why = f" that can be used ({reasons[0]})" if reasons else ""
        raise ValueError(
            "Per-class metrics need predictions, which runs of classifiers "
            f'keep beside the networks. Received: "{results.output}", without '
            f"any{why}"
        )
    return cast(dict[str, dict[Run, Predictions]], results.tested)


def count_labels(results: Tested, split: str) -> np.ndarray | None:
    """Returns the images of each class, in a split of the first run."""
    kept = next((results.read_split(run, split) for run in results.runs), None)
    return kept.counts if isinstance(kept, Predictions) else None


def describe_collapse(results: Tested) -> str:
    """Returns sentences on networks that have collapsed."""
    sentences = []
    for variant, useless in results.collapsed.items():
        by_run = results.read_tested()[variant]
        how = "it does no better than always predicting one class"
        if not by_run[useless[0]].are_finite:
            how = "its probabilities are not finite"
        label, which = results.labels.get(variant, variant), ""
        if len(useless) < len(by_run):
            which = f" in {len(useless)} of {len(by_run)} runs"
        sentences.append(f"{label} collapsed{which}: {how}.")
    return " ".join(sentences)


def _counts(results):
    """Returns of how many seeds and folds there are predictions."""
    return {variant: len(x) for variant, x in results.tested.items()}


def with_probabilities(results: Tested) -> dict[str, dict[Run, Predictions]]:
    """Returns the predictions of networks that do not give classes alone."""
    return {
        variant: by_run
        for variant, by_run in of_classes(results).items()
        if not any(x.are_answers for x in by_run.values())
    }


def describe_left_out(results: Tested) -> str:
    """Returns of how many runs predictions are used, if not of all."""
    used = _counts(results)
    kept = collections.Counter(x.variant for x in results.runs if x.predictions)
    few = [
        f"from {used.get(name, 0)} of {_checks.count(count, 'run')} of "
        f"{results.labels.get(name, name)}"
        for name, count in kept.items()
        if any(variant == name for variant, _ in results.files_left_out)
    ]
    return f"Predictions are used {', '.join(few)}." if few else ""


def judged(results: Tested) -> dict[str, DataFrame]:
    """Returns all data frames but confusion matrices, by their names."""
    if results.predicts not in OF_CLASSES:
        return {}
    frames = {"per_class": per_class(results)}
    if results.predicts == LABELS:
        return frames
    if with_probabilities(results):
        frames["calibration"] = calibration(results)
    if len(results.class_names) == 2:
        frames["thresholds"] = thresholds(results)
    if results.are_given and len(found := mcnemar(results)):
        frames["mcnemar"] = found
    return frames


def mean_and_deviation(frame: DataFrame, keys: list[str]) -> DataFrame:
    """Returns means of columns, and deviations in columns called `..._std`."""
    means = frame.groupby(keys, sort=False).agg(["mean", "std"])
    means.columns = [
        name if kind == "mean" else f"{name}_std" for name, kind in means
    ]
    return means.reset_index()


def choose_threshold(
    rule: str | None, predictions: Kept | None
) -> float | None:
    """Returns the probability from which the second class is answered."""
    metrics = _checks.require("sklearn.metrics", extra="plot")
    if rule is None or not isinstance(predictions, Predictions):
        return None
    if len(predictions.present) < 2:
        return None
    scores = predictions.probabilities[:, 1]
    least = measures.sensitivity_of(rule)
    wrong, right, thresholds = metrics.roc_curve(
        predictions.labels, scores, drop_intermediate=False
    )
    reached = right - wrong if least is None else right >= least
    # At the first threshold no image is answered.
    return float(thresholds[1:][np.argmax(reached[1:])])
