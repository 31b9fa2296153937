"""`CBAMHyperModel`: asks for hyperparameters and builds their network."""

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner

from cbam_keras import _checks, training
from cbam_keras.layers import ATTENTION, POOLS
from cbam_keras.models import NETWORKS
from cbam_keras.training import Recipe
from cbam_keras.tuning.space import (
    ARMS,
    CHANNEL,
    KERNEL_SIZES,
    KINDS,
    PAPER,
    REDUCTION_RATIOS,
    SE_REDUCTION_RATIO,
    SPATIAL,
    _arms,
    _stages,
    conditional,
    default,
    either,
    layer_options,
    orders,
    pools,
    rates,
    ratios,
    sides,
)


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
        attention: Any = KINDS,
        reduction_ratio: Any = None,
        kernel_size: Any = KERNEL_SIZES,
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
        ratio_of_se = {}
        if reduction_ratio is None:
            reduction_ratio = REDUCTION_RATIOS
            ratio_of_se = {"se_reduction_ratio": (SE_REDUCTION_RATIO,)}
        self.options = {
            "attention": either(attention, _arms),
            "reduction_ratio": either(reduction_ratio, ratios),
            **ratio_of_se,
            "kernel_size": either(kernel_size, sides),
            "order": either(order, orders),
            "channel_pool_types": either(
                channel_pool_types,
                functools.partial(pools, "channel_pool_types", POOLS),
            ),
            "spatial_pool_types": either(
                spatial_pool_types,
                functools.partial(pools, "spatial_pool_types", POOLS),
            ),
            "learning_rate": either(learning_rate, rates),
        }

    def declare_hyperparameters(self, hp: Any) -> None:
        """Registers the whole space, without building a network."""
        self._choose(hp, everything=True)

    def attention_for(self, hp: Any) -> Any:
        """Returns what `attention=` takes, for your own build function.

        Args:
            hp: A `keras_tuner.HyperParameters`.

        Returns:
            `None`, a callable that takes `name=` and returns a layer, or a
            list of these, one per stage.
        """
        return self._attention(self._choose(hp))

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
        return layer_options(self._choose(hp), self.identity_init)

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
        training.compile_network(model, Recipe(), 1)
        model.compile(
            keras.optimizers.AdamW(
                self.learning_rate_for(hp), weight_decay=1e-4
            ),
            loss=model.loss,
            metrics=["accuracy"],
        )
        return model

    def without_attention(self, values: dict[str, Any]) -> bool:
        """Returns whether all stages are off, which is the same as `"none"`.

        Args:
            values: Dictionary, hyperparameters to values.
        """
        if not isinstance(self.stages, int) or not self.stages:
            return False
        return all(
            values.get(f"stage{stage}") is False
            for stage in range(1, self.stages + 1)
        )

    def _choose(self, hp, everything=False):
        """Registers the hyperparameters, and returns those in use."""
        values = {
            # First, so that a grid search goes through all else before it.
            "learning_rate": self._ask(hp, "learning_rate", "learning_rate"),
            "attention": self._ask(hp, "attention", "attention"),
        }
        arm = _checks.one_of("attention", values["attention"], ARMS)
        for name, arms, options in self._dimensions():
            ask = functools.partial(self._ask, name=name, options=options)
            value = conditional(hp, arm, arms, ask, everything)
            values[name] = values.get(name) if value is None else value
        values["stages"] = conditional(
            hp, arm, ARMS[1:], self._ask_stages, everything
        )
        return values

    def _dimensions(self):
        """Gives names of hyperparameters, kinds that have them, options."""
        if "se_reduction_ratio" in self.options:
            yield "reduction_ratio", ("se",), "se_reduction_ratio"
            yield "reduction_ratio", ("cbam", "channel"), "reduction_ratio"
        else:
            yield "reduction_ratio", CHANNEL, "reduction_ratio"
        yield "kernel_size", SPATIAL, "kernel_size"
        yield "order", ("cbam",), "order"
        yield "channel_pool_types", ("channel", "cbam"), "channel_pool_types"
        yield "spatial_pool_types", ("spatial", "cbam"), "spatial_pool_types"

    def _ask(self, hp, name, options):
        options = self.options[options]
        if options is None or callable(options):
            return options and options(hp)
        if len(options) == 1:
            return hp.Fixed(name, options[0])
        return hp.Choice(name, list(options), default=default(name, options))

    def _ask_stages(self, hp):
        if callable(self.stages):
            return [bool(stage) for stage in self.stages(hp)]
        if isinstance(self.stages, tuple):
            return list(self.stages)
        return [
            hp.Boolean(f"stage{stage}", default=True)
            for stage in range(1, (self.stages or 0) + 1)
        ]

    def _attention(self, values):
        if values["attention"] == "none":
            return None
        layer = functools.partial(
            ATTENTION[values["attention"]],
            **layer_options(values, self.identity_init),
        )
        if not values["stages"]:
            return layer
        return [layer if stage else None for stage in values["stages"]]
