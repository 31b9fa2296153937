"""Training by recipe: equal conditions, whole files, resumable."""

import functools
import os
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import keras

from cbam_keras import _checks, data
from cbam_keras.training.checkpoints import best_epoch
from cbam_keras.training.distribution import Distribution, find_devices
from cbam_keras.training.fitting import fit
from cbam_keras.training.folder import Session
from cbam_keras.training.images import describe_recipe, images_for
from cbam_keras.training.networks import build_network, count_parameters
from cbam_keras.training.recipe import Recipe, find_recipe
from cbam_keras.training.results import Results, Run


def train(
    networks: keras.Model | Mapping[str, Callable[[], keras.Model]],
    images: str | os.PathLike | data.ImageData = "cluttered_mnist",
    recipe: Recipe | str | None = None,
    *,
    output: str | os.PathLike,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    distribute: bool | Distribution = False,
) -> Results:
    """Trains one or several classifiers under equal conditions.

    After every epoch the state is on disk. A run that was killed goes on
    with `resume=True` from the last finished epoch of the network it was at,
    and ends as it would have. The output folder gets the best state of each
    network as `<network>.keras`, `history.csv`, `results.json` and
    `curves.png`; each is whole at any moment.

    With `distribute`, each batch is shared among devices. Its size is that of
    them all, and batch normalization goes by all of it, so the results are
    those of one device up to rounding, unless dropout under TensorFlow draws
    device by device. Where the last batch of an epoch does
    not divide, the rest of it is left out, other images in each epoch;
    validation and test leave out none. A run may be resumed on another number
    of devices.

    Args:
        networks: A `keras.Model` that maps images to one value per class, or
            a mapping of names to functions that take nothing and return such
            a model, each called right before its training, with the seed set
            anew and the recipe's precision. A model given is trained itself,
            or when resumed the one on disk in its place. Models are compiled
            here. A last layer that ends in a softmax gives probabilities;
            anything else is taken for logits.
        images: What `cbam_keras.data.load` takes, which then gets batch size,
            seed, augmentation and image size of the recipe; or what it
            returned, whose own then hold. Defaults to `"cluttered_mnist"`.
        recipe: A `Recipe`, or the name of one in `RECIPES`: `"default"`,
            `"imagenet"` or `"small_images"`. Defaults to `None`, which means
            `Recipe()`.
        output: Path of a folder, which must be new or empty unless `resume`.
        resume: Boolean, whether to go on with what the folder holds.
            Defaults to `False`.
        settings: Mapping of what else makes the run what it is, of plain
            values; written to `results.json` and compared on resuming.
            Defaults to `None`.
        distribute: `True` shares each batch among all devices of this
            machine (TensorFlow, JAX). A `Distribution` shares it among
            several processes, each of which makes this call, before JAX has
            computed anything (JAX): all get the results, process 0 alone
            writes and prints, and when one of them ends, all do. Takes
            functions for `networks`, not a model. Defaults to `False`.

    Returns:
        A `Results`.

    Raises:
        ValueError: If an argument is out of range, the output folder cannot
            be written or holds something else, or what is resumed was started
            differently; if the backend or the batch size cannot be
            distributed.
        TypeError: If `networks`, `images` or `distribute` is of a wrong kind.
        RuntimeError: If another process of a distributed run has ended.
        ImportError: If a package for the data or the figure is missing.

    Example:
        >>> model = cbam_keras.models.ResNet(
        ...     (1,), block="basic", widths=(4,), stem_width=4, stem="small",
        ...     input_shape=(28, 28, 1), classes=10, attention="cbam",
        ... )
        >>> results = train(
        ...     model, "mnist5k", Recipe(epochs=1, batch_size=400),
        ...     output=folder,
        ... )  # doctest: +ELLIPSIS
        resnet (1 of 1), ... parameters, from the start
        ...
        >>> sorted(path.name for path in folder.iterdir())
        ['curves.png', 'history.csv', 'resnet.keras', 'results.json']
    """
    recipe = find_recipe(recipe)
    if isinstance(networks, keras.Model):
        _check_model(networks, recipe, distribute)
        networks = {networks.name: functools.partial(_same, networks)}
    _check_networks(networks)
    # Before any work: what is only needed in the end must be there too.
    _checks.require("matplotlib.figure", extra="plot")
    devices = find_devices(distribute)
    loaded = images_for(images, recipe)
    settings = {
        **(settings or {}),
        "data": loaded.describe(),
        "recipe": describe_recipe(recipe, loaded),
        "networks": list(networks),
        "backend": keras.backend.backend(),
    }
    shared = devices.share(loaded)
    with devices.scope(output):
        session = _begin(output, settings, resume, devices, loaded)
        for name, build in networks.items():
            if name not in session.finished:
                _train_one(session, name, build, shared, recipe, devices)
        return session.results()


def _begin(output, settings, resume, devices, images):
    """Returns the session, which the process that writes has begun."""
    if devices.writes:
        session = Session(
            output, settings, resume, class_names=images.class_names
        )
        devices.wait()
        return session
    devices.wait()
    return Session(output, settings, resume, writes=False)


def _check_model(model, recipe, distribute):
    if recipe.mixed_precision:
        raise ValueError(
            "`mixed_precision` decides how a network is built, so it "
            "takes functions that build, not a model. Received: "
            f"mixed_precision={recipe.mixed_precision!r}, networks=model "
            f'"{model.name}"'
        )
    if distribute:
        raise ValueError(
            "`distribute` decides on which devices a network is built, so it "
            "takes functions that build, not a model. Received: "
            f'distribute={distribute!r}, networks=model "{model.name}"'
        )


def _same(model):
    return model


def _check_networks(networks):
    if not isinstance(networks, Mapping) or not all(
        isinstance(name, str) and callable(build)
        for name, build in networks.items()
    ):
        raise TypeError(
            "`networks` must be a keras.Model or a mapping of names to "
            f"functions that build one. Received: networks={networks!r}"
        )
    if not networks:
        raise ValueError(
            "`networks` must hold at least one network. Received: networks={}"
        )
    for name in networks:
        if (
            not 0 < len(name) <= 100
            or not name.isprintable()
            or name in (".", "..")
            or set(name) & set('/\\:*?"<>|')
        ):
            raise ValueError(
                "The names of `networks` become file names and must be fit "
                f"for that. Received: {name!r}"
            )


def _train_one(session, name, build, images, recipe, devices):
    try:
        model = build_network(build, images, recipe)
    except Exception:
        session.forget_if_empty()
        raise
    names = session.content["settings"]["networks"]

    def announce(epochs):
        done = f"after epoch {epochs}" if epochs else "from the start"
        print(
            f"{name} ({names.index(name) + 1} of {len(names)}), "
            f"{count_parameters(model):,} parameters, {done}",
            flush=True,
        )

    state = fit(
        model,
        name,
        images,
        recipe,
        session.progress,
        announce=announce,
        after_epoch=lambda state: session.write_history(state["history"]),
        devices=devices,
    )
    best = session.progress.load_model(state["best"])
    _, accuracy = best.evaluate(images.test, verbose=0)
    epoch = best_epoch(state["history"])
    seconds = [row["seconds"] for row in state["history"]]
    run = Run(
        network=name,
        parameters=count_parameters(best),
        best_epoch=epoch,
        best_validation_accuracy=state["history"][epoch - 1]["val_accuracy"],
        test_accuracy=float(accuracy),
        seconds_per_epoch=statistics.median(seconds[1:] or seconds),
        file=f"{name}.keras",
    )
    session.finish(run, state)
    devices.wait()
    session.reread()
