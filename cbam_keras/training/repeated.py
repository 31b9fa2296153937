"""Networks trained over several seeds, paired by seed."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from cbam_keras import _checks, data
from cbam_keras._terminal import TimeLeft
from cbam_keras.training.distribution import Distribution
from cbam_keras.training.folder import SeedsFolder
from cbam_keras.training.images import images_for
from cbam_keras.training.networks import build_network
from cbam_keras.training.recipe import Recipe
from cbam_keras.training.results import Results
from cbam_keras.training.runs import train


def check_seeds(seeds: Any) -> tuple[int, ...]:
    """Returns the seeds of a number of seeds, or of a sequence."""
    if not isinstance(seeds, Sequence) or isinstance(seeds, str):
        return tuple(range(_checks.positive_integer("seeds", seeds)))
    found = tuple(_checks.seed("seeds", seed) for seed in seeds)
    if not found or len(set(found)) != len(found):
        raise ValueError(
            "`seeds` must be a number of seeds, or one or several different "
            f"ones. Received: seeds={seeds!r}"
        )
    return found


def check_repeatable(
    images: Any, seeds: Sequence[int], distribute: bool | Distribution
) -> None:
    """Raises if networks cannot be trained on these images for each seed."""
    if isinstance(images, data.ImageData):
        raise TypeError(
            "`images` must not be loaded yet: each seed splits them "
            f'differently. Received: loaded images of "{images.name}"'
        )
    if isinstance(distribute, Distribution):
        raise ValueError(
            "Several seeds cannot be shared among processes. Train each seed "
            "in a folder of its own. Received: "
            f"seeds={list(seeds)}, distribute={distribute!r}"
        )


def train_over_seeds(
    networks: Mapping[str, Callable[[], keras.Model]],
    images: Any,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    output: str | os.PathLike,
    resume: bool = True,
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    distribute: bool | Distribution = False,
    tensorboard: bool = False,
    loaded: data.ImageData | None = None,
    summarize: Callable[[dict[int, Results]], Mapping[str, Any]] | None = None,
) -> dict[int, Results]:
    """Trains networks once per seed.

    A seed decides the initial weights, which images are for validation, and
    their order; the test images are always the same. The output folder gets a
    folder `seed-<seed>` each, of one call of `train`. The same call given
    again resumes, and with more seeds it trains what is missing.

    Args:
        networks: As for `train`, functions only.
        images: What `data.load` takes; loaded again for each seed.
        recipe: A `Recipe`, whose seed is replaced.
        seeds: Sequence of different integers, trained in this order.
        output: Path of a folder that is new, empty, or holds this run.
        resume: See `train`.
        overwrite: See `train`.
        settings: See `train`.
        data_options: Mapping of further arguments of `data.load`.
        distribute: Boolean, see `train`.
        tensorboard: See `train`.
        loaded: `ImageData`, the images of the first seed if they have been
            loaded already. Defaults to `None`.
        summarize: Function of the results that returns a mapping of plain
            values, which `results.json` gets at the end. Defaults to `None`.

    Returns:
        Dictionary of seeds to `Results`.

    Raises:
        TypeError: If `images` are loaded already, or as `train`.
        ValueError: As `train`; if `distribute` is a `Distribution`.
    """
    _checks.boolean("resume", resume)
    _checks.boolean("overwrite", overwrite)
    check_repeatable(images, seeds, distribute)
    recipes = {seed: dataclasses.replace(recipe, seed=seed) for seed in seeds}
    if loaded is None:
        loaded = images_for(images, recipes[seeds[0]], data_options)
    described = dataclasses.asdict(recipe)
    del described["seed"]
    folder = SeedsFolder(
        output,
        {
            **(settings or {}),
            "networks": list(networks),
            "recipe": described,
            "backend": keras.backend.backend(),
            "data": {str(loaded.seed): loaded.describe()},
        },
    )
    if overwrite:
        # Nothing is deleted for a network that does not fit.
        for build in networks.values():
            build_network(build, loaded, recipes[seeds[0]])
    results = {}
    with folder.opened(resume=resume, overwrite=overwrite):
        left = TimeLeft(len(recipes))
        for index, (seed, own) in enumerate(recipes.items(), 1):
            if loaded.seed != seed:
                loaded = images_for(images, own, data_options)
            folder.add_data(loaded)
            print(
                f"Seed {seed} ({index} of {len(recipes)}){left.at(index)}",
                flush=True,
            )
            results[seed] = train(
                networks,
                loaded,
                own,
                output=folder.path / f"seed-{seed}",
                settings=settings,
                distribute=distribute,
                tensorboard=tensorboard,
            )
        if summarize is not None:
            folder.add(summarize(results))
    return results
