"""`search`: hyperparameter search for attention on your own data.

KerasTuner's algorithms over kinds of attention (none among them), reduction
ratio, kernel size, placement and more. A search resumes after a crash, and ends
with whether attention improves accuracy.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from cbam_keras import _checks, _run_folder, data, training
from cbam_keras.training import Recipe, find_recipe
from cbam_keras.tuning.algorithms import ALGORITHMS, make_algorithm
from cbam_keras.tuning.folder import SearchFolder
from cbam_keras.tuning.report import report
from cbam_keras.tuning.results import SearchResults
from cbam_keras.tuning.workers import TUNER

# What `recipe=None` means.
RECIPE = Recipe(epochs=3)
MAX_TRIALS = 12
# KerasTuner's name for a process that is the only one.
ALONE = "tuner0"


def search(
    hypermodel: Any = None,
    images: Any = "mnist5k",
    recipe: Recipe | str | None = None,
    *,
    algorithm: str = "random",
    max_trials: int | None = None,
    max_parameters: float | None = None,
    max_macs: float | None = None,
    keep: int = 3,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
    tensorboard: bool = False,
    data_options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> SearchResults | None:
    """Searches the best network, and tells whether attention is worth it.

    What `cbam-keras tune` runs. Every trial is trained by the recipe, with
    its seed, and with the learning rate of the trial. The first trials are
    no attention, squeeze-and-excitation, and CBAM as in the paper, as far as
    they are in the space; then the algorithm chooses. No trial ends the
    search: what is over the budget, runs out of memory, diverges or fails is
    recorded as such.

    The same call given again resumes from the last finished epoch of the
    running trial, and ends as it would have without the interruption. After
    the end it returns the results. A call with other settings is refused,
    and the error names what differs. Only the best trials keep their weights.

    Args:
        hypermodel: A `CBAMHyperModel`; any other `keras_tuner.HyperModel`;
            or a function that takes `keras_tuner.HyperParameters` and
            returns a `keras.Model`. A model of one of the latter that comes
            compiled keeps its optimizer and loss, others are compiled by the
            recipe. Defaults to `None`, which means `CBAMHyperModel()`.
        images: Name for `cbam_keras.data.load`, or what that returned. See
            `training.train`. Defaults to `"mnist5k"`.
        recipe: A `training.Recipe`, or the name of one. Defaults to `None`,
            which means three epochs of the default one.
        algorithm: `"random"`; `"hyperband"` (many trials for a few epochs,
            the best third of them for three times as many, and so on up to
            those of the recipe); `"bayesian"` (Gaussian process); `"grid"`
            (all combinations; 10 values for a range). Defaults to
            `"random"`.
        max_trials: Positive integer, may be raised when the search is called
            again. Defaults to `None`, which means 12 for `"random"` and
            `"bayesian"` and all combinations for `"grid"`. How many
            `"hyperband"` runs follows from the epochs.
        max_parameters: Positive number, the most trainable parameters a
            network may have. Defaults to `None`.
        max_macs: Positive number, the most multiply-accumulates for one
            image, see `profile_model`. Defaults to `None`.
        keep: Positive integer, how many of the best trials keep the weights
            of their best epoch. Defaults to `3`.
        output: Path of a folder that is new, empty, or holds this search.
            Defaults to `None`, which means
            `runs/tune-<images>-<model>`.
        resume: Boolean. `False` refuses a folder that holds a run. Defaults
            to `True`.
        overwrite: Boolean, whether to start again, see `training.train`.
            Defaults to `False`.
        tensorboard: Boolean, whether to write logs for TensorBoard, under
            TensorFlow. Defaults to `False`.
        data_options: Mapping of further arguments of `cbam_keras.data.load`.
            Defaults to `None`.
        settings: Mapping of what else makes the search what it is, of plain
            values; compared on resuming. Defaults to `None`.

    Returns:
        A `SearchResults`; `None` in a process that is only one of several
        workers.

    Raises:
        ValueError: If an argument is out of range; if the output folder
            cannot be written, holds something else or is used by another
            process; if the search in it has other settings or is damaged.
        TypeError: If an argument is of a wrong kind.
        RuntimeError: If no trial finished.
        ImportError: If a package is missing.
    """
    recipe = RECIPE if recipe is None else find_recipe(recipe)
    limits = _limits(algorithm, max_trials, max_parameters, max_macs, keep)
    _checks.boolean("resume", resume)
    _checks.boolean("overwrite", overwrite)
    _check_packages(algorithm, tensorboard)
    hypermodel, name = _hypermodel(hypermodel)
    images = training.images_for(images, recipe, data_options)
    if output is None:
        output = _run_folder.default_output("tune", images.name, name)
    path = _run_folder.folder_path(output)
    tuner = _tuner(
        hypermodel, images, recipe, path, algorithm, limits, tensorboard
    )
    folder = SearchFolder(
        path,
        {
            **(settings or {}),
            "model": name,
            "space": _space(tuner.own_oracle),
            "network": tuner.fingerprint,
            "data": images.describe(),
            "recipe": training.describe_recipe(recipe, images),
            "algorithm": algorithm,
            "budget": tuner.budget,
            "backend": keras.backend.backend(),
        },
        tuner.own_oracle.max_trials,
    )
    if tuner.is_worker:
        folder.join()
        tuner.search()
        return None
    with folder.opened(resume=resume, overwrite=overwrite):
        folder.reload(tuner.own_oracle)
        _run(tuner)
        return report(tuner, images)


def default_output(hypermodel: Any, images: Any) -> pathlib.Path:
    """Returns the folder that `search` writes to by default.

    Args:
        hypermodel: As for `search`.
        images: What `data.load` takes, or what it returned.
    """
    _, name = _hypermodel(hypermodel)
    if isinstance(images, data.ImageData):
        return _run_folder.default_output("tune", images.name, name)
    return _run_folder.default_output("tune", data.dataset_name(images), name)


def _run(tuner):
    """Runs the trials here, or lets workers run them."""
    oracle = tuner.own_oracle
    chief = "chief" in os.environ.get(TUNER, "")
    for tuner_id in list(oracle.ongoing_trials):
        # Left by a search that had workers, or had none before.
        if tuner_id == ALONE if chief else tuner_id != ALONE:
            oracle.requeue(tuner_id)
    try:
        if chief:
            from cbam_keras.tuning.chief import serve

            serve(oracle)
        else:
            tuner.search()
    except KeyboardInterrupt:
        print(
            f'Interrupted. The search is in "{tuner.folder}"; the same call '
            "resumes it",
            flush=True,
        )
        raise


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
        "max_trials": max_trials,
        "budget": budget,
        "keep": _checks.positive_integer("keep", keep),
    }


def _check_packages(algorithm, tensorboard):
    # Some are needed only at the end, but checked before any work.
    _checks.require("keras_tuner", extra="tune")
    _checks.require("matplotlib.figure", extra="plot")
    _checks.require("rich.table", extra="all")
    if algorithm == "bayesian":
        for package in ("sklearn.gaussian_process", "scipy.optimize"):
            _checks.require(package, extra="tune")
    if _checks.boolean("tensorboard", tensorboard):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "`tensorboard` needs the TensorFlow backend. Received: "
                f"tensorboard=True under {keras.backend.backend()}"
            )
        _checks.require("tensorboard.plugins.hparams", extra="tune")


def _hypermodel(hypermodel):
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


def _tuner(hypermodel, images, recipe, folder, algorithm, limits, tensorboard):
    from cbam_keras.tuning.hypermodel import CBAMHyperModel
    from cbam_keras.tuning.oracle import DurableOracle
    from cbam_keras.tuning.tuner import Tuner

    max_trials = limits["max_trials"]
    ours = isinstance(hypermodel, CBAMHyperModel)
    oracle = DurableOracle(
        folder,
        make_algorithm(algorithm, max_trials=max_trials, epochs=recipe.epochs),
        seed=recipe.seed,
        keep=limits["keep"],
        max_trials=max_trials,
        refused=hypermodel.without_attention if ours else None,
    )
    return Tuner(
        oracle,
        hypermodel,
        images,
        recipe,
        budget=limits["budget"],
        tensorboard=folder / "tensorboard" if tensorboard else None,
    )


def _space(oracle):
    """Returns the hyperparameters by name, compared on resuming."""
    found: dict[str, Any] = {}
    for hp in oracle.hyperparameters.space:
        name = hp.name
        while name in found:
            name += "'"
        found[name] = {"kind": type(hp).__name__, **hp.get_config()}
    return found
