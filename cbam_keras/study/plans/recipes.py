"""`Recipe`: how a network is trained, and its optimizer."""

import dataclasses
import functools
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, data
from cbam_keras.data.source import Source
from cbam_keras.optimizers import MomentumSGD, WarmupCosineDecay

# The weights of classes that let all count alike, and their square roots.
BALANCED, SQRT = "balanced", "sqrt"
FOCAL = "focal"
# The default epochs have at least so many steps. With random weights, small
# networks need the first number. Pretrained ones need fewer on few photographs:
# after 60 and 200 steps, EfficientNet-Lite0 had test accuracies of 59.5% and
# 58.5% with 88 training images, and 67.3% and 68.6% with 188 (CIFAR-10 at 64
# pixels, 4 classes, 1,000 test images, two seeds).
LEAST_STEPS = 200
LEAST_STEPS_PRETRAINED = 60


@_checks.named_arguments
@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained: optimizer, schedule, augmentation.

    `RECIPES` holds recipes by name. To change one:
    `dataclasses.replace(RECIPES["imagenet"], epochs=10)`.

    Args:
        epochs: Positive integer, the epochs to train. Defaults to `4`.
        batch_size: Positive integer, images per step on all devices.
            Defaults to `32`.
        learning_rate: Positive number, the highest learning rate. Or a sequence
            of them: each run trains at each from the same initial weights, and
            tests the one that validates best. Defaults to `0.01`.
        weight_decay: Number from 0, for every trainable variable. It is
            decoupled from the gradient with `optimizer="adamw"`, and added to
            it as in PyTorch with `"sgd"`. Defaults to `0.0001`.
        seed: Integer from 0, for the initial weights, the split and the order
            of the images. At most `2**32 - 1`. Defaults to `0`.
        optimizer: `"adamw"`, or `"sgd"`, which equals `torch.optim.SGD`.
            Defaults to `"adamw"`.
        momentum: Number in [0, 1), for `optimizer="sgd"`. Defaults to `0.9`.
        schedule: `"cosine"` (warm-up, then decay to zero) or `"step"` (divided
            by 10 every `step_epochs`). The warm-up takes a tenth of all steps.
            With `"cosine"` the last epoch is tested, unless its validation
            accuracy is worse than the best by more than a standard error, with
            `"step"` the best one. Defaults to `"cosine"`.
        step_epochs: Positive integer, for `schedule="step"`. Defaults to `30`.
        augment: How training images are augmented, e.g. `("crop", "flip")` or
            `[keras.layers.RandomRotation(0.1)]`; see `cbam_keras.data.load`.
            Defaults to `()`.
        image_size: Positive integer or `(H, W)`, the size that images are
            resized to. See `cbam_keras.data.load`. Defaults to `None`.
        frozen_epochs: Integer from 0, the epochs of a first stage of
            fine-tuning, before `epochs`, with its own schedule. It trains only
            what the function that builds the network has left trainable. Then
            `epochs` train all layers at a tenth of the learning rate, except
            batch normalization outside of attention, see `freeze_batch_norm`.
            Defaults to `0`: one stage.
        class_weight: `"balanced"` or `"sqrt"`, the factors of the losses of
            images in training. As in scikit-learn, `"balanced"` is
            `images / (classes * images of the class)`, by the training images
            of the split or fold; `"sqrt"` is its root. Defaults to `None`.
        patience: Positive integer, the epochs without a better validation
            result, by the study's measure and within a stage, after which
            training ends. The best epoch is tested. Defaults to `None`.
        least_steps: Positive integer, the minimum number of training steps:
            `epochs` is raised to reach it, with a message. Defaults to `None`.
        loss: `"focal"`, focal crossentropy with Keras' defaults (`gamma` is 2);
            a number in [0, 1), the label smoothing of crossentropy; or a
            `keras.losses.Loss`, of integers if its class is called `Sparse`,
            else of one-hot labels, and of 0 or 1 for a network with one value.
            The network decides on `from_logits`. Defaults to `None`, which
            means crossentropy.
        unfreeze: The layers that `epochs` train in addition to those that
            `frozen_epochs` train: a positive integer, the last so many; a
            number in (0, 1), the last fraction; or a name or pattern
            (`"block6*"`), from its first match on. A nested model counts by its
            layers. Defaults to `None`, all.
        frozen: Boolean, whether all epochs train only what the function that
            builds the network has left trainable. Frozen layers before these
            then run in inference, without dropout. Defaults to `False`.
        cache: Boolean, whether the features of these frozen layers are computed
            once per image, for all epochs, seeds, folds and networks. It has
            effect with `frozen=True` and no `augment`. Defaults to `True`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Recipe(optimizer="sgd", learning_rate=0.1, schedule="step").momentum
        0.9
    """

    epochs: int = 4
    batch_size: int = 32
    learning_rate: float | tuple[float, ...] = 0.01
    weight_decay: float = 1e-4
    seed: int = 0
    optimizer: str = "adamw"
    momentum: float = 0.9
    schedule: str = "cosine"
    step_epochs: int = 30
    augment: data.Augmentation | Sequence[data.Augmentation] = ()
    image_size: int | tuple[int, int] | None = None
    frozen_epochs: int = 0
    class_weight: str | None = None
    patience: int | None = None
    least_steps: int | None = None
    loss: str | float | keras.losses.Loss | None = None
    unfreeze: int | float | str | None = None
    frozen: bool = False
    cache: bool = True

    def __post_init__(self) -> None:
        checked = {x: y(x, getattr(self, x)) for x, y in CHECKED.items()}
        checked["learning_rate"] = _check_rates(self.learning_rate)
        for name in ("patience", "least_steps"):
            if (value := getattr(self, name)) is not None:
                checked[name] = _checks.positive_integer(name, value)
        if self.frozen and self.frozen_epochs:
            raise ValueError(
                "`frozen_epochs` must be 0 with frozen=True, which freezes in "
                f"all epochs. Received: frozen_epochs={self.frozen_epochs}"
            )
        checked["unfreeze"] = _check_unfreeze(self.unfreeze, self.frozen_epochs)
        checked["loss"] = _check_loss(self.loss)
        checked["augment"] = data.list_augmentations(self.augment)
        _checks.convert(self, **checked)

    @property
    def starts_frozen(self) -> bool:
        """Whether pretrained layers are frozen when training starts."""
        return self.frozen or self.frozen_epochs > 0

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Tuple of numbers, the learning rates from which each run chooses."""
        if isinstance(self.learning_rate, tuple):
            return self.learning_rate
        return (self.learning_rate,)

    @property
    def single_rate(self) -> float:
        """Number, the learning rate of a recipe that has only one."""
        (rate,) = self.learning_rates
        return rate

    @property
    def total_epochs(self) -> int:
        """Integer, the epochs of both stages."""
        return self.frozen_epochs + self.epochs

    @property
    def stages(self) -> tuple["Recipe", ...]:
        """The recipe of each stage, which has one stage itself."""
        last = dataclasses.replace(self, frozen_epochs=0, unfreeze=None)
        if not self.frozen_epochs:
            return (last,)
        return (
            dataclasses.replace(last, epochs=self.frozen_epochs),
            dataclasses.replace(last, learning_rate=self.single_rate / 10),
        )

    def make_optimizer(
        self, steps_per_epoch: int
    ) -> keras.optimizers.Optimizer:
        """Returns the optimizer of one stage, with its schedule."""
        learning_rate = SCHEDULES[self.schedule](self, steps_per_epoch)
        if self.optimizer == "sgd":
            return MomentumSGD(learning_rate, self.momentum, self.weight_decay)
        return keras.optimizers.AdamW(
            learning_rate, weight_decay=self.weight_decay
        )


