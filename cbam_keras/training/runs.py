"""`train`: networks trained by one recipe, one after the other."""

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras

from cbam_keras import _checks, data
from cbam_keras._terminal import TimeLeft
from cbam_keras.training.checkpoints import best_epoch
from cbam_keras.training.distribution import Distribution, find_devices
from cbam_keras.training.fitting import fit_in
from cbam_keras.training.folder import TrainingFolder
from cbam_keras.training.images import describe_recipe, images_for
from cbam_keras.training.networks import build_network, fingerprint
from cbam_keras.training.recipe import Recipe, find_recipe
from cbam_keras.training.results import Results, Run
from cbam_keras.training.tensorboard import check_tensorboard


def train(
    networks: keras.Model | Mapping[str, Callable[[], keras.Model]],
    images: str | os.PathLike | data.ImageData = "cluttered_mnist",
    recipe: Recipe | str | None = None,
    *,
    output: str | os.PathLike,
    resume: bool = True,
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    distribute: bool | Distribution = False,
    tensorboard: bool = False,
) -> Results:
    """Trains one or several classifiers under equal conditions.

    The output folder gets the best checkpoint of each network as
    `<network>.keras`, `history.csv`, `results.json` and `curves.png`. No file
    is ever incomplete.

    The same call given again resumes from the last finished epoch, and ends
    as it would have without the interruption. After the end it returns the
    results. A call with other settings is refused, and the error names what
    differs. One process at a time works in an output folder.

    With `distribute`, each batch is shared among devices. `batch_size` counts
    over all of them, and so does batch normalization, so the results are
    those of one device up to rounding, except for dropout under TensorFlow,
    which draws on each device. If the last batch of an epoch does not divide
    by the devices, its remainder is left out, other images in each epoch;
    validation and test leave out none. A run may be resumed on another
    number of devices.

    Args:
        networks: A `keras.Model` that maps images to one value per class, or
            a mapping of names to functions without arguments that return
            such a model. Each function is called right before its training,
            with the recipe's seed and precision. A model is trained in place
            unless a checkpoint is resumed. Models are compiled here. If the
            last layer ends in a softmax, the outputs are probabilities,
            otherwise logits.
        images: What `cbam_keras.data.load` takes, which then gets batch size,
            seed, augmentation and image size of the recipe; or what it
            returned, with its own values of these. Defaults to
            `"cluttered_mnist"`.
        recipe: A `Recipe`, or the name of one in `RECIPES`: `"default"`,
            `"imagenet"` or `"small_images"`. Defaults to `None`, which means
            `Recipe()`.
        output: Path of a folder that is new, empty, or holds this run.
        resume: Boolean. `False` refuses a folder that holds a run. Defaults
            to `True`.
        overwrite: Boolean, whether to start again: a run in the folder is
            deleted, once all arguments and networks have been checked. A
            folder that holds anything else is refused. Defaults to `False`.
        settings: Mapping of further plain values that define the run;
            written to `results.json` and compared on resuming. Defaults to
            `None`.
        distribute: `True` shares each batch among all devices of this
            machine (TensorFlow, JAX). A `Distribution` shares it among
            several processes, each of which makes this call, before JAX has
            computed anything (JAX): all get the results, process 0 alone
            writes and prints, and when one of them ends, all do. Requires
            functions for `networks`, not a model. Defaults to `False`.
        tensorboard: Boolean, whether to write logs for TensorBoard, under
            TensorFlow: the curves, and what `AttentionMonitor` measures of
            each gate. Defaults to `False`.

    Returns:
        A `Results`.

    Raises:
        ValueError: If an argument is out of range; if the output folder
            cannot be written, holds something else or is used by another
            process; if the run in it has other settings or is damaged; if
            the backend or the batch size cannot be distributed.
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
    _checks.boolean("resume", resume)
    _checks.boolean("overwrite", overwrite)
    check_tensorboard(tensorboard)
    settings = dict(settings or {})
    if isinstance(networks, keras.Model):
        _check_model(networks, recipe, distribute)
        settings["layers"] = fingerprint(networks)
        networks = {networks.name: functools.partial(_same, networks)}
    _check_networks(networks)
    # Needed only at the end, but checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    devices = find_devices(distribute)
    loaded = images_for(images, recipe)
    settings.update(
        data=loaded.describe(),
        recipe=describe_recipe(recipe, loaded),
        networks=list(networks),
        backend=keras.backend.backend(),
    )
    folder = TrainingFolder(
        *(output, settings, loaded.class_names),
        writes=devices.writes,
        logs=tensorboard,
    )
    shared = devices.share(loaded)
    with contextlib.ExitStack() as stack:
        stack.enter_context(devices.scope(output))
        if overwrite:
            # Nothing is deleted for a network that does not fit.
            for build in networks.values():
                build_network(build, shared, recipe)
        if devices.writes:
            stack.enter_context(
                folder.opened(resume=resume, overwrite=overwrite)
            )
        devices.wait()
        if not devices.writes:
            folder.join()
        left = TimeLeft(len(networks), "these networks")
        for number, (name, build) in enumerate(networks.items(), 1):
            if name not in folder.finished:
                _train_one(
                    *(folder, name, build, shared, recipe, devices),
                    number=number,
                    left=left,
                )
        return folder.results()


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
                "The names of `networks` must be valid file names. Received: "
                f"{name!r}"
            )


def _train_one(folder, name, build, images, recipe, devices, **place):
    state, parameters = fit_in(
        folder,
        name,
        functools.partial(build_network, build, images, recipe),
        images,
        recipe,
        title=name,
        devices=devices,
        **place,
    )
    best = folder.progress.load_model(state.best)
    _, accuracy = best.evaluate(images.test, verbose=0)
    epoch = best_epoch(state.history)
    run = Run(
        network=name,
        parameters=parameters,
        best_epoch=epoch,
        best_validation_accuracy=state.history[epoch - 1]["val_accuracy"],
        test_accuracy=float(accuracy),
        seconds_per_epoch=state.seconds_per_epoch,
        file=f"{name}.keras",
    )
    folder.finish(run, state)
    devices.wait()
    folder.reread()
