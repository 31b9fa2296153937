"""The arguments of a search, checked before any work."""

import dataclasses
import numbers
import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from cbam_keras import _checks, comparison, data, training
from cbam_keras.training import Recipe, find_recipe
from cbam_keras.tuning.algorithms import ALGORITHMS, make_algorithm
from cbam_keras.tuning.confirmation import fresh_seeds

# All points of the default space.
MAX_TRIALS = 14


@dataclasses.dataclass(frozen=True)
class Plan:
    """Arguments of a search, checked.

    Attributes:
        hypermodel: A `keras_tuner.HyperModel` or a function.
        name: String, a name of it that a folder can have.
        given: What `data.load` takes, or what it returned.
        images: An `ImageData`.
        recipe: A `Recipe`.
        algorithm: String.
        limits: Dictionary: `max_trials`, `budget` and `keep`.
        seeds: Tuple of integers, of the confirmation.
        data_options: Mapping or `None`.
    """

    hypermodel: Any
    name: str
    given: Any
    images: data.ImageData
    recipe: Recipe
    algorithm: str
    limits: dict[str, Any]
    seeds: tuple[int, ...]
    data_options: Mapping[str, Any] | None

    def load(self, seed: int) -> data.ImageData:
        """Returns the images as another seed splits them."""
        recipe = dataclasses.replace(self.recipe, seed=seed)
        return training.images_for(self.given, recipe, self.data_options)

    def tuner(self, folder: pathlib.Path, tensorboard: bool = False) -> Any:
        """Returns the `Tuner`, which writes nothing yet."""
        from cbam_keras.tuning.hypermodel import CBAMHyperModel
        from cbam_keras.tuning.oracle import DurableOracle
        from cbam_keras.tuning.tuner import Tuner

        max_trials = self.limits["max_trials"]
        ours = isinstance(self.hypermodel, CBAMHyperModel)
        oracle = DurableOracle(
            folder,
            make_algorithm(
                self.algorithm,
                max_trials=max_trials,
                epochs=self.recipe.epochs,
            ),
            seed=self.recipe.seed,
            keep=self.limits["keep"],
            max_trials=max_trials,
            refused=self.hypermodel.without_attention if ours else None,
        )
        return Tuner(
            oracle,
            self.hypermodel,
            self.images,
            self.recipe,
            budget=self.limits["budget"],
            tensorboard=folder / "tensorboard" if tensorboard else None,
        )


def default_recipe(hypermodel: Any) -> Recipe:
    """Returns what `recipe=None` means for a search."""
    model = getattr(hypermodel, "model", None)
    return dataclasses.replace(comparison.default_recipe(model), epochs=1)


def plan_of(
    hypermodel: Any,
    images: Any,
    recipe: Any,
    *,
    confirm: int,
    keep: int = 3,
    data_options: Mapping[str, Any] | None,
    **limits: Any,
) -> Plan:
    """Returns the arguments of a search after checking them."""
    hypermodel, name = named(hypermodel)
    if recipe is None:
        recipe = default_recipe(hypermodel)
    recipe = find_recipe(recipe)
    limits = _limits(keep=keep, **limits)
    seeds = _seeds(recipe, confirm)
    _check_packages(limits["algorithm"])
    return Plan(
        hypermodel=hypermodel,
        name=name,
        given=images,
        images=training.images_for(images, recipe, data_options),
        recipe=recipe,
        algorithm=limits.pop("algorithm"),
        limits=limits,
        seeds=seeds,
        data_options=data_options,
    )


def _seeds(recipe, confirm):
    """Returns the seeds of the confirmation."""
    if (
        not isinstance(confirm, numbers.Integral)
        or isinstance(confirm, bool)
        or confirm < 0
    ):
        raise ValueError(
            "`confirm` must be a number of seeds, 0 for no confirmation. "
            f"Received: confirm={confirm!r}"
        )
    if confirm > 1:
        _checks.require("scipy.stats", extra="tune")
    return fresh_seeds(recipe.seed, int(confirm))


def _limits(algorithm, max_trials, max_parameters, max_macs, keep):
    _checks.one_of("algorithm", algorithm, ALGORITHMS)
    if max_trials is not None:
        max_trials = _checks.positive_integer("max_trials", max_trials)
        if algorithm == "hyperband":
            raise ValueError(
                'With algorithm="hyperband" the number of trials follows from '
                "the epochs of the recipe, and `max_trials` must be None. "
                f"Received: max_trials={max_trials}"
            )
    elif algorithm in ("random", "bayesian"):
        max_trials = MAX_TRIALS
    budget = {"parameters": max_parameters, "macs": max_macs}
    for key, value in budget.items():
        if value is not None:
            budget[key] = _checks.positive_number(f"max_{key}", value)
    return {
        "algorithm": algorithm,
        "max_trials": max_trials,
        "budget": budget,
        "keep": _checks.positive_integer("keep", keep),
    }


def _check_packages(algorithm):
    # Some are needed only at the end, but checked before any work.
    _checks.require("keras_tuner", extra="tune")
    _checks.require("matplotlib.figure", extra="plot")
    _checks.require("rich.table", extra="all")
    if algorithm == "bayesian":
        for package in ("sklearn.gaussian_process", "scipy.optimize"):
            _checks.require(package, extra="tune")


def named(hypermodel):
    """Returns a `HyperModel`, and a name for it that a folder can have."""
    from keras_tuner import HyperModel

    from cbam_keras.tuning.hypermodel import CBAMHyperModel

    if hypermodel is None:
        hypermodel = CBAMHyperModel()
    named = hypermodel
    if isinstance(hypermodel, CBAMHyperModel):
        named = hypermodel.model
    elif not isinstance(hypermodel, HyperModel) and (
        isinstance(hypermodel, (type, keras.Model)) or not callable(hypermodel)
    ):
        raise TypeError(
            "`hypermodel` must be a CBAMHyperModel, a keras_tuner.HyperModel "
            "or a function that takes HyperParameters and returns a model. "
            f"Received: hypermodel={hypermodel!r}"
        )
    if isinstance(hypermodel, HyperModel) and (
        type(hypermodel).fit is not HyperModel.fit
    ):
        raise ValueError(
            "Networks of a search are trained by its recipe, so `fit` of "
            f"{type(hypermodel).__name__} would not be called. Received: "
            f"hypermodel={hypermodel!r}. Put what differs into `build`, or "
            "use a tuner of KerasTuner's"
        )
    if not isinstance(named, str):
        named = getattr(named, "__name__", type(named).__name__)
    return hypermodel, "".join(c if c.isalnum() else "_" for c in named)