def find_place(name: str, value: object) -> str:
    """Returns where to write an argument of the data or of a recipe."""
    if name in Source.__dataclass_fields__:
        return f". Write data_options={{{name!r}: {_checks.shown(value)}}}"
    return _place_in_recipe(name, value)


def find_place_of_loaded(name: str, value: object) -> str:
    """Returns the same for a function that takes no `data_options`."""
    if name in Source.__dataclass_fields__:
        text = _checks.shown(value)
        return f". Write data=cbam_keras.data.load(..., {name}={text})"
    return _place_in_recipe(name, value)


def _place_in_recipe(name, value):
    if name in Recipe.__dataclass_fields__:
        text = _checks.shown(value)
        return f". Write recipe=training.Recipe({name}={text})"
    return _checks.next_step(name, value)


def _check_rates(rates):
    """Returns a learning rate, or different ones in their order."""
    if isinstance(rates, str) or not isinstance(rates, Iterable):
        return _checks.positive_number("learning_rate", rates)
    several = [_checks.positive_number("learning_rate", x) for x in rates]
    # The names of folders have six digits of a rate.
    if not several or len({f"{x:g}" for x in several}) < len(several):
        raise ValueError(
            "`learning_rate` must be a number, or several different ones. "
            f"Received: learning_rate={rates!r}"
        )
    return tuple(sorted(several)) if len(several) > 1 else several[0]


