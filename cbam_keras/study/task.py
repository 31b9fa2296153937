"""`Task`: what a study trains for; `Classification` of images."""

import dataclasses
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras

from cbam_keras import _checks, data
from cbam_keras.recipes import Recipe
from cbam_keras.study.networks import check_network, compile_network

# Arguments of `data.load` that a recipe decides.
BY_RECIPE = ("batch_size", "seed", "augment", "image_size")


class Task(Protocol):
    """Loads the data of a study, compiles its networks and measures them.

    Attributes:
        measure: String, the key of `evaluate`'s result that variants are
            compared by; larger is better.
        measure_name: String, what sentences call it, as "test accuracy".
        metrics: Sequence of strings, the logs of `fit` that the history keeps.
    """

    measure: str
    measure_name: str

    @property
    def metrics(self) -> Sequence[str]: ...

    def load(self, recipe: Recipe) -> Any:
        """Returns the data for the seed and batch size of a recipe.

        They have `name`, `train` and `validation` (or `None`) for `fit`,
        `sizes` (numbers of images by split), `batch_size`, `image_shape`,
        `class_names`, `set_epoch(epoch)` and `describe()`, plain values
        that a resumed run must agree in.
        """

    def check(self, model: keras.Model, data: Any) -> None:
        """Raises a `ValueError` if a network does not fit the data."""

    def compile(self, model: keras.Model, recipe: Recipe, data: Any) -> None:
        """Compiles a network."""

    def evaluate(self, model: keras.Model, data: Any) -> dict[str, float]:
        """Returns what is measured on the test data."""


@dataclasses.dataclass(frozen=True)
class Classification:
    """Classification of images, measured by accuracy on the test images.

    Args:
        data: What `cbam_keras.data.load` takes: the name of a dataset, the
            path of a folder, or arrays; or what it returned, the same for
            every seed.
        options: Further arguments of `data.load`, as `download=True`, except
            those that a recipe decides.

    Raises:
        TypeError: If `data` is of another kind.
        ValueError: If `data.load` has no such argument, or if loaded data
            cannot be trained on.
    """

    data: Any
    options: Mapping[str, Any]

    measure = "test_accuracy"
    measure_name = "test accuracy"
    metrics = ("loss", "accuracy", "val_loss", "val_accuracy")

    def __init__(self, data: Any, **options: Any):
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "options", options)
        _check_options(options)
        if self.is_loaded:
            if options:
                raise ValueError(
                    "`data_options` must be left out for images that are "
                    f'loaded already. Received: images of "{data.name}", '
                    f"data_options={options!r}"
                )
            if data.batch_size is None or data.boxes:
                raise ValueError(
                    "`data` must come in batches of images and labels only. "
                    "Received: images loaded with batch_size="
                    f"{data.batch_size}, boxes={data.boxes}"
                )
        elif not isinstance(data, str | os.PathLike | tuple | list | Mapping):
            raise TypeError(
                "`data` must be the name of a dataset, the path of a folder, "
                "arrays (images, labels) or what cbam_keras.data.load "
                f"returned. Received: data={data!r}"
            )

    @property
    def is_loaded(self) -> bool:
        """Whether the data are loaded already, for one seed."""
        return isinstance(self.data, data.ImageData)

    @property
    def name(self) -> str:
        """The name of the dataset, known before it is loaded."""
        if self.is_loaded:
            return self.data.name
        return data.dataset_name(self.data)

    def load(self, recipe: Recipe) -> data.ImageData:
        if self.is_loaded:
            return self.data
        by_recipe = {name: getattr(recipe, name) for name in BY_RECIPE}
        return data.load(self.data, **by_recipe, **self.options)

    def check(self, model: keras.Model, data: Any) -> None:
        check_network(model, data)

    def compile(self, model: keras.Model, recipe: Recipe, data: Any) -> None:
        compile_network(model, recipe, len(data.train))

    def evaluate(self, model: keras.Model, data: Any) -> dict[str, float]:
        _, accuracy = model.evaluate(data.test, verbose=0)
        # Computed in float32: the fraction that was meant.
        images = data.sizes["test"]
        return {"test_accuracy": round(float(accuracy) * images) / images}


def _check_options(options):
    known = [
        name
        for name in list(inspect.signature(data.load).parameters)[1:]
        # `fit` would take boxes for sample weights.
        if name not in (*BY_RECIPE, "boxes")
    ]
    for name in options:
        if name in BY_RECIPE:
            raise ValueError(
                f"`{name}` is an argument of the recipe. Received: "
                f"data_options={options!r}"
            )
        _checks.one_of("data_options", name, known)
