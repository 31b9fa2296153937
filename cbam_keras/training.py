"""Training by recipe: equal conditions, whole files, resumable."""

import dataclasses
import functools
import hashlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers

from cbam_keras import _checks, data
from cbam_keras._session import (
    Results,
    Run,
    Session,
    best_epoch,
    random_states,
)

DTYPES = {
    None: None,
    "float16": "mixed_float16",
    "bfloat16": "mixed_bfloat16",
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW, warm-up, then cosine decay to zero.

    Args:
        epochs: Positive integer. Defaults to `4`.
        batch_size: Positive integer, images per step. Defaults to `32`.
        learning_rate: Positive number, the highest learning rate, reached
            after a tenth of all steps. Defaults to `0.01`.
        weight_decay: Number from 0, decoupled from the gradient. Defaults to
            `0.0001`.
        seed: Integer from 0 to 2**32 - 1, of the initial weights, of the
            split and of the order of the images. Defaults to `0`.
        mixed_precision: `None`, `"float16"` or `"bfloat16"`: what networks
            compute in, while weights stay float32. Defaults to `None`, which
            means the global policy.

    Raises:
        ValueError: If an argument is out of range.
    """

    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 0.01
    weight_decay: float = 1e-4
    seed: int = 0
    mixed_precision: str | None = None

    def __post_init__(self) -> None:
        checked = {
            "epochs": _checks.positive_integer("epochs", self.epochs),
            "batch_size": _checks.positive_integer(
                "batch_size", self.batch_size
            ),
            "learning_rate": _checks.positive_number(
                "learning_rate", self.learning_rate
            ),
            "weight_decay": _checks.positive_number(
                "weight_decay", self.weight_decay, or_zero=True
            ),
            "seed": _checks.seed("seed", self.seed),
            "mixed_precision": _checks.one_of(
                "mixed_precision", self.mixed_precision, DTYPES
            ),
        }
        # As plain numbers, also where NumPy's were given.
        for name, value in checked.items():
            object.__setattr__(self, name, value)

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
            anew and the recipe's precision. A model given is trained itself,
            or when resumed the one on disk in its place. Models are compiled
            here. A last layer that ends in a softmax
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
    if not isinstance(recipe, Recipe):
        raise TypeError(
            f"`recipe` must be a Recipe. Received: recipe={recipe!r}"
        )
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
    if images.boxes:
        raise ValueError(
            "`images` must be images and labels alone. Received: images "
            "loaded with boxes=True, which would be taken for weights"
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
    session = Session(output, settings, resume)
    for name, build in networks.items():
        if name not in session.finished:
            try:
                model = _build(build, images, recipe)
            except Exception:
                session.forget_if_empty()
                raise
            _train_one(session, name, model, images, recipe)
    return session.results()


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


class _SaveEpoch(keras.callbacks.Callback):
    """Makes an epoch repeatable, and saves the state after it."""

    def __init__(self, session, state, images, seed):
        super().__init__()
        self.session = session
        self.state = state
        self.images = images
        self.seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        self.images.set_epoch(epoch)
        # PyTorch's dropout draws from its global generator.
        keras.utils.set_random_seed((self.seed + epoch) % 2**32)
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


def _train_one(session, name, model, images, recipe):
    position = list(session.content["settings"]["networks"]).index(name) + 1
    total = len(session.content["settings"]["networks"])
    state = session.load(name)
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
        for variable, value in zip(
            random_states(model), state["random"], strict=True
        ):
            variable.assign(value)
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
            callbacks=[_SaveEpoch(session, state, images, recipe.seed)],
            # The data shuffle themselves, by seed and epoch.
            shuffle=False,
            # A bar that redraws itself is for terminals and notebooks.
            verbose=1 if _interactive() else 2,
        )
    best = session.load_model(state["best"])
    _, accuracy = best.evaluate(images.test, verbose=0)
    epoch = best_epoch(state["history"])
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
    if getattr(model, "input_shape", None) is None:
        raise ValueError(
            "A network must be a functional or Sequential keras.Model with a "
            f"known input shape. Received: {model!r} from the function for a "
            "network"
        )
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
    optimizer = recipe.optimizer(len(images.train))
    if any(layer.compute_dtype == "float16" for layer in model.layers):
        # Keras would add it by itself, but leave it out of what it saves.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=not _ends_in_softmax(model)
        ),
        metrics=["accuracy"],
        auto_scale_loss=False,
    )
    return model


def _ends_in_softmax(model):
    last = model.layers[-1]
    activation = getattr(last, "activation", None)
    return activation is keras.activations.softmax or isinstance(
        last, layers.Softmax
    )


def _parameters(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def _fingerprint(model):
    """Returns a short code of what a model is made of, names aside."""
    configs = [
        (type(layer).__name__, {**layer.get_config(), "name": None})
        for layer in _all_layers(model)
    ]
    text = json.dumps(configs, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _all_layers(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)
        else:
            yield layer


def _interactive():
    return sys.stdout.isatty() or "ipykernel" in sys.modules
