"""Training by recipe, resumable after a crash."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras

from cbam_keras import _checks, _files, _terminal, data, plotting, study
from cbam_keras._devices import Distribution, connect
from cbam_keras.recipes import RECIPES, Recipe, find_recipe

__all__ = ["RECIPES", "Distribution", "Recipe", "Results", "Run", "train"]


@dataclasses.dataclass(frozen=True)
class Run:
    """Result of training one network.

    Attributes:
        network: String, its name.
        parameters: Integer, its trainable parameters.
        best_epoch: Integer from 1, the epoch of the highest validation
            accuracy (of several, the one with the lowest validation loss).
        best_validation_accuracy: Number in [0, 1].
        test_accuracy: Number in [0, 1], of the network after `best_epoch`.
        seconds_per_epoch: Number, the median over the epochs after the
            first, which compiles; training and validation.
        file: String, the `.keras` file in the output folder that holds the
            network after `best_epoch`.
    """

    network: str
    parameters: int
    best_epoch: int
    best_validation_accuracy: float
    test_accuracy: float
    seconds_per_epoch: float
    file: str

    @classmethod
    def of(cls, outcome: Any) -> "Run":
        """Returns the result of a `study.Outcome` that finished."""
        return cls(
            network=outcome.variant,
            parameters=outcome.parameters,
            best_epoch=outcome.best_epoch,
            best_validation_accuracy=outcome.metrics["val_accuracy"],
            test_accuracy=outcome.metrics["test_accuracy"],
            seconds_per_epoch=outcome.seconds_per_epoch,
            file=outcome.file,
        )


@dataclasses.dataclass(frozen=True)
class Results(_terminal.Tabular):
    """Results of training one or several networks; prints as a table.

    `to_dataframe()` has a row per run, with the attributes of `Run`.

    Attributes:
        runs: List of `Run`, in the order of training; without those that did
            not finish, see `details`.
        history: List of dictionaries, one per network and epoch: `network`,
            `epoch` (from 1), `loss`, `accuracy`, `val_loss`, `val_accuracy`,
            `seconds`.
        output: Path of the output folder.
        details: The `study.Results`, with all outcomes.
    """

    runs: list[Run]
    history: list[dict[str, Any]]
    output: pathlib.Path
    details: study.Results = dataclasses.field(repr=False)

    @classmethod
    def of(cls, results: study.Results, **values: Any) -> Any:
        """Returns the results of a study of classifiers."""
        return cls(
            runs=[Run.of(outcome) for outcome in results.finished],
            history=results.history,
            output=results.output,
            details=results,
            **values,
        )

    def __str__(self) -> str:
        return "\n\n".join(
            _terminal.render(columns, sections, title=title)
            for columns, sections, title in self._tables()
        )

    def _records(self):
        return [dataclasses.asdict(run) for run in self.runs]

    def _tables(self):
        yield (
            {
                "network": "left",
                "parameters": "right",
                "best validation accuracy": "right",
                "test accuracy": "right",
                "seconds per epoch": "right",
            },
            [
                [
                    (
                        run.network,
                        f"{run.parameters:,}",
                        f"{run.best_validation_accuracy:.2%}",
                        f"{run.test_accuracy:.2%}",
                        f"{run.seconds_per_epoch:.1f}",
                    )
                    for run in self.runs
                ]
            ],
            f"Results in {self.output}",
        )


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

    The output folder gets the network of the best epoch of each as
    `<network>.keras`, `history.csv`, `results.json` and `curves.png`. No file
    is ever incomplete.

    The same call given again resumes from the last finished epoch, and ends
    as it would have without the interruption. After the end it returns the
    results; with more networks or another seed it trains what is missing. A
    call with other settings is refused, and the error names what differs.
    Several processes may make the same call; see `study.run`.

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
            TensorFlow. Defaults to `False`.

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
    settings = dict(settings or {})
    if isinstance(networks, keras.Model):
        _check_model(networks, recipe, distribute)
        settings["layers"] = study.fingerprint(networks)
        networks = {networks.name: functools.partial(_same, networks)}
    _check_networks(networks)
    # Needed only at the end, but checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    # Before anything is computed.
    connect(distribute)
    results = study.run(
        study.Study(
            task=study.Classification(images),
            variants=[
                study.Variant(name, functools.partial(_built, build))
                for name, build in networks.items()
            ],
            seeds=(recipe.seed,),
            recipe=recipe,
            settings=settings,
            kind="train",
        ),
        output,
        resume=resume,
        overwrite=overwrite,
        distribute=distribute,
        tensorboard=tensorboard,
        finish=draw_curves,
    )
    return Results.of(results)


def draw_curves(results: study.Results, folder: study.StudyFolder) -> None:
    """Draws the history of the networks of the first seed."""
    seed = results.seeds[0]
    rows = [r for r in results.history if r.get("seed", seed) == seed]
    with folder.drawing(results) as needed:
        if needed and rows:
            figure = plotting.plot_history(rows, f"{results.data}, seed {seed}")
            with _files.replacing(folder.path / "curves.png") as beside:
                figure.savefig(beside, dpi=150)


def _check_model(model, recipe, distribute):
    for name, value in (
        ("mixed_precision", recipe.mixed_precision),
        ("distribute", distribute),
    ):
        if value:
            raise ValueError(
                f"`{name}` decides how a network is built, so it takes "
                f"functions that build, not a model. Received: {name}="
                f'{value!r}, networks=model "{model.name}"'
            )


def _same(model):
    return model


def _built(build, data):
    return build()


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
