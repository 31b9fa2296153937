"""Training by recipe, and the comparison of attention under one recipe."""

import csv
import dataclasses
import functools
import hashlib
import inspect
import json
import math
import os
import pathlib
import shutil
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from cbam_keras import _checks, _files, data, models, plotting
from cbam_keras.layers.factory import ATTENTION

DTYPES = {
    None: None,
    "float16": "mixed_float16",
    "bfloat16": "mixed_bfloat16",
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW, warm-up, then cosine decay to zero.

    Args:
        epochs: Positive integer. Defaults to `5`.
        batch_size: Positive integer, images per step. Defaults to `32`.
        learning_rate: Positive number, the highest learning rate, reached
            after a tenth of all steps. Defaults to `0.01`.
        weight_decay: Number from 0, decoupled from the gradient. Defaults to
            `0.0001`.
        seed: Integer from 0, of the initial weights, of the split and of the
            order of the images. Defaults to `0`.
        mixed_precision: `None`, `"float16"` or `"bfloat16"`: what networks
            compute in, while weights stay float32. Defaults to `None`, which
            means the global policy.

    Raises:
        ValueError: If an argument is out of range.
    """

    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 0.01
    weight_decay: float = 1e-4
    seed: int = 0
    mixed_precision: str | None = None

    def __post_init__(self) -> None:
        _checks.positive_integer("epochs", self.epochs)
        _checks.positive_integer("batch_size", self.batch_size)
        _checks.positive_number("learning_rate", self.learning_rate)
        if self.weight_decay != 0:
            _checks.positive_number("weight_decay", self.weight_decay)
        _checks.natural_number("seed", self.seed)
        _checks.one_of("mixed_precision", self.mixed_precision, DTYPES)

    def optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """Returns the optimizer with its schedule over all epochs."""
        steps = self.epochs * steps_per_epoch
        warmup = steps // 10
        return keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                self.learning_rate / 10,
                decay_steps=steps - warmup,
                warmup_target=self.learning_rate,
                warmup_steps=warmup,
            ),
            weight_decay=self.weight_decay,
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of training one network.

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


@dataclasses.dataclass(frozen=True)
class Results:
    """What came of training one or several networks; prints as a table.

    Attributes:
        runs: List of `Run`, in the order of training.
        history: List of dictionaries, one per network and epoch: `network`,
            `epoch` (from 1), `loss`, `accuracy`, `val_loss`, `val_accuracy`,
            `seconds`.
        output: Path of the folder with all files.
    """

    runs: list[Run]
    history: list[dict[str, Any]]
    output: pathlib.Path

    def __str__(self) -> str:
        table = _checks.require("rich.table", extra="all").Table(
            title=f"Results in {self.output}"
        )
        console = _checks.require("rich.console", extra="all").Console(
            width=100, color_system=None
        )
        table.add_column("network")
        for column in (
            "parameters",
            "best validation accuracy",
            "test accuracy",
            "seconds per epoch",
        ):
            table.add_column(column, justify="right")
        for run in self.runs:
            table.add_row(
                run.network,
                f"{run.parameters:,}",
                f"{run.best_validation_accuracy:.2%}",
                f"{run.test_accuracy:.2%}",
                f"{run.seconds_per_epoch:.1f}",
            )
        with console.capture() as capture:
            console.print(table)
        return capture.get().rstrip()


def train(
    networks: keras.Model | Mapping[str, Callable[[], keras.Model]],
    images: str | data.ImageData = "cluttered_mnist",
    recipe: Recipe | None = None,
    *,
    output: str | os.PathLike,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Results:
    """Trains one or several classifiers under equal conditions.

    After every epoch the state is on disk. A run that was killed goes on
    with `resume=True` from the last finished epoch of the network it was at,
    and ends as it would have. The output folder gets the best state of each
    network as `<network>.keras`, `history.csv`, `results.json` and
    `curves.png`; each is whole at any moment.

    Args:
        networks: A `keras.Model` that maps images to one value per class, or
            a mapping of names to functions that take nothing and return such
            a model, each called right before its training, with the seed set
            anew and the recipe's precision. A model given is trained itself.
            Models are compiled here. A last layer that ends in a softmax
            gives probabilities; anything else is taken for logits.
        images: Name for `cbam_keras.data.load`, which then gets the batch
            size and seed of the recipe; or what it returned, whose own batch
            size and seed then hold. Defaults to `"cluttered_mnist"`.
        recipe: A `Recipe`. Defaults to `None`, which means `Recipe()`.
        output: Path of a folder, which must be new or empty unless `resume`.
        resume: Boolean, whether to go on with what the folder holds.
            Defaults to `False`.
        settings: Mapping of what else makes the run what it is, of plain
            values; written to `results.json` and compared on resuming.
            Defaults to `None`.

    Returns:
        A `Results`.

    Raises:
        ValueError: If an argument is out of range, the output folder cannot
            be written or holds something else, or what is resumed was started
            differently.
        TypeError: If `networks` or `images` is of a wrong kind.
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
    recipe = Recipe() if recipe is None else recipe
    if isinstance(networks, keras.Model):
        if recipe.mixed_precision:
            raise ValueError(
                "`mixed_precision` decides how a network is built, so it "
                "takes functions that build, not a model. Received: "
                f"mixed_precision={recipe.mixed_precision!r}, networks=model "
                f'"{networks.name}"'
            )
        networks = {networks.name: functools.partial(_same, networks)}
    _check_networks(networks)
    # Before any work: what is only needed in the end must be there too.
    _checks.require("matplotlib.figure", extra="plot")
    if isinstance(images, str):
        images = data.load(
            images, batch_size=recipe.batch_size, seed=recipe.seed
        )
    elif not isinstance(images, data.ImageData):
        raise TypeError(
            "`images` must be the name of a data set or what "
            f"cbam_keras.data.load returned. Received: images={images!r}"
        )
    if images.batch_size is None:
        raise ValueError(
            "`images` must come in batches. Received: images loaded with "
            "batch_size=None"
        )
    settings = {
        **(settings or {}),
        "data": {
            "name": images.name,
            "sizes": images.sizes,
            "batch_size": images.batch_size,
            "seed": images.seed,
        },
        "recipe": dataclasses.asdict(
            dataclasses.replace(recipe, batch_size=images.batch_size)
        ),
        "networks": list(networks),
        "backend": keras.backend.backend(),
    }
    session = _Session(output, settings, resume)
    for name, build in networks.items():
        if name not in session.finished:
            _train_one(session, name, build, images, recipe)
    return session.results()


def compare(
    attentions: Sequence[str] = ("none", "se", "cbam"),
    *,
    model: str = "small",
    images: str = "cluttered_mnist",
    recipe: Recipe | None = None,
    layer_options: Mapping[str, Any] | None = None,
    output: str | os.PathLike | None = None,
    resume: bool = False,
) -> Results:
    """Trains one network without and with attention, under equal conditions.

    What `cbam-keras train` runs.

    Args:
        attentions: Sequence of strings among `"none"`, `"se"`, `"cbam"`,
            `"channel"`, `"spatial"`. Defaults to `("none", "se", "cbam")`.
        model: String, `"small"` (78,000 parameters: one basic block in each
            of three stages of 16, 32 and 64 channels) or `"resnet18"`,
            `"resnet34"`, `"resnet50"`, `"resnet101"`, `"resnet152"`. These
            have the small stem for images of up to 96 pixels. Each begins by
            scaling images from [0, 255] to [0, 1]. Defaults to `"small"`.
        images: Name for `cbam_keras.data.load`. Defaults to
            `"cluttered_mnist"`.
        recipe: A `Recipe`. Defaults to `None`, which means `Recipe()`.
        layer_options: Mapping of arguments of the attention layers, as
            `{"reduction_ratio": 8}`. Each layer gets those that it takes; one
            that no layer takes is an error. Defaults to `None`.
        output: Path of a folder. Defaults to `None`, which means
            `runs/<images>-<model>`.
        resume: See `train`. Defaults to `False`.

    Returns:
        A `Results`.

    Raises:
        ValueError: If an argument is out of range, see also `train`.
        ImportError: If a package for the data or the figure is missing.
    """
    attentions = _checks.subset("attention", attentions, ["none", *ATTENTION])
    _checks.one_of("model", model, NETWORKS)
    _checks.one_of("images", images, data.EMBEDDED)
    recipe = Recipe() if recipe is None else recipe
    layer_options = dict(layer_options or {})
    made = _attention_layers(attentions, layer_options)
    if output is None:
        output = pathlib.Path("runs") / f"{images}-{model}"
    loaded = data.load(images, batch_size=recipe.batch_size, seed=recipe.seed)
    return train(
        {
            name: functools.partial(NETWORKS[model], loaded, attention)
            for name, attention in made.items()
        },
        loaded,
        recipe,
        output=output,
        resume=resume,
        settings={"model": model, "layer_options": layer_options},
    )


def _small(images, attention):
    return _network(
        functools.partial(
            models.ResNet,
            (1, 1, 1),
            block="basic",
            widths=(16, 32, 64),
            stem_width=16,
        ),
        images,
        attention,
    )


def _network(build, images, attention):
    """Returns a network for images in [0, 255]."""
    inputs = keras.Input(images.image_shape, name="images")
    large = max(images.image_shape) > 96
    return build(
        input_tensor=layers.Rescaling(1 / 255, name="rescale")(inputs),
        classes=len(images.class_names),
        attention=attention,
        stem="imagenet" if large else "small",
    )


NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "small": _small,
    **{
        build.__name__.lower(): functools.partial(_network, build)
        for build in (
            models.ResNet18,
            models.ResNet34,
            models.ResNet50,
            models.ResNet101,
            models.ResNet152,
        )
    },
}


