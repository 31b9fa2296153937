"""Which test images networks are right about, and which change sides."""

import contextlib
import dataclasses
import io
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _files

# The file of a network has one beside it that ends like this, with a bit per
# test image: whether the network is right about it. The folder of a network
# under training has one of this name.
CORRECT = ".correct.npy"
NEEDED = (
    "Test images change sides between networks that were trained with a seed "
    "in common by a Classification without folds, which writes a "
    f"*{CORRECT} beside each. Received: "
)


def read_correct(network: pathlib.Path, images: int) -> np.ndarray:
    """Returns int8 `(images,)`, 1 where the network in a file is right."""
    path = network.with_suffix(CORRECT)
    # Damage has many types.
    with contextlib.suppress(Exception):
        bits = np.unpackbits(np.load(io.BytesIO(_files.read_bytes(path))))
        if 0 <= bits.size - images < 8 and not bits[images:].any():
            return bits[:images].astype("int8")
    raise ValueError(f'{NEEDED}"{path}", which is missing or damaged')


def variance_of_drawing(changes: np.ndarray) -> float | None:
    """Returns the variance of a mean difference by drawing the test images.

    `changes`, `(seeds, images)`, are 1 for gained, -1 for lost, else 0. The
    mean covariance of two seeds counts, and half an image more gained and lost
    (Agresti and Min, 2005, https://doi.org/10.1002/sim.1781).
    """
    seeds, images = changes.shape
    if seeds < 2 or images < 2:
        return None
    covariance = np.cov(changes)[~np.eye(seeds, dtype=bool)].mean()
    return max(float(covariance), 0) / images + 1 / images**2


@dataclasses.dataclass(frozen=True, eq=False)
class Flips:
    """Test images that the second of two networks gains and loses.

    `gained` and `lost`, integers `(images,)`, say with how many of the `seeds`
    it or the first alone is right. `drawing` is `None` of one seed.
    """

    names: tuple[str, str]
    gained: np.ndarray
    lost: np.ndarray
    seeds: int
    drawing: float | None

    @property
    def p_value(self) -> float:
        """Two-sided, of one seed, by McNemar's exact test."""
        fewer, more = sorted((int(self.gained.sum()), int(self.lost.sum())))
        ways = sum(math.comb(fewer + more, x) for x in range(fewer + 1))
        return min(1.0, 2 * ways / 2 ** (fewer + more))

    def __str__(self) -> str:
        first, second = self.names
        both = self.gained, self.lost
        gained, lost = (round(x.sum() / self.seeds, 1) for x in both)
        each = [(x == self.seeds).sum() for x in both]
        end = f"per seed, {each[0]:,} and {each[1]:,} with each of {self.seeds}"
        if self.seeds == 1:
            end = (
                f"(p {self.p_value:.3g} by McNemar's exact test, which says "
                "nothing of other seeds)"
            )
        return (
            f"Of {_checks.count(len(self.gained), 'test image')}, {second} "
            f"gains {gained:,g} and loses {lost:,g} of {first} {end}."
        )


def flips_of(
    results: Any, names: tuple[str, str], seeds: Sequence[int]
) -> Flips:
    """Returns the images that change sides between two variants."""
    for name in names:
        _checks.one_of("variant", name, results.variants)
    files = {(x.variant, x.seed): str(x.file) for x in results.runs}
    images = results.sizes.get("test", 0)
    bits = [
        [read_correct(results.output / files[x, seed], images) for x in names]
        for seed in seeds
        if not results.folds and {(x, seed) for x in names} <= {*files}
    ]
    if not bits:
        raise ValueError(f"{NEEDED}{names}, without such a seed")
    changes = np.array([second - first for first, second in bits])
    gained, lost = (changes > 0).sum(axis=0), (changes < 0).sum(axis=0)
    drawing = variance_of_drawing(changes)
    return Flips(names, gained, lost, len(changes), drawing)


def describe_missing(output: pathlib.Path, rows: Sequence[Any]) -> str:
    """Returns a sentence if only some of the networks have their bits."""
    is_missing = any(x.interval and x.drawing is None for x in rows)
    # Runs of earlier versions have none.
    if not is_missing or not any(output.glob(f"*{CORRECT}")):
        return ""
    return (
        f" Some *{CORRECT} are missing or damaged: drawing the test images "
        "counts by the least possible error."
    )
