"""Means, deviations and paired differences over seeds."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from cbam_keras.ablation.results import AblationRow
from cbam_keras.training import deviation, interval


def compared(
    table: int,
    network: str,
    entries: Sequence[tuple[Any, ...]],
    test_images: int,
) -> Iterator[AblationRow]:
    """Yields the rows of a table.

    Args:
        table: Integer, the number of the table.
        network: String, the network that carries the attention.
        entries: Sequence of the attention as the paper names it, a
            `Profile`, and for each seed a `training.Run` and the top-5
            accuracy or `None`; the first is the baseline.
        test_images: Integer, the number of test images.
    """
    baseline = None
    for attention, profile, runs in entries:
        errors = tuple(
            _error(found.test_accuracy, test_images) for found, _ in runs
        )
        top5 = None
        if runs[0][1] is not None:
            top5 = tuple(_error(found, test_images) for _, found in runs)
        differences = None
        if baseline is not None:
            pairs = zip(errors, baseline, strict=True)
            differences = [own - first for own, first in pairs]
        baseline = errors if baseline is None else baseline
        yield AblationRow(
            table=table,
            network=network,
            attention=attention,
            parameters=profile.parameters,
            macs=profile.macs,
            top1_errors=errors,
            top1_error=statistics.fmean(errors),
            top1_deviation=deviation(errors),
            difference=differences and statistics.fmean(differences),
            interval=interval(differences),
            top5_errors=top5,
            top5_error=None if top5 is None else statistics.fmean(top5),
            top5_deviation=None if top5 is None else deviation(top5),
            seconds_per_epoch=statistics.median(
                found.seconds_per_epoch for found, _ in runs
            ),
        )


def _error(accuracy, images):
    """Returns the error in %, exact although the accuracy is float32."""
    return 100 * (images - round(accuracy * images)) / images