def _attention_layers(attentions, layer_options):
    """Returns what `attention=` takes, by name, with the options given."""
    made, used = {}, set()
    for name in attentions:
        if name == "none":
            made[name] = None
            continue
        accepted = inspect.signature(ATTENTION[name]).parameters
        own = {
            key: layer_options[key] for key in layer_options if key in accepted
        }
        used.update(own)
        made[name] = functools.partial(ATTENTION[name], **own)
        # Bad values are told before any work is done.
        made[name](name=name)
    unused = [key for key in layer_options if key not in used]
    if unused:
        raise ValueError(
            f"`{unused[0]}` must be an argument of one of the attention "
            f"layers that are compared. Received: {unused[0]}="
            f"{layer_options[unused[0]]!r}, attention={list(attentions)}"
        )
    return made


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
        if not name or name in (".", "..") or set(name) & set('/\\:*?"<>|'):
            raise ValueError(
                "The names of `networks` become file names and must be fit "
                f"for that. Received: {name!r}"
            )


class _Session:
    """The output folder of one call of `train`, and what it knows.

    `results.json` holds the settings and the finished networks. While a
    network trains, `.resume/state.json` names the epoch it has reached, its
    history, and two checkpoints beside it: the latest and the best. Each file
    is written before the one that names it, so at any moment the folder
    tells one consistent story.
    """

    def __init__(self, output, settings, resume):
        self.output = pathlib.Path(output)
        # As it will read from the file, tuples as lists.
        settings = json.loads(json.dumps(settings))
        self.content = self._begin(settings, resume)
        self.resuming = self.output / ".resume"

    @property
    def finished(self):
        return [run["network"] for run in self.content["runs"]]

    def _begin(self, settings, resume):
        path = self.output / "results.json"
        if not path.exists():
            if self.output.is_dir() and any(self.output.iterdir()):
                raise ValueError(
                    "`output` must be a new or empty folder. Received: "
                    f'output="{self.output}", which holds other files'
                )
            _files.output_folder(self.output)
            content = {
                "settings": settings,
                "versions": _versions(),
                "runs": [],
                "history": [],
            }
            _files.write_json(path, content)
            return content
        if not resume:
            raise ValueError(
                "`output` must be a new or empty folder unless the run in it "
                f'is resumed. Received: output="{self.output}", which holds '
                "a run, and no resume. Resume it, or choose another folder"
            )
        _files.output_folder(self.output)
        try:
            content = json.loads(path.read_text())
            old = content["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'The run in output="{self.output}" cannot be resumed: '
                f"results.json is damaged ({error})"
            ) from error
        changed = _differences(old, settings)
        if changed:
            raise ValueError(
                "A run must be resumed with the settings it was started "
                f'with. Received: output="{self.output}", changed: '
                + "; ".join(changed)
            )
        return content

    def load(self, name):
        """Returns the state of a network under training, or `None`."""
        path = self.resuming / "state.json"
        if not path.exists():
            return None
        state = json.loads(path.read_text())
        return state if state["network"] == name else None

    def load_model(self, name):
        """Returns the model of a checkpoint, with its optimizer."""
        path = self.resuming / name
        try:
            return keras.saving.load_model(path)
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f'The checkpoint "{path}" cannot be read: '
                f"{error}. To train that network from the start, delete the "
                f'folder "{self.resuming}" and resume again'
            ) from error

    def save(self, state, model):
        """Keeps `model` as the latest state, and as the best if it is."""
        self.resuming.mkdir(exist_ok=True)
        epoch = len(state["history"])
        state["latest"] = f"{state['network']}-{epoch}.keras"
        if _best(state["history"]) == epoch:
            state["best"] = state["latest"]
        with _files.replacing(self.resuming / state["latest"]) as beside:
            model.save(beside)
        _files.write_json(self.resuming / "state.json", state)
        for path in self.resuming.glob("*.keras"):
            if path.name not in (state["latest"], state["best"]):
                path.unlink()
        self._write_history(self.content["history"] + state["history"])

    def finish(self, run, state):
        """Moves a network from the ones under training to the finished."""
        with _files.replacing(self.output / run.file) as beside:
            shutil.copyfile(self.resuming / state["best"], beside)
        self.content["runs"].append(dataclasses.asdict(run))
        self.content["history"].extend(state["history"])
        figure = plotting.plot_history(
            self.content["history"],
            f"{self.content['settings']['data']['name']}, "
            f"seed {self.content['settings']['recipe']['seed']}",
        )
        with _files.replacing(self.output / "curves.png") as beside:
            figure.savefig(beside, dpi=150)
        self._write_history(self.content["history"])
        _files.write_json(self.output / "results.json", self.content)
        shutil.rmtree(self.resuming)

    def results(self):
        # Left over if the run was killed between the last two steps.
        shutil.rmtree(self.resuming, ignore_errors=True)
        return Results(
            [Run(**run) for run in self.content["runs"]],
            self.content["history"],
            self.output,
        )

    def _write_history(self, rows):
        with _files.replacing(self.output / "history.csv") as beside:
            with beside.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=rows[0])
                writer.writeheader()
                writer.writerows(rows)


