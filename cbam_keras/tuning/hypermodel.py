"""`CBAMHyperModel`: asks for hyperparameters and builds their network."""

import dataclasses
import itertools
import types
from collections.abc import Sequence

import keras
import keras_tuner
from keras_tuner import HyperParameters

from cbam_keras import _checks, _private, study
from cbam_keras.data import ImageData
from cbam_keras.layers import ATTENTION, CBAM, Attention, attention_layers
from cbam_keras.study import RECIPES, Recipe, comparison
from cbam_keras.tuning.space import PAPER, Point

# One value, or several.
Dimension = str | float | Sequence | None
# Squeeze-and-excitation has one network in the default space.
CONTROL: dict[object, Point] = {"se": {"reduction_ratio": 4}}
# Hyperparameters of the layers, in the order in which they are asked for.
DIMENSIONS = ("reduction_ratio", "kernel_size")
# These and where the layers go.
SEARCHED = ("stages", *DIMENSIONS)


class CBAMHyperModel(keras_tuner.HyperModel):
    """Networks with and without attention, as a search space of KerasTuner.

    Arguments take one value, or a sequence to choose from.

    It is for `tuning.search`, and for KerasTuner's own tuners. Hyperparameters
    have the names of the arguments below, and exist only where they matter: the
    kernel size where the attention has a spatial gate, and so on. The default
    space has 14 networks: CBAM with each of four reduction ratios and three
    kernel sizes, squeeze-and-excitation, and none.

    Args:
        input_shape: Tuple, the shape of an image with values in [0, 255], or
            of a signal or a volume. `tuning.search` takes it from the dataset.
            Defaults to `None`.
        classes: Positive integer, the number of classes, also from the dataset.
            Defaults to `None`.
        model: A network of `comparison.compare`, or a function of the attention
            that returns a `keras.Model`. It gets what `attention=` takes
            (`None`, or a callable that takes `name=` and returns a layer), as
            `lambda attention: models.ResNet18(attention=attention, classes=3)`.
            Defaults to `"tiny"`.
        weights: See `comparison.compare`. Defaults to `None`.
        attention: Names that `layers.make_attention` takes, `"none"`, your own
            layers, or `"all"`. Your own layers have no hyperparameters.
            Defaults to `("none", "se", "cbam")`.
        stages: The stages that get attention, see `comparison.compare`.
            `"each"` searches all of them. Defaults to `"all"`.
        reduction_ratio: Positive integers, for every layer that has one.
            Defaults to `None`, which means `(2, 4, 8, 16)`, and `4` for `"se"`.
        kernel_size: Odd positive integers, for every layer that has one.
            Defaults to `(3, 5, 7)`.
        metrics: Sequence of metrics of Keras, or their names, that `build`
            compiles networks with, as for `Objective("val_auc", "max")`.
            Defaults to `()`, the accuracy.
        name: String, the name of the hypermodel. Defaults to `None`.

    Raises:
        ValueError: If a value is out of range.
        TypeError: If an argument is of a wrong kind.

    Example:
        >>> hypermodel = cbam_keras.tuning.CBAMHyperModel(
        ...     (28, 28, 1), 10, attention="cbam", kernel_size=(3, 7)
        ... )
        >>> hp = keras_tuner.HyperParameters()
        >>> model = hypermodel.build(hp)
        >>> hp.values["kernel_size"], hp.values["reduction_ratio"]
        (7, 16)
    """

    @_checks.named
    def __init__(
        self,
        input_shape: Sequence[int | None] | None = None,
        classes: int | None = None,
        *,
        model: comparison.Network = "tiny",
        weights: str | None = None,
        attention: comparison.Attentions | type = ("none", "se", "cbam"),
        stages: str | Sequence[str] = "all",
        reduction_ratio: Dimension = None,
        kernel_size: Dimension = (3, 5, 7),
        metrics: Sequence[keras.metrics.Metric | str] = (),
        name: str | None = None,
    ):
        super().__init__(name=name)
        # This checks them.
        _, self.model_name = comparison.network_of(model, weights, Recipe())
        if classes is not None:
            classes = _checks.positive_integer("classes", classes)
        self.input_shape = input_shape
        self.classes = classes
        self.model = model
        self.weights = weights
        self.metrics = tuple(metrics)
        # Values of kinds of attention for which they are not searched.
        self.fixed: dict[object, Point] = {}
        if reduction_ratio is None:
            reduction_ratio = (2, 4, 8, 16)
            self.fixed = CONTROL
        if isinstance(attention, type):
            attention = (attention,)
        # This checks layers that users give, and names them.
        self.layers = attention_layers(attention)
        places = comparison.placements(stages, model)
        self.options = {
            "attention": tuple(self.layers),
            "stages": tuple(places),
            "reduction_ratio": _choices("reduction_ratio", reduction_ratio),
            "kernel_size": _choices("kernel_size", kernel_size),
        }

    def declare_hyperparameters(self, hp: HyperParameters) -> None:
        """Registers the whole space, without building a network."""
        self._choose(hp)

    def attention_for(self, hp: HyperParameters) -> Attention | None:
        """Returns what `attention=` takes, for your own build function.

        Args:
            hp: A `keras_tuner.HyperParameters`. For an attention layer of its
                own in each block, call this once per block, each time within
                `with hp.name_scope("block1")`.

        Returns:
            `None`, or a `layers.Attention`, which takes `name=` and returns a
            layer.

        Raises:
            TypeError: If `hp` is of another tuner, such as a trial of Optuna:
                choose one of the `points` there, and call `attention_of`.
        """
        return self.attention_of(self._choose(hp))

    def attention_of(self, values: Point) -> Attention | None:
        """Returns what `attention=` takes, for one of the `points`.

        Any tuner can choose an index of `points()`, e.g. Optuna by
        `trial.suggest_categorical("point", range(len(space.points())))`.

        Args:
            values: Dictionary, one of the `points`.

        Returns:
            See `attention_for`.
        """
        kind = str(values["attention"])
        stages = str(values.get("stages", PAPER["stages"]))
        if kind not in ATTENTION:
            layer = self.layers[kind]
            return layer and dataclasses.replace(layer, stages=stages)
        options = {x: values[x] for x in DIMENSIONS if x in values}
        return Attention(kind, options, stages)

    def network(
        self,
        values: Point,
        images: ImageData | None = None,
        recipe: Recipe = RECIPES["default"],
    ) -> keras.Model:
        """Returns the network of one of the `points`, not compiled.

        `images` have the shape and number of classes that this object lacks,
        and `recipe` says whether a network with `weights` starts frozen.
        """
        attention = self.attention_of(values)
        build, _ = comparison.network_of(self.model, self.weights, recipe)
        if callable(self.model):
            return build(images, attention)
        shape = self.input_shape or getattr(images, "input_shape", None)
        classes = self.classes or getattr(images, "output_shape", [0])[-1]
        if not shape or not classes:
            raise ValueError(
                "A network known by name needs the shape of its images, "
                "`input_shape`, and the number of classes, `classes`, e.g. "
                "CBAMHyperModel((28, 28, 1), 10). Received: "
                f"input_shape={self.input_shape}, classes={self.classes}"
            )
        shape_and_classes = types.SimpleNamespace(
            input_shape=shape,
            output_shape=(classes,),
            activation=getattr(images, "activation", "softmax"),
        )
        return build(shape_and_classes, attention=attention)

    @property
    def unused(self) -> list[str]:
        """The arguments for layers that none of its layers takes."""
        return [name for name in DIMENSIONS if not self._kinds_with(name)]

    def build(self, hp: HyperParameters) -> keras.Model:
        """Returns the network of these hyperparameters, compiled.

        Args:
            hp: A `keras_tuner.HyperParameters`.

        Returns:
            A `keras.Model` with AdamW at a constant learning rate, 0.01 or
            with `weights` 0.0001, crossentropy for labels as integers, and the
            accuracy.
        """
        model = self.network(self._choose(hp))
        last = comparison.default_recipe(None, self.weights).stages[-1]
        optimizer = keras.optimizers.AdamW(
            last.learning_rate, weight_decay=1e-4
        )
        loss, metrics = study.loss_and_metrics(model)
        if self.metrics:
            # Each network has its own.
            metrics = [
                x if isinstance(x, str) else type(x).from_config(x.get_config())
                for x in self.metrics
            ]
        model.compile(optimizer, loss, metrics=metrics)
        return model

    def points(self) -> list[Point]:
        """Returns all settings: defaults first, the last one varies fastest."""
        points = []
        for kind in self._values_of("attention"):
            names = [x for x in SEARCHED if kind in self._kinds_with(x)]
            for values in itertools.product(*map(self._values_of, names)):
                point = {"attention": kind}
                point.update(zip(names, values, strict=True))
                points.append(self._complete(point))
        return points

    def _choose(self, hp):
        """Registers the hyperparameters, and returns the values in use."""
        if not isinstance(hp, HyperParameters):
            raise TypeError(
                "`hp` must be a keras_tuner.HyperParameters. Received: "
                f"hp={hp!r}, a {type(hp).__name__}. For a trial of Optuna "
                "write, where `space` is this CBAMHyperModel:\n"
                "    points = space.points()\n"
                '    index = trial.suggest_categorical("point", '
                "range(len(points)))\n"
                "    attention = space.attention_of(points[index])"
            )
        kind = self._ask(hp, "attention")
        values = {"attention": kind}
        for name in SEARCHED:
            kinds = self._kinds_with(name)
            if kinds:
                with hp.conditional_scope("attention", kinds):
                    value = self._ask(hp, name)
                if kind in kinds:
                    values[name] = value
        self._refuse_others(hp)
        return self._complete(values)

    def _complete(self, values):
        """Returns values with those that are not searched."""
        return {**values, **self.fixed.get(values["attention"], {})}

    def _refuse_others(self, hp):
        """Raises if KerasTuner mixes up one of these with the user's own.

        It keeps one value for a name. One that is asked for later is in the
        space of the next network.
        """
        for name, options in self.options.items():
            full_name = _private.name_in_scopes(hp, name)
            other_options = [
                list(x.values)
                for x in hp.space
                if x.name == full_name and list(x.values) != list(options)
            ]
            if other_options:
                raise keras_tuner.errors.FatalError(
                    "Each hyperparameter must have its own name. Received: "
                    f'"{name}" from {[*options]} of CBAMHyperModel, and from '
                    f"{other_options[0]} of yours. Rename yours, or use a "
                    'scope: with hp.name_scope("cbam"): attention = '
                    "space.attention_for(hp)"
                )

    def _ask(self, hp, name):
        """Registers a hyperparameter, and returns its value."""
        default, *alternatives = self._values_of(name)
        if not alternatives:
            return hp.Fixed(name, default)
        return hp.Choice(name, list(self.options[name]), default=default)

    def _kinds_with(self, name):
        """Returns the kinds for whose layers a hyperparameter is searched."""
        if name == "stages" and self.options[name] == (PAPER[name],):
            # A summary of KerasTuner need not list what nobody asked for.
            return []
        if name == "stages":
            return [kind for kind, layer in self.layers.items() if layer]
        return [
            kind
            for kind in self.layers
            if kind in ATTENTION
            and Attention(kind).takes(name)
            # KerasTuner mixes up two hyperparameters of one name.
            and name not in self.fixed.get(kind, {})
        ]

    def _values_of(self, name):
        """Returns the values of a hyperparameter, its default first.

        That is no attention, the paper's value, the nearest, or the first.
        """
        options = self.options[name]
        if name in DIMENSIONS:
            default = min(options, key=lambda value: abs(value - PAPER[name]))
        else:
            usual = [x for x in ("none", "cbam", "all") if x in options]
            default = usual[0] if usual else options[0]
        # False comes before True; the others keep their order.
        return sorted(options, key=lambda value: value != default)


def _choices(name, value):
    """Returns the values to choose from as a tuple, checked by a layer."""
    is_single = isinstance(value, str) or not hasattr(value, "__iter__")
    choices = [value] if is_single else list(value)
    if not choices or len(set(choices)) != len(choices):
        raise ValueError(
            f"`{name}` must be one or several values, each at most once. "
            f"Received: {name}={value!r}"
        )
    for choice in choices:
        CBAM(**{name: choice})
    return tuple(choices)
