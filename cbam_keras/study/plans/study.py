"""`Study`: named variants x seeds of a `Task`."""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import keras
import numpy as np

from cbam_keras import _checks, data
from cbam_keras.study.plans.measures import Measure, validation_key
from cbam_keras.study.plans.numerics import read_numerics
from cbam_keras.study.plans.recipes import Recipe, find_recipe

# Stands before the learning rate in the name of a candidate.
AT = "@"
# Names of variants may have so many bytes; those of files, with more, 255.
MAX_NAME = 190


class Run(NamedTuple):
    """One training of each variant: a seed or, with folds, a fold of one.

    Args:
        seed: Integer, the seed.
        fold: Integer from 0, the fold. Defaults to `None`, without folds.
    """

    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """What files are called, e.g. `"seed0"` or `"seed0-fold2"`."""
        return str(self).replace(", ", "-").replace(" ", "")

    def __str__(self) -> str:
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"seed {self.seed}{fold}"


class Data(Protocol):
    """What a study reads of its data; `Task.load` says what tasks need."""

    @property
    def name(self) -> str: ...
    @property
    def train(self) -> keras.utils.PyDataset: ...
    @property
    def validation(self) -> keras.utils.PyDataset | None: ...
    @property
    def sizes(self) -> Mapping[str, int]: ...
    @property
    def class_names(self) -> Sequence[str]: ...
    def set_epoch(self, epoch: int) -> None: ...
    def describe(self) -> dict[str, object]: ...


# The data of one kind of task.
Loaded = TypeVar("Loaded", bound=Data)