class _SaveEpoch(keras.callbacks.Callback):
    """Tells the data which epoch it is, and saves the state after it."""

    def __init__(self, session, state, images):
        super().__init__()
        self.session = session
        self.state = state
        self.images = images

    def on_epoch_begin(self, epoch, logs=None):
        self.images.set_epoch(epoch)
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.start
        keys = ("loss", "accuracy", "val_loss", "val_accuracy")
        self.state["history"].append(
            {
                "network": self.state["network"],
                "epoch": epoch + 1,
                **{key: float(logs[key]) for key in keys},
                "seconds": seconds,
            }
        )
        self.session.save(self.state, self.model)


def _train_one(session, name, build, images, recipe):
    position = list(session.content["settings"]["networks"]).index(name) + 1
    total = len(session.content["settings"]["networks"])
    state = session.load(name)
    model = _build(build, images, recipe)
    fingerprint = _fingerprint(model)
    if state is None:
        state = {"network": name, "fingerprint": fingerprint, "history": []}
        done = "from the start"
    else:
        if state["fingerprint"] != fingerprint:
            raise ValueError(
                "A run must be resumed with the networks it was started "
                f'with. Received: output="{session.output}", changed: the '
                f'layers of network "{name}"'
            )
        # The file holds the optimizer's state too.
        model = session.load_model(state["latest"])
        done = f"after epoch {len(state['history'])}"
    print(
        f"{name} ({position} of {total}), {_parameters(model):,} "
        f"parameters, {done}",
        flush=True,
    )
    if len(state["history"]) < recipe.epochs:
        model.fit(
            images.train,
            validation_data=images.validation,
            epochs=recipe.epochs,
            initial_epoch=len(state["history"]),
            callbacks=[_SaveEpoch(session, state, images)],
            # The data shuffle themselves, by seed and epoch.
            shuffle=False,
            # A bar that redraws itself is for terminals and notebooks.
            verbose=1 if _interactive() else 2,
        )
    best = session.load_model(state["best"])
    _, accuracy = best.evaluate(images.test, verbose=0)
    epoch = _best(state["history"])
    seconds = [row["seconds"] for row in state["history"]]
    run = Run(
        network=name,
        parameters=_parameters(best),
        best_epoch=epoch,
        best_validation_accuracy=state["history"][epoch - 1]["val_accuracy"],
        test_accuracy=float(accuracy),
        seconds_per_epoch=statistics.median(seconds[1:] or seconds),
        file=f"{name}.keras",
    )
    session.finish(run, state)