def check_single_rate(recipe: Recipe, caller: str) -> None:
    """Raises if a recipe has several learning rates to choose from."""
    if len(recipe.learning_rates) > 1:
        raise ValueError(
            f"`learning_rate` must be one number for {caller}: comparisons "
            "(comparison.compare, study.run, cbam-keras train) choose among "
            f"several. Received: learning_rate={recipe.learning_rate}"
        )


def _check_unfreeze(unfreeze, frozen_epochs):
    """Returns which layers the second stage trains, as a plain value."""
    if unfreeze is None or (isinstance(unfreeze, str) and unfreeze):
        checked = unfreeze
    elif isinstance(unfreeze, float) and 0 < unfreeze < 1:
        checked = float(unfreeze)
    else:
        checked = _checks.positive_integer("unfreeze", unfreeze)
    if unfreeze is not None and not frozen_epochs:
        raise ValueError(
            "`unfreeze` says what is trained after `frozen_epochs`, which "
            f"must then be at least 1. Received: {unfreeze=}, {frozen_epochs=}"
        )
    return checked


def _check_loss(loss):
    """Returns a loss, of which a number is the label smoothing."""
    if loss in (None, FOCAL) or isinstance(loss, keras.losses.Loss):
        return loss
    if isinstance(loss, numbers.Real):
        return _checks.momentum("loss", loss)
    raise ValueError(
        f'`loss` must be None, "{FOCAL}", a number in [0, 1) for label '
        "smoothing, or a keras.losses.Loss, e.g. "
        f"keras.losses.CategoricalHinge(). Received: {loss=}"
    )


def _decay_by_cosine(recipe, steps_per_epoch):
    steps = recipe.epochs * steps_per_epoch
    warmup = steps // 10
    return WarmupCosineDecay(
        recipe.single_rate / 10,
        decay_steps=steps - warmup,
        warmup_target=recipe.single_rate,
        warmup_steps=warmup,
    )


def _decay_by_steps(recipe, steps_per_epoch):
    # Keras' schedule needs at least one boundary, even after the end.
    drops = range(1, max(2, -(-recipe.epochs // recipe.step_epochs)))
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        # The step at a boundary, counted from 0, still has the value before.
        [drop * recipe.step_epochs * steps_per_epoch - 1 for drop in drops],
        [recipe.single_rate * 0.1**drop for drop in (0, *drops)],
    )


SCHEDULES = {"cosine": _decay_by_cosine, "step": _decay_by_steps}
# What checks an argument of a recipe, and returns it as a plain value.
CHECKED: dict[str, Callable[..., Any]] = {
    "epochs": _checks.positive_integer,
    "batch_size": _checks.positive_integer,
    "step_epochs": _checks.positive_integer,
    "frozen_epochs": functools.partial(_checks.positive_integer, or_zero=True),
    "weight_decay": functools.partial(_checks.positive_number, or_zero=True),
    "momentum": _checks.momentum,
    "seed": _checks.seed,
    "image_size": _checks.image_size,
    "frozen": _checks.boolean,
    "cache": _checks.boolean,
    "optimizer": functools.partial(_checks.one_of, choices=("adamw", "sgd")),
    "schedule": functools.partial(_checks.one_of, choices=SCHEDULES),
    "class_weight": functools.partial(
        _checks.one_of, choices=(None, BALANCED, SQRT)
    ),
}

RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    # Section 4 of the paper, and the defaults of its authors' script.
    "imagenet": Recipe(
        epochs=90,
        batch_size=256,
        learning_rate=0.1,
        weight_decay=1e-4,
        optimizer="sgd",
        schedule="step",
        augment=("random_resized_crop", "flip"),
        image_size=224,
    ),
    # As github.com/kuangliu/pytorch-cifar has it, but for the warm-up.
    "small_images": Recipe(
        epochs=200,
        batch_size=128,
        learning_rate=0.1,
        weight_decay=5e-4,
        optimizer="sgd",
        augment=("crop", "flip"),
    ),
    # For photographs and a pretrained network. The numbers are ours.
    "fine-tuning": Recipe(
        epochs=4, learning_rate=1e-3, augment=("flip",), frozen_epochs=2
    ),
    # Without augmentation frozen layers run once an image. A classifier alone
    # needs a higher learning rate than one with attention.
    "frozen": Recipe(
        epochs=20, learning_rate=(1e-3, 3e-3, 1e-2, 3e-2), frozen=True
    ),
    # For masks and a U-Net on a pretrained network.
    "segmentation": Recipe(
        epochs=16,
        batch_size=8,
        learning_rate=3e-3,
        augment=("flip",),
        frozen_epochs=8,
    ),
}
RECIPES = _checks.Named(RECIPES)


def suit_to(
    images: data.Images,
    recipe: Recipe = RECIPES["default"],
    steps: int = LEAST_STEPS,
) -> Recipe:
    """Returns a recipe that trains for that many steps, but for our digits."""
    name = getattr(images, "name", images)
    is_embedded = isinstance(name, str) and name in data.EMBEDDED
    least_steps = None if is_embedded else steps
    return dataclasses.replace(recipe, least_steps=least_steps)


def find_recipe(
    recipe: Recipe | str | None, default: Recipe = RECIPES["default"]
) -> Recipe:
    """Returns a recipe, given itself or by its name in `RECIPES`."""
    if recipe is None:
        return default
    if isinstance(recipe, str):
        return RECIPES[_checks.one_of("recipe", recipe, RECIPES)]
    if not isinstance(recipe, Recipe):
        raise TypeError(
            "`recipe` must be a Recipe or the name of one. Received: "
            f"recipe={recipe!r}"
        )
    return recipe


def describe_changes(recipe: Recipe, default: Recipe) -> dict[str, object]:
    """Returns in which fields a recipe differs from the default one.

    If it differs less from one of `RECIPES`, that one is named as `recipe`, and
    the fields are those that differ from it.
    """
    changes = _find_changes(recipe, default)
    for name, named in RECIPES.items():
        from_named = {"recipe": name, **_find_changes(recipe, named)}
        if len(from_named) < len(changes):
            changes = from_named
    return changes


def _find_changes(recipe: Recipe, other: Recipe) -> dict[str, object]:
    """Returns the values of fields in which a recipe differs from another."""
    changes = {
        field.name: getattr(recipe, field.name)
        for field in dataclasses.fields(recipe)
        # Seeds share a folder, and `least_steps` decides on `epochs` alone.
        if field.name not in ("seed", "least_steps")
        and getattr(recipe, field.name) != getattr(other, field.name)
    }
    if recipe.least_steps is None and other.least_steps is not None:
        changes["epochs"] = recipe.epochs
    return changes


def class_weights(data: Any, recipe: Recipe) -> dict[int, float] | None:
    """Returns the weight of each class for `fit`, or raises without labels."""
    class_weight = recipe.class_weight
    if class_weight is None:
        return None
    counts = getattr(data, "class_counts", None)
    # The data of a user's own task do not say that each image has one label.
    is_labelled = not getattr(data, "boxes", True)
    is_labelled &= getattr(data, "labels", None) is None
    if not is_labelled or counts is None:
        raise ValueError(
            "`class_weight` needs one class for each image. Received: "
            f'class_weight={class_weight!r} for "{data.name}"'
        )
    # A class without images needs no weight.
    counts = np.asarray(counts)
    shares = np.count_nonzero(counts) * np.maximum(counts, 1)
    weights = counts.sum() / shares
    if class_weight == SQRT:
        weights = np.sqrt(weights)
    return dict(enumerate(weights.tolist()))