class Task(Generic[Loaded]):
    """Loads the data of a study, compiles its networks and measures them.

    The base class of tasks, with defaults for optional methods.

    Attributes:
        measure: String, the key of `evaluate`'s result that variants are
            compared by. It is a fraction, and larger is better.
        measure_name: String, what sentences call it, e.g. "test accuracy".
        measures: Sequence of `Measure`, in place of `measure` and
            `measure_name`: other numbers, or several. The first is compared.
        metrics: Sequence of strings, the logs of `fit` that the history keeps.
            Defaults to `("loss",)`.
        name: String, which names the default output folder, or `None`: a task
            without one needs `output`. Defaults to `None`.
        is_loaded: Boolean, whether the data are loaded already: they cannot
            be divided for several seeds or folds. Defaults to `False`.
        score: String, a further measure that a resumed run must agree in, or
            `None`. Defaults to `None`.
    """

    measure: str
    measure_name: str
    metrics: Sequence[str] = ("loss",)
    name: str | None = None
    is_loaded: bool = False
    score: str | None = None

    @property
    def measures(self) -> Sequence[Measure]:
        return (Measure(self.measure, self.measure_name),)

    def measures_of(self, data: Loaded) -> Sequence[Measure]:
        """Returns the measures, with as many digits as the data need."""
        return self.measures

    def count_folds(self, folds: int | None) -> int | None:
        """Returns `folds`, or the number of those that the data say."""
        return folds

    def load(self, recipe: Recipe) -> Loaded:
        """Returns the data for the seed and batch size of a recipe.

        They have `name`, `train` and `validation` (or `None`) for `fit`,
        `sizes` (numbers of images by split, `"train"` and `"test"` among
        them), `batch_size` (`None` if batches differ), `image_shape`,
        `class_names`, `set_epoch(epoch)` and `describe()`, further plain
        values that a resumed run must agree in. A task that can be
        cross-validated also takes `folds` and `fold`, see `data.load`.

        They may have `summary` (a line that is printed first), `commonest`
        (the fraction of the majority class in the test images),
        `class_counts` (of the training images, by which class weights are
        balanced) with `boxes=False` (each image has one label),
        `ignore_index` (the loss has weights of its own) and `source` (how
        images are read again for the report), as those of `data.load`.
        """
        raise NotImplementedError

    def guess(self, data: Loaded) -> float | None:
        """Returns the metric of the constant baseline, if it is known."""
        return getattr(data, "commonest", None)

    def check(self, model: keras.Model, data: Loaded) -> None:
        """Raises a `ValueError` if a network does not fit the data."""

    def compile(self, model: keras.Model, recipe: Recipe, data: Loaded) -> None:
        """Compiles a network, at the start of each of the recipe's `stages`.

        `recipe` is that of the stage. The weights must stay as they are.
        """

    def validate(self, model: keras.Model, data: Loaded) -> dict[str, float]:
        """Returns measures of the validation images that `fit` has not.

        They are computed after each epoch if there is `patience`.
        """
        return {}

    def evaluate(self, model: keras.Model, data: Loaded) -> dict[str, float]:
        """Returns what is measured on the test data: numbers by name.

        One that is not a finite number is left out, with a warning; `None` says
        that there is none.
        """
        raise NotImplementedError

    def predict(
        self, model: keras.Model, data: Loaded
    ) -> dict[str, np.ndarray]:
        """Returns arrays that are kept beside the network, if any."""
        return {}

    def test(
        self, model: keras.Model, data: Loaded
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Returns both: what `evaluate` returns, and what `predict` does.

        A task whose measures are of its predictions computes them once.
        """
        return self.evaluate(model, data), self.predict(model, data)


@_checks.named_arguments
@dataclasses.dataclass(frozen=True)
class Variant(Generic[Loaded]):
    """A network of a study.

    Args:
        name: String, the name in results and files.
        build: Function that takes the data and returns a new network, not
            compiled, with the seed of the recipe in effect. The data of a
            `Classification` have `input_shape`, `output_shape`, `class_names`.
        options: Mapping of plain values that distinguish it. In a resumed run
            they must be the same. Defaults to none.
        learning_rate: Positive number. Defaults to `None`, which means that of
            the recipe, or one of these.
        label: String, what tables call it. Defaults to `None`, its name.

    Raises:
        ValueError: If the name is not a valid file name.
    """

    name: str
    build: Callable[[Loaded], keras.Model]
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    learning_rate: float | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)

    def describe(self) -> dict[str, object]:
        """Returns what a resumed run must agree in."""
        description = dict(self.options)
        if self.learning_rate:
            description["learning_rate"] = self.learning_rate
        return description

    @property
    def original(self) -> str:
        """String, its name without a learning rate, which candidates have."""
        return self.name.partition(AT)[0]

    def at(self, rate: float) -> "Variant":
        """Returns a candidate: the variant at one of several rates."""
        name = f"{self.name}{AT}{rate:g}"
        return dataclasses.replace(self, name=name, learning_rate=rate)


@_checks.named_arguments
@dataclasses.dataclass(frozen=True)
class Study:
    """Variants of a network to train with several seeds and to compare.

    Args:
        task: A `Classification`, or another `Task`.
        variants: Sequence of `Variant`.
        seeds: Sequence of different integers, which determine initial weights,
            validation images and order, but not the test images. Layers that
            variants share by path and shape start alike. Defaults to `(0,)`.
        recipe: A `training.Recipe`, whose seed is replaced, or the name of
            one. Defaults to `None`, which means `Recipe()`.
        baseline: String, what the others are compared with. Defaults to `None`.
        settings: Mapping of further plain values that a resumed run must have
            too. Defaults to none.
        kind: String: a run is not resumed as one of another kind. Results of
            the kind `"tune"` are a `Ranking`. Defaults to `"study"`.
        finish: Function of the results and the output folder that writes
            further files, also of an interrupted run. Defaults to `None`.
        folds: Integer from 2, the number of folds of a cross-validation. Each
            variant is trained once for each fold of each seed, which decides
            what is in which fold. Defaults to `None`, those of the data.
        question: String, what the study asks, for the report. Defaults to `""`.
        options: Mapping of plain values, what distinguishes the plan from that
            of all defaults for the same data and network. It names the default
            output folder. Defaults to none.

    Raises:
        ValueError: If there is no variant, if names or seeds repeat, if the
            baseline is not among the variants, or if there are folds of data
            that are loaded already.
        TypeError: If an argument is of a wrong kind.
    """

    task: Task
    variants: Sequence[Variant]
    seeds: Sequence[int] = (0,)
    # It is a `Recipe` once the study has been made.
    recipe: Recipe | str | None = None
    baseline: str | None = None
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    kind: str = "study"
    # It takes `Results` and `StudyFolder`.
    finish: Callable[..., None] | None = None
    folds: int | None = None
    question: str = ""
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.task, Task):
            raise TypeError(
                "`task` must be a study.Task, the base class of tasks. "
                f"Received: task={_checks.shown(self.task)}"
            )
        variants = tuple(self.variants)
        if not all(isinstance(variant, Variant) for variant in variants):
            raise TypeError(
                "`variants` must hold study.Variant(name, build). Received: "
                f"variants={self.variants!r}"
            )
        names = [variant.name for variant in variants]
        if not names or len(set(names)) != len(names):
            raise ValueError(
                "`variants` must be one or several with different names. "
                f"Received: variants named {names}"
            )
        if AT in "".join(names):
            raise ValueError(
                f'`variants` must have names without "{AT}". Received: {names}'
            )
        if self.baseline is not None:
            _checks.one_of("baseline", self.baseline, names)
        _checks.convert(
            self,
            folds=check_folds_of(self.task, self.folds),
            variants=variants,
            seeds=check_seeds(self.seeds),
            recipe=find_recipe(self.recipe),
        )
        patience = self.recipe_for().patience
        first = validation_key(self.task.measures[0].key)
        keys = {first, "val_accuracy"}
        measured = {validation_key(self.task.score or ""), *self.task.metrics}
        if self.chooses_rates and {first, "val_loss"}.isdisjoint(measured):
            raise ValueError(
                "Several learning rates need a task that measures validation "
                f'images: `metrics` with "{first}" or "val_loss". '
                f"Received: metrics={self.task.metrics}. Give one learning rate"
            )
        if patience is not None and keys.isdisjoint(measured):
            raise ValueError(
                '`patience` needs a task with "val_accuracy" in its `metrics`. '
                f"Received: {patience=}, metrics={self.task.metrics}. Leave "
                "`patience` out of the recipe"
            )

    @property
    def networks(self) -> list[tuple[Variant, Run]]:
        """Each variant with each of the runs, in the order of training."""
        return [(v, run) for run in self.runs for v in self.variants]

    @property
    def runs(self) -> tuple[Run, ...]:
        """Each seed or, with folds, each fold of each seed."""
        return runs_of(self.seeds, self.folds)

    def rates_for(self, variant: Variant) -> tuple[float, ...]:
        """Returns the learning rates from which runs of a variant choose."""
        if variant.learning_rate:
            return (variant.learning_rate,)
        return self.recipe_for().learning_rates

    @property
    def chooses_rates(self) -> bool:
        """Whether runs choose among several learning rates."""
        return any(len(self.rates_for(x)) > 1 for x in self.variants)

    def settings_to_compare(
        self, data: Mapping[str, object]
    ) -> dict[str, object]:
        """Returns what a resumed run, with its first data, must agree in."""
        # `asdict` would copy layers.
        recipe = dict(vars(self.recipe_for()))
        # The description of the data has the size of images.
        for name in ("seed", "image_size"):
            del recipe[name]
        # The epochs are those that it has led to.
        recipe["least_steps"] = None
        for name in ("augment", "batch_size"):
            recipe[name] = data.get(name, recipe[name])
        settings = {**self.settings, "recipe": recipe}
        if self.folds is not None:
            settings["folds"] = self.folds
        if self.task.score:
            settings["measure"] = self.task.score
        settings["backend"] = keras.backend.backend()
        settings["dtype_policy"] = keras.config.dtype_policy().get_config()
        settings["numerics"] = numerics = read_numerics()
        del numerics["dtype_policy"]
        settings["variants"] = {v.name: v.describe() for v in self.variants}
        settings["data"] = {self.runs[0].name: data}
        return settings

    def suited_to(self, data: Data) -> "Study":
        """Returns the study with epochs for the least steps of its recipe."""
        recipe = find_recipe(self.recipe)
        is_validated = data.validation and data.sizes.get("validation")
        if self.chooses_rates and not is_validated:
            raise ValueError(
                "Several learning rates need validation data, by which each "
                "run chooses one. Received: learning_rate="
                f"{recipe.learning_rate}, data with {data.sizes}. Give one "
                "learning rate, or data with a validation split"
            )
        if recipe.least_steps is None:
            return self
        total = math.ceil(recipe.least_steps / len(data.train))
        epochs = max(recipe.epochs, total - recipe.frozen_epochs)
        recipe = dataclasses.replace(recipe, epochs=epochs)
        return dataclasses.replace(self, recipe=recipe)

    def load(self, run: Run) -> Data:
        """Returns the data of one of the runs."""
        recipe = dataclasses.replace(self.recipe_for(), seed=run.seed)
        if run.fold is None:
            return self.task.load(recipe)
        load: Callable[..., Data] = self.task.load
        return load(recipe, folds=self.folds, fold=run.fold)

    def recipe_for(
        self, variant: Variant | None = None, run: Run | None = None
    ) -> Recipe:
        """Returns the recipe of a variant in a run, as its networks get it."""
        recipe = find_recipe(self.recipe)
        rate, seed = recipe.learning_rate, recipe.seed
        if run is not None:
            # The folds of a seed differ in their initial weights, too.
            seed = run.seed * (self.folds or 1) + (run.fold or 0)
        if variant is not None and variant.learning_rate:
            rate = variant.learning_rate
        return dataclasses.replace(recipe, seed=seed, learning_rate=rate)


def check_folds_of(task: Task, folds: int | None) -> int | None:
    """Returns the folds of a task, unless it cannot load its data in them."""
    data.check_folds(folds)
    if folds is not None and task.is_loaded:
        raise ValueError(
            "`folds` need data that are not loaded yet, such as the path of a "
            "folder: each fold loads them with other test images. Received: "
            f'{folds=}, loaded images of "{task.name}"'
        )
    return task.count_folds(folds)


def runs_of(seeds: Sequence[int], folds: int | None) -> tuple[Run, ...]:
    """Returns each seed or, with folds, each fold of each seed."""
    each = [None] if folds is None else range(folds)
    return tuple(Run(seed, fold) for seed in seeds for fold in each)


def check_seeds(seeds: object) -> tuple[int, ...]:
    """Returns the seeds of a number of seeds, or of a sequence."""
    if not isinstance(seeds, Iterable) or isinstance(seeds, str):
        count = _checks.positive_integer("seeds", seeds)
        return tuple(range(count))
    different = tuple(_checks.seed("seeds", seed) for seed in seeds)
    if not different or len(set(different)) != len(different):
        raise ValueError(
            "`seeds` must be a number of seeds, or one or several different "
            f"ones. Received: seeds={seeds!r}"
        )
    return different


def check_name(name: object) -> None:
    """Raises unless a variant may have this name, which files get too."""
    if (
        not isinstance(name, str)
        or not name
        or len(os.fsencode(name)) > MAX_NAME
        or not name.isprintable()
        or set(name) & set('/\\:*?"<>|')
        # The folder's own names begin with a dot, and some are deleted.
        or "." in (name[0], name[-1])
        # The folders of networks end like this.
        or re.search(r"-seed\d+(-fold\d+)?$", name, re.IGNORECASE)
    ):
        raise ValueError(
            f"The names of networks must be valid file names of at most "
            f"{MAX_NAME} bytes, also on Windows. They must not begin or end "
            "with a dot, or end in a seed like -seed0, as the files of a run "
            f"do. Received: {name!r}"
        )
