"""`CBAMHyperModel`: asks for hyperparameters and builds their network."""

import contextlib
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import keras_tuner

from cbam_keras import _checks, comparison, study
from cbam_keras.layers import ATTENTION, ORDERS, POOLS
from cbam_keras.models import NETWORKS
from cbam_keras.recipes import Recipe
from cbam_keras.tuning.space import PAPER, kinds_of, point

KINDS = ("none", *ATTENTION)
# Values of `None`; beside CBAM, SE is a control: one network.
REDUCTION_RATIOS, SE_REDUCTION_RATIO = (2, 4, 8, 16), 4
# Further hyperparameters, and the kinds of attention that have them.
DIMENSIONS = {
    "kernel_size": ("cbam", "spatial"),
    "order": ("cbam",),
    "channel_pool_types": ("channel", "cbam"),
    "spatial_pool_types": ("spatial", "cbam"),
}
# Stages of residual networks; others take one attention for all places.
STAGES = {"tiny": 3, "small": 3, "mobilenet": 0}
OTHER_STAGES = 4


class CBAMHyperModel(keras_tuner.HyperModel):
    """Networks with and without attention, as a search space of KerasTuner.

    For `tuning.search`, or for KerasTuner's own tuners:
    `keras_tuner.RandomSearch(CBAMHyperModel((28, 28, 1), 10),
    objective="val_accuracy")`. Hyperparameters have the names of the
    arguments below, and exist only where they matter: the kernel size where
    the attention has a spatial gate, and so on.

    The default space is CBAM with each of four reduction ratios and three
    kernel sizes, and two controls: no attention, and squeeze-and-excitation
    with one reduction ratio. These are 14 networks. Order, pools, stages and
    learning rate are fixed unless you give them values to choose from.

    Each dimension takes one value, which fixes it; a sequence to choose
    from; or a function that takes the `keras_tuner.HyperParameters` and
    returns the value, as `lambda hp: hp.Int("kernel_size", 3, 9, step=2)`,
    or `lambda hp: hp.Float("learning_rate", 1e-3, 3e-2, sampling="log")` for
    a range of learning rates.

    Args:
        input_shape: Tuple, the shape of an image with values in [0, 255].
            Defaults to `None`: `tuning.search` takes that of its dataset.
        classes: Positive integer, number of classes. Defaults to `None`:
            `tuning.search` takes that of its dataset.
        model: Name of a network as for `comparison.compare`; or a function
            that takes what `attention=` takes (`None`, a callable that takes
            `name=` and returns a layer, or a list of these, one per stage)
            and returns a `keras.Model`, as
            `lambda attention: insert_attention(backbone, attention)`.
            Defaults to `"tiny"`.
        attention: Kinds among `"none"`, `"se"`, `"channel"`, `"spatial"`,
            `"cbam"`. Defaults to `("none", "se", "cbam")`.
        reduction_ratio: Positive integers, of `"se"`, `"channel"` and
            `"cbam"`. Defaults to `None`, which means `(2, 4, 8, 16)`, and
            `4` for `"se"`.
        kernel_size: Odd positive integers, of `"spatial"` and `"cbam"`.
            Defaults to `(3, 5, 7)`.
        order: Orders of the gates of `"cbam"` among `"channel_first"`,
            `"spatial_first"`, `"parallel"`. Defaults to `"channel_first"`.
        channel_pool_types: Pools of the channel gate of `"channel"` and
            `"cbam"`, each a join of `"avg"`, `"max"`, `"lp"`, `"lse"` as
            `"avg+max"`, or a sequence of these. Defaults to `"avg+max"`.
        spatial_pool_types: Pools of the spatial gate of `"spatial"` and
            `"cbam"`, likewise, or `"conv"`. Defaults to `"avg+max"`.
        stages: Where attention is. `False`: everywhere. `True`: searched, for
            the residual networks known by name, with a Boolean per stage,
            `stage1`, `stage2`, ... A positive integer: likewise with so many
            stages, for a function as `model` that takes a list. A sequence
            of Booleans fixes them, one per stage; a function returns such a
            sequence. Attention in no stage is left to `"none"`. Defaults to
            `False`.
        learning_rate: Positive numbers. Defaults to `None`, which means that
            of the recipe in `tuning.search`, and 0.01 elsewhere.
        identity_init: Boolean, whether attention layers return exactly their
            input until they are trained, see `CBAM`, with a normalized
            spatial gate, as those of `comparison.compare` do. Defaults to
            `True`.
        name: String. Defaults to `None`.

    Raises:
        ValueError: If a value is out of range.
        TypeError: If an argument is of a wrong kind.

    Example:
        >>> hypermodel = CBAMHyperModel(
        ...     (28, 28, 1), 10, attention="cbam", kernel_size=(3, 7)
        ... )
        >>> hp = keras_tuner.HyperParameters()
        >>> model = hypermodel.build(hp)
        >>> hp.values["kernel_size"], hp.values["reduction_ratio"]
        (7, 16)
    """

    def __init__(
        self,
        input_shape: Sequence[int | None] | None = None,
        classes: int | None = None,
        *,
        model: str | Callable[[Any], keras.Model] = "tiny",
        attention: Any = ("none", "se", "cbam"),
        reduction_ratio: Any = None,
        kernel_size: Any = (3, 5, 7),
        order: Any = PAPER["order"],
        channel_pool_types: Any = PAPER["channel_pool_types"],
        spatial_pool_types: Any = PAPER["spatial_pool_types"],
        stages: Any = False,
        learning_rate: Any = None,
        identity_init: bool = True,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if not callable(model):
            _checks.one_of("model", model, NETWORKS)
        self.input_shape = None if input_shape is None else tuple(input_shape)
        if classes is not None:
            classes = _checks.positive_integer("classes", classes)
        self.classes = classes
        self.model = model
        self.stages = _stages(stages, model)
        self.identity_init = _checks.boolean("identity_init", identity_init)
        given = {
            "attention": attention,
            "reduction_ratio": reduction_ratio,
            "kernel_size": kernel_size,
            "order": order,
            "channel_pool_types": channel_pool_types,
            "spatial_pool_types": spatial_pool_types,
            "learning_rate": learning_rate,
        }
        self.options = {
            name: value
            if value is None or callable(value)
            else _choices(name, value)
            for name, value in given.items()
        }

    def declare_hyperparameters(self, hp: Any) -> None:
        """Registers the whole space, without building a network."""
        self._choose(hp)
        known = kinds_of(hp)
        # CBAM first, which has most. A function may choose any kind.
        for kind in known and [k for k in KINDS[1:] if k in known] or KINDS[1:]:
            # As if this kind was chosen, for nested hyperparameters.
            probe = point(hp, **({"attention": kind} if known else {}))
            self._choose(probe, kind)
            hp.merge(probe.space, overwrite=False)

    def attention_for(self, hp: Any) -> Any:
        """Returns what `attention=` takes, for your own build function.

        Args:
            hp: A `keras_tuner.HyperParameters`.

        Returns:
            `None`, a callable that takes `name=` and returns a layer, or a
            list of these, one per stage.
        """
        values = self._choose(hp)
        if values["attention"] == "none":
            return None
        layer = functools.partial(
            ATTENTION[values["attention"]], **self._layer_options(values)
        )
        if not values["stages"]:
            return layer
        return [layer if stage else None for stage in values["stages"]]

    def learning_rate_for(self, hp: Any) -> float:
        """Returns the learning rate of these hyperparameters.

        Args:
            hp: A `keras_tuner.HyperParameters`.
        """
        rate = self._choose(hp)["learning_rate"]
        return PAPER["learning_rate"] if rate is None else float(rate)

    def layer_options(self, hp: Any) -> dict[str, Any]:
        """Returns the keyword arguments of the attention layer.

        Those of a pool or an order as in the paper, the layer's defaults, are
        left out. Without attention there are none.

        Args:
            hp: A `keras_tuner.HyperParameters`.
        """
        return self._layer_options(self._choose(hp))

    def network(self, hp: Any, images: Any = None) -> keras.Model:
        """Returns the network of these hyperparameters, not compiled.

        Args:
            hp: A `keras_tuner.HyperParameters`.
            images: An `ImageData`, for the shape of images and the number of
                classes where this object has none. Defaults to `None`.
        """
        attention = self.attention_for(hp)
        if callable(self.model):
            return self.model(attention)
        shape, classes = self.input_shape, self.classes
        if images is not None:
            shape = shape or images.image_shape
            classes = classes or len(images.class_names)
        if shape is None or classes is None:
            raise ValueError(
                "A network known by name needs the shape of its images and "
                "the number of classes. Received: input_shape="
                f"{self.input_shape}, classes={self.classes}. Give both, as "
                "CBAMHyperModel((28, 28, 1), 10), or call `tuning.search`, "
                "which takes them from its data"
            )
        known = types.SimpleNamespace(
            image_shape=shape, class_names=range(classes)
        )
        return NETWORKS[self.model](known, attention)

    def build(self, hp: Any) -> keras.Model:
        """Returns the network of these hyperparameters, compiled.

        Args:
            hp: A `keras_tuner.HyperParameters`.

        Returns:
            A `keras.Model` with AdamW at a constant learning rate,
            crossentropy for labels as integers, and the accuracy.
        """
        model = self.network(hp)
        # For its loss, which depends on how the network ends.
        study.compile_network(model, Recipe(), 1)
        model.compile(
            keras.optimizers.AdamW(
                self.learning_rate_for(hp), weight_decay=1e-4
            ),
            loss=model.loss,
            metrics=["accuracy"],
        )
        return model

    def with_fixed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns values with the ratio of SE, which KerasTuner leaves out.

        Args:
            values: Mapping, hyperparameters to values.
        """
        fixed = self.options["reduction_ratio"] is None
        if fixed and values.get("attention") == "se":
            return {**values, "reduction_ratio": SE_REDUCTION_RATIO}
        return dict(values)

    def without_attention(self, values: dict[str, Any]) -> bool:
        """Returns whether all stages are off, which is the same as `"none"`.

        Args:
            values: Dictionary, hyperparameters to values.
        """
        if not isinstance(self.stages, int) or not self.stages:
            return False
        stages = range(1, self.stages + 1)
        return all(values.get(f"stage{n}") is False for n in stages)

    def _choose(self, hp, kind=None):
        """Registers the hyperparameters, and returns those in use."""
        # First, so that a grid search goes through all else before it.
        rate = self._ask(hp, "learning_rate", self.options["learning_rate"])
        chosen = self._ask(hp, "attention", self.options["attention"])
        kind = _checks.one_of("attention", kind or chosen, KINDS)
        values: dict[str, Any] = {"learning_rate": rate, "attention": kind}
        ratios = self.options["reduction_ratio"]
        if ratios is None and kind == "se":
            # No hyperparameter: KerasTuner mixes up two of one name.
            values["reduction_ratio"] = SE_REDUCTION_RATIO
        else:
            kinds = ("cbam", "channel", *(("se",) if ratios else ()))
            with _only_for(hp, kind, kinds) as exists:
                values["reduction_ratio"] = exists and self._ask(
                    hp, "reduction_ratio", ratios or REDUCTION_RATIOS
                )
        for name, kinds in DIMENSIONS.items():
            with _only_for(hp, kind, kinds) as exists:
                values[name] = exists and self._ask(
                    hp, name, self.options[name]
                )
        with _only_for(hp, kind, KINDS[1:]) as exists:
            values["stages"] = exists and self._ask_stages(hp)
        return values

    def _ask(self, hp, name, options):
        if options is None or callable(options):
            return options and options(hp)
        if len(options) == 1:
            return hp.Fixed(name, options[0])
        return hp.Choice(name, list(options), default=_default(name, options))

    def _ask_stages(self, hp):
        if callable(self.stages):
            return [bool(stage) for stage in self.stages(hp)]
        if isinstance(self.stages, tuple):
            return list(self.stages)
        return [
            hp.Boolean(f"stage{stage}", default=True)
            for stage in range(1, self.stages + 1)
        ]

    def _layer_options(self, values):
        kind = values["attention"]
        if kind == "none":
            return {}
        options = {
            name: values[name]
            for name in ("reduction_ratio", "kernel_size")
            if values[name]
        }
        for name in ("order", "channel_pool_types", "spatial_pool_types"):
            value = values[name]
            # The values of the paper are the defaults of the layers.
            if value and value != PAPER[name]:
                if name != "order" and value != "conv":
                    split = isinstance(value, str)
                    value = tuple(value.split("+") if split else value)
                if kind != "cbam":
                    name = name.removeprefix(f"{kind}_")
                options[name] = value
        return {**options, **comparison.start_options(kind, self.identity_init)}


@contextlib.contextmanager
def _only_for(hp, kind, kinds):
    """Context of hyperparameters that only these kinds of attention have.

    Gives whether this kind is one of them.
    """
    possible = [value for value in kinds_of(hp) if value in kinds]
    scope: Any = contextlib.nullcontext()
    # Where a function chooses the kind, there is no such hyperparameter.
    if possible and kind in kinds:
        scope = hp.conditional_scope("attention", possible)
    with scope:
        yield kind in kinds


def _default(name, options):
    if name == "attention":
        return next((a for a in ("none", "cbam") if a in options), options[0])
    wanted = PAPER[name]
    if isinstance(wanted, str):
        return wanted if wanted in options else options[0]
    return min(options, key=lambda value: abs(value - wanted))


def _choices(name, value):
    """Returns the values to choose from as a tuple, checked."""
    if name in ("attention", "order"):
        choices = KINDS if name == "attention" else ORDERS
        return _checks.subset(name, value, choices)
    single = isinstance(value, str) or not hasattr(value, "__iter__")
    check = {
        "reduction_ratio": _checks.positive_integer,
        "kernel_size": _checks.odd_integer,
        "learning_rate": _checks.positive_number,
    }.get(name, _pools)
    chosen = tuple(check(name, one) for one in ([value] if single else value))
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(
            f"`{name}` must be one or several values, each at most once. "
            f"Received: {name}={value!r}"
        )
    return chosen


def _pools(name, value):
    """Returns pools as "avg+max"."""
    if name == "spatial_pool_types" and value in ("conv", ("conv",)):
        return "conv"
    split = value.split("+") if isinstance(value, str) else value
    return "+".join(_checks.subset(name, split, POOLS))


def _stages(value, model):
    known = None if callable(model) else STAGES.get(model, OTHER_STAGES)
    if callable(value):
        return value
    if value is False:
        return 0
    if value is True:
        if not known:
            raise ValueError(
                "`stages=True` needs a residual network known by name, whose "
                "number of stages is known. Received: stages=True, "
                f"model={model!r}. For a function, give the number of stages"
            )
        return known
    if hasattr(value, "__iter__") and not isinstance(value, str):
        value = tuple(_checks.boolean("stages", stage) for stage in value)
        if not any(value):
            raise ValueError(
                "`stages` must have attention somewhere; without is "
                f'attention="none". Received: stages={value}'
            )
        count = len(value)
    else:
        value = count = _checks.positive_integer("stages", value)
    if known is not None and count != known:
        raise ValueError(
            f'Model "{model}" has {known or "no"} stages that take attention '
            f"of their own. Received: stages={value!r}"
        )
    return value