def _build(build, images, recipe):
    """Returns a new network, compiled, after checking that it fits."""
    keras.utils.set_random_seed(recipe.seed)
    before = keras.config.dtype_policy()
    policy = DTYPES[recipe.mixed_precision]
    try:
        if policy:
            keras.config.set_dtype_policy(policy)
        model = build()
    finally:
        keras.config.set_dtype_policy(before)
    classes = len(images.class_names)
    takes = tuple(model.input_shape)[1:]
    fits = len(takes) == len(images.image_shape) and all(
        size in (None, own)
        for size, own in zip(takes, images.image_shape, strict=True)
    )
    if not fits or tuple(model.output_shape) != (None, classes):
        raise ValueError(
            f'A network for the data set "{images.name}" must take images '
            f"of shape {images.image_shape} and give {classes} values. "
            f'Received: model "{model.name}" with input_shape='
            f"{model.input_shape}, output_shape={model.output_shape}"
        )
    activation = getattr(model.layers[-1], "activation", None)
    model.compile(
        recipe.optimizer(len(images.train)),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=activation is not keras.activations.softmax
        ),
        metrics=["accuracy"],
    )
    return model


def _best(history):
    """Returns the epoch with the best validation accuracy, from 1."""
    best = max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    return best["epoch"]


def _parameters(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def _fingerprint(model):
    """Returns a short code of what a model is made of, names aside."""
    layers_ = [
        (type(layer).__name__, {**layer.get_config(), "name": None})
        for layer in model.layers
    ]
    text = json.dumps(layers_, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _differences(old, new, prefix=""):
    """Returns a line for each value that differs between two mappings."""
    lines = []
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key} was {before!r}, is {after!r}")
    return lines


def _interactive():
    return sys.stdout.isatty() or "ipykernel" in sys.modules


def _versions():
    import cbam_keras

    backend = keras.backend.backend()
    return {
        "cbam_keras": cbam_keras.__version__,
        "keras": keras.__version__,
        backend: _checks.require(backend, extra=backend).__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }
