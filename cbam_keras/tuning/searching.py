"""`search`: hyperparameter search for attention on your own data.

KerasTuner's algorithms over kinds of attention (none among them), reduction
ratio, kernel size, placement and more. A search resumes after a crash, and ends
with the best few networks trained again from fresh seeds, and whether
attention improves accuracy.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from cbam_keras import _checks, _run_folder, data, training
from cbam_keras.training import Recipe
from cbam_keras.tuning.folder import SearchFolder
from cbam_keras.tuning.plan import named, plan_of
from cbam_keras.tuning.report import report
from cbam_keras.tuning.results import SearchResults
from cbam_keras.tuning.workers import TUNER, WORKERS

# KerasTuner's name for a process that is the only one.
ALONE = "tuner0"


def search(
    hypermodel: Any = None,
    images: Any = "crowded_mnist",
    recipe: Recipe | str | None = None,
    *,
    algorithm: str = "random",
    max_trials: int | None = None,
    max_parameters: float | None = None,
    max_macs: float | None = None,
    confirm: int = 3,
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
    its seed. The first trials are no attention, squeeze-and-excitation, and
    CBAM nearest to the paper's, as far as they are in the space; then the
    algorithm chooses. No trial ends the search: what is over the budget, runs
    out of memory, diverges or fails is recorded as such.

    The highest of many accuracies is partly luck. So the two best
    configurations, no attention and SE are then trained again from fresh
    seeds, which decide the initial weights and the split into training and
    validation images. The configuration that validates best over these seeds
    is compared with no attention on the test images, paired by seed.

    The trials of a small network are best shared among workers, one trial
    each (`cbam-keras tune --workers N`): these exchange a few numbers per
    trial, where devices that share the batches of one network exchange its
    gradients in every step, which takes longer than they save. A network that
    needs several devices is better trained alone, see `training.train`.

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
            `training.train`. The fresh seeds of the confirmation split again
            what is not loaded yet. Defaults to `"crowded_mnist"`.
        recipe: A `training.Recipe`, or the name of one. Defaults to `None`,
            which means that of `comparison.compare`, with one epoch.
        algorithm: `"random"` (no combination twice, so all of a small space;
            each kind of attention as often as it has combinations);
            `"hyperband"` (many trials for a few epochs,
            the best third of them for three times as many, and so on up to
            those of the recipe); `"bayesian"` (Gaussian process); `"grid"`
            (all combinations; 10 values for a range). Defaults to
            `"random"`.
        max_trials: Positive integer, may be raised when the search is called
            again. Defaults to `None`, which means 14, the whole default
            space, for `"random"` and `"bayesian"` and all combinations for
            `"grid"`. How many `"hyperband"` runs follows from the epochs.
        max_parameters: Positive number, the most trainable parameters a
            network may have. Defaults to `None`.
        max_macs: Positive number, the most multiply-accumulates for one
            image, see `profile_model`. Defaults to `None`.
        confirm: Integer from 0, how many fresh seeds the best configurations
            and the controls are trained with again; those after the seed of
            the recipe. May be changed when the search is called again. An
            interval needs at least 2. `0` means no confirmation, and a
            verdict that nothing is known. Defaults to `3`.
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
        workers, or hands out trials to workers that `cbam-keras tune` has
        started and that a further process follows.

    Raises:
        ValueError: If an argument is out of range; if the output folder
            cannot be written, holds something else or is used by another
            process; if the search in it has other settings or is damaged.
        TypeError: If an argument is of a wrong kind.
        RuntimeError: If no trial finished.
        ImportError: If a package is missing.
    """
    _checks.boolean("resume", resume)
    _checks.boolean("overwrite", overwrite)
    training.check_tensorboard(tensorboard)
    plan = plan_of(
        hypermodel,
        images,
        recipe,
        algorithm=algorithm,
        max_trials=max_trials,
        max_parameters=max_parameters,
        max_macs=max_macs,
        confirm=confirm,
        keep=keep,
        data_options=data_options,
    )
    if output is None:
        output = _run_folder.default_output("tune", plan.images.name, plan.name)
    path = _run_folder.folder_path(output)
    tuner = plan.tuner(path, tensorboard)
    folder = SearchFolder(
        path,
        {
            **(settings or {}),
            "model": plan.name,
            "space": _space(tuner.own_oracle),
            "identity_init": getattr(plan.hypermodel, "identity_init", None),
            "network": tuner.fingerprint,
            "data": plan.images.describe(),
            "recipe": training.describe_recipe(plan.recipe, plan.images),
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
        if WORKERS in os.environ:
            # The chief has no accelerator for what is left to train.
            return None
        return report(tuner, plan.seeds, plan.load)


def default_output(hypermodel: Any, images: Any) -> pathlib.Path:
    """Returns the folder that `search` writes to by default.

    Args:
        hypermodel: As for `search`.
        images: What `data.load` takes, or what it returned.
    """
    _, name = named(hypermodel)
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
    if chief:
        from cbam_keras.tuning.chief import serve

        serve(oracle)
    else:
        tuner.search()


def _space(oracle):
    """Returns the hyperparameters by name, compared on resuming."""
    found: dict[str, Any] = {}
    for hp in oracle.hyperparameters.space:
        name = hp.name
        while name in found:
            name += "'"
        found[name] = {"kind": type(hp).__name__, **hp.get_config()}
    return found
