"""`SearchPlan`: what a search tries."""

import dataclasses
import functools
import itertools
import os
from typing import TYPE_CHECKING, Any, cast

from cbam_keras import _checks, study
from cbam_keras._checks import Options
from cbam_keras.data import ImageData, Images
from cbam_keras.study import comparison, find_recipe
from cbam_keras.study.plans.study import check_folds_of
from cbam_keras.tuning.space import (
    MAX_LISTED,
    Values,
    canonical,
    count_points,
    grid,
    hyperparameters,
    label,
    name_of,
    shuffled,
)
from cbam_keras.tuning.tasks import (
    ByValidation,
    KeptClassification,
    KeptSegmentation,
    MasksByValidation,
)

if TYPE_CHECKING:
    from keras_tuner import HyperParameters

    from cbam_keras.tuning.adaptor import Adaptor
    from cbam_keras.tuning.hypermodel import CBAMHyperModel

ALGORITHMS = ("random", "bayesian", "grid")
# All points of the default space.
MAX_TRIALS = 14


@dataclasses.dataclass(frozen=True)
class SearchPlan:
    """What a search tries, how, and how long.

    Args:
        hypermodel: A `CBAMHyperModel`, any `keras_tuner.HyperModel`, or a
            function that builds a model. The function takes
            `keras_tuner.HyperParameters` and returns a `keras.Model`. A
            compiled model keeps its optimizer and loss. Hyperparameters
            `"learning_rate"` and `"batch_size"` replace those of the recipe.
            Defaults to `None`: `CBAMHyperModel()`.
        data: Anything that `cbam_keras.data.load` accepts, or its result. New
            seeds split again what is not loaded yet. Defaults to
            `"crowded_mnist"`.
        recipe: A `training.Recipe`, or the name of one in `training.RECIPES`.
            Defaults to `None`, which means that of `comparison.compare`.
        algorithm: `"random"`, `"grid"` (all combinations) or `"bayesian"`
            (Gaussian process). `"random"` tries no combination twice, except
            with ranges or more than 20,000 combinations, which KerasTuner
            draws. `"grid"` takes 10 values of a range. For others, as
            Hyperband, give a `CBAMHyperModel` to KerasTuner's own tuners.
            Defaults to `"random"`.
        max_trials: Positive integer, may be raised in a later call. Defaults to
            `None`, which means 14, the whole default space. For `"grid"` it
            means all combinations.
        max_parameters: Positive number, the most trainable parameters. Larger
            networks are not trained. Defaults to `None`.
        max_macs: Positive number, the same limit in multiply-accumulates per
            image, of layers that `profile_model` counts. Defaults to `None`.
        confirm: Integer from 0, with how many new seeds the best setting and no
            attention are retrained. These follow the seed of the recipe. May be
            raised in a later call. Defaults to `6`.
        folds: Integer from 2, the number of folds of a cross-validation. See
            `study.Study`. Trials are compared by the mean over the validation
            images of each fold, and new seeds by its test images. Defaults to
            `None`.
        keep: Positive integer, how many of the best trials keep their network.
            It is saved as `<values>.keras`, with folds that of each fold.
            Defaults to `3`.
        data_options: Mapping of further arguments of `data.load`, as
            `{"download": True}`, except those of the recipe. Defaults to
            `None`.
        measure: The measure that networks are compared by, see
            `study.Classification`: on the validation images in the search, on
            the test images in the verdict. Defaults to `"test_accuracy"`.
        task: A `study.Segmentation`, in place of `data`, `data_options` and
            `measure`. Takes a `CBAMHyperModel` of a U-Net. Defaults to `None`.
    """

    # A `CBAMHyperModel`, `keras_tuner.HyperModel` or function.
    hypermodel: Any = None
    data: Images = "crowded_mnist"
    # A `Recipe`, once the search has been made.
    recipe: Any = None
    _: dataclasses.KW_ONLY
    algorithm: str = "random"
    max_trials: int | None = None
    max_parameters: float | None = None
    max_macs: float | None = None
    confirm: int = 6
    folds: int | None = None
    keep: int = 3
    data_options: Options | None = None
    measure: str = study.ACCURACY
    task: study.Segmentation | None = None

    def __post_init__(self) -> None:
        _checks.one_of("algorithm", self.algorithm, ALGORITHMS)
        _checks.positive_integer("confirm", self.confirm, or_zero=True)
        _checks.positive_integer("keep", self.keep)
        for name in ("max_parameters", "max_macs"):
            if (most := getattr(self, name)) is not None:
                _checks.positive_number(name, most)
        # Some are needed only at the end, but checked before any work.
        _checks.require("matplotlib.figure", extra="plot")
        _checks.require("keras_tuner", extra="tune")
        if self.algorithm == "bayesian":
            _checks.require("sklearn.gaussian_process", extra="tune")
        if self.confirm * (self.folds or 1) > 1:
            _checks.require("scipy.stats", extra="tune")
        check_folds_of(self.of_confirmation, self.folds)
        default = comparison.default_recipe(
            self.adapted.model,
            self.adapted.weights,
            self.data,
            self.task is not None,
        )
        _checks.convert(
            self,
            max_trials=_max_trials(self.algorithm, self.max_trials),
            recipe=find_recipe(self.recipe, default),
        )

    @functools.cached_property
    def adapted(self) -> "Adaptor | CBAMHyperModel":
        """The hypermodel, with the methods of a `CBAMHyperModel`."""
        from cbam_keras.tuning.adaptor import adapt
        from cbam_keras.tuning.hypermodel import CBAMHyperModel

        return adapt(self.hypermodel or CBAMHyperModel())

    @functools.cached_property
    def of_confirmation(self) -> KeptClassification | KeptSegmentation:
        """The task of the confirmation."""
        return self._make_task(KeptClassification, KeptSegmentation)

    @functools.cached_property
    def of_trials(self) -> ByValidation | MasksByValidation:
        """The task of the trials."""
        return self._make_task(ByValidation, MasksByValidation)

    def _make_task(self, of_classes, of_masks):
        task, options = self.task, self.data_options or {}
        if task is None:
            return of_classes(self.data, measure=self.measure, **options)
        comparison.refuse_data(self.data, self.data_options, self.measure)
        if not isinstance(task, study.Segmentation):
            raise TypeError(
                f"`task` must be a study.Segmentation. Received: task={task!r}"
            )
        return of_masks(
            task.data,
            task.masks,
            measure=task.kind,
            dice_weight=task.dice_weight,
            **task.options,
        )

    def __getstate__(self) -> dict[str, object]:
        # Each process loads the data itself.
        return {k: v for k, v in vars(self).items() if k != "loaded"}

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the confirmation, other than that of the search."""
        return tuple(
            (self.recipe.seed + number) % 2**32
            for number in range(1, self.confirm + 1)
        )

    @functools.cached_property
    def loaded(self) -> ImageData:
        """The data of the trials, with folds those of the first one."""
        return self.of_trials.load(self.recipe, self.folds)

    def load(self, run: study.Run) -> ImageData:
        """Returns the data of one of the runs of the trials."""
        if run == self.trials.runs[0]:
            return self.loaded
        return cast(ImageData, self.trials.load(run))

    @functools.cached_property
    def _explored(self):
        """The space, and the fingerprint of the network of its defaults."""
        from cbam_keras.tuning.adaptor import explore

        return explore(self.adapted, self.loaded, self.recipe, self.of_trials)

    @property
    def space(self) -> "HyperParameters":
        """The `HyperParameters` that the networks ask for."""
        return self._explored[0]

    @functools.cached_property
    def trials(self) -> study.Study:
        """The trials as a study, as far as they are known at the start."""
        hyperparameters: dict[str, list[object]] = {}
        for hp in self.space.space:
            # Several under different conditions may have one name.
            configs = hyperparameters.setdefault(hp.name, [])
            configs.append({"kind": type(hp).__name__, **hp.get_config()})
        planned = study.Study(
            self.of_trials,
            [self.variant(values) for values in self._points()],
            seeds=(self.recipe.seed,),
            recipe=self.recipe,
            budget=study.Budget(self.max_parameters, self.max_macs),
            settings={
                "model": self.name,
                "weights": self.adapted.weights,
                "space": hyperparameters,
                "identity_init": self.adapted.identity_init,
                "network": self._explored[1],
                "algorithm": self.algorithm,
                "seed": self.recipe.seed,
            },
            kind="tune",
            folds=self.folds,
            layout="ranking",
            question=f"Which attention suits the network {self.name} on "
            f"{self.of_trials.name}, and does it improve the "
            f"{comparison.NOUNS[self.task is not None]}?",
        )
        return planned.suited_to(self.loaded)

    @property
    def name(self) -> str:
        """The name of the hypermodel, which a folder can have."""
        model = self.adapted.model
        if not isinstance(model, str):
            model = getattr(model, "__name__", type(model).__name__)
        return "".join(c if c.isalnum() else "_" for c in model)

    @functools.cached_property
    def is_list(self) -> bool:
        """Whether all trials are known before the first."""
        if self.algorithm != "random":
            return self.algorithm == "grid"
        has_range = any(
            type(hp).__name__ == "Float" and hp.step is None
            for hp in self.space.space
        )
        return not has_range and count_points(self.space) <= MAX_LISTED

    def variant(self, values: Values, name: str | None = None) -> study.Variant:
        """Returns a trial as a variant of a study."""
        values = canonical(self.adapted.complete(values))
        rate, batch_size = self.adapted.rate_and_batch_size(values)
        variant = study.Variant(
            name or name_of(values),
            functools.partial(_build, self.adapted, values, self.recipe),
            values,
            rate,
            batch_size=batch_size,
        )
        return dataclasses.replace(variant, label=label(variant.describe()))

    def _points(self):
        """Returns the points of a list; the defaults, if it is none."""
        every = grid(self.space)
        if self.is_list and self.algorithm == "random":
            every = shuffled(self.space, self.recipe.seed)
        return itertools.islice(every, self.max_trials if self.is_list else 1)

    def folder(self, output: str | os.PathLike) -> study.StudyFolder:
        """Returns the output folder of the search."""
        # Raises if the data have no labels to weight.
        study.class_weights(self.loaded, self.recipe)
        return study.StudyFolder(output, self.trials, self.loaded)


def _build(adapted, values, recipe, images):
    return adapted.network(hyperparameters(values), images, recipe)


def _max_trials(algorithm, max_trials):
    if max_trials is None:
        return None if algorithm == "grid" else MAX_TRIALS
    return _checks.positive_integer("max_trials", max_trials)
