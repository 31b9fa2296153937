"""`search`: hyperparameter search for attention on your own data."""

import contextlib
import copy
import dataclasses
import functools
import itertools
import numbers
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from cbam_keras import _checks, comparison, data, study
from cbam_keras.recipes import Recipe, find_recipe
from cbam_keras.tuning.report import report
from cbam_keras.tuning.results import SearchResults
from cbam_keras.tuning.space import (
    canonical,
    grid,
    is_listable,
    name_of,
    point,
    shuffled,
)

ALGORITHMS = ("random", "hyperband", "bayesian", "grid")
# All points of the default space.
MAX_TRIALS = 14


class Classification(study.Classification):
    """Classification by networks that may come compiled.

    Those keep their optimizer and loss.
    """

    def compile(self, model: keras.Model, recipe: Recipe, data: Any) -> None:
        if not model.compiled:
            super().compile(model, recipe, data)
            return
        model.compile(
            model.optimizer,
            model.loss,
            weighted_metrics=["accuracy"],
            run_eagerly=model.run_eagerly,
            steps_per_execution=model.steps_per_execution,
            jit_compile=model.jit_compile,
            auto_scale_loss=False,
        )


@dataclasses.dataclass(frozen=True)
class Search:
    """The arguments of a search, checked; what workers get.

    Attributes:
        hypermodel: A `keras_tuner.HyperModel` or a function.
        name: String, a name of it that a folder can have.
        is_ours: Boolean, whether it is a `CBAMHyperModel`.
        by_recipe: Boolean, whether the recipe compiles its networks.
        task: A `Classification`.
        recipe: A `Recipe`.
        algorithm: String.
        max_trials: Integer, or `None` for no limit.
        budget: A `study.Budget`.
        keep: Integer, how many trials keep their networks.
        seeds: Tuple of integers, of the confirmation.
        space: A `keras_tuner.HyperParameters`, the whole space as far as it
            is known before the first trial.
        settings: Dictionary of what a resumed search must agree in.
    """

    hypermodel: Any
    name: str
    is_ours: bool
    by_recipe: bool
    task: Classification
    recipe: Recipe
    algorithm: str
    max_trials: int | None
    budget: study.Budget
    keep: int
    seeds: tuple[int, ...]
    space: Any = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def is_list(self) -> bool:
        """Whether all trials are known before the first."""
        if self.algorithm == "random":
            return is_listable(self.space)
        return self.algorithm == "grid"

    def points(self, space: Any) -> Iterator[dict[str, Any]]:
        """Yields the points of a list, in their order."""
        every: Any = grid(space)
        if self.algorithm == "random":
            every = shuffled(space, self.recipe.seed)
        for values in every:
            if not (self.is_ours and self.hypermodel.without_attention(values)):
                yield self.values_of(values)

    def values_of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the values of a trial that decide on its network."""
        if self.is_ours:
            values = self.hypermodel.with_fixed(values)
        return canonical(values)

    def hyperparameters(self, values: Mapping[str, Any]) -> Any:
        """Returns `keras_tuner.HyperParameters` with these values."""
        keras_tuner = _checks.require("keras_tuner", extra="tune")
        hp = keras_tuner.HyperParameters()
        hp.values = dict(values)
        return hp

    def layer_of(self, values: Mapping[str, Any]) -> Any:
        """Returns the attention layer of a trial as a `functools.partial`.

        `None` without attention, and where the hypermodel is not ours.
        """
        if not self.is_ours:
            return None
        attention = self.hypermodel.attention_for(self.hyperparameters(values))
        places = attention if isinstance(attention, list) else [attention]
        return next((layer for layer in places if layer is not None), None)

    def build(self, hp: Any, images: Any) -> keras.Model:
        """Returns the network of these hyperparameters."""
        if self.by_recipe:
            return self.hypermodel.network(hp, images)
        return getattr(self.hypermodel, "build", self.hypermodel)(hp)

    def build_network(self, hp: Any, images: Any) -> keras.Model:
        """Returns the network with the seed and precision of the recipe."""
        build = functools.partial(self.build, hp, images)
        return study.build_seeded(build, self.recipe)

    def variant(self, hp: Any, name: str) -> study.Variant:
        """Returns a trial as a variant of a study."""
        rate = hp.values.get("learning_rate")
        if self.by_recipe and self.hypermodel.options["learning_rate"]:
            # A function may compute it from other hyperparameters.
            rate = self.hypermodel.learning_rate_for(hp)
        build = functools.partial(self.build, hp)
        return study.Variant(name, build, self.values_of(hp.values), rate)

    def explored(
        self, images: data.ImageData, settings: Mapping[str, Any] | None
    ) -> "Search":
        """Returns the search with its space and settings.

        Builds the network of the defaults, and checks it. That of a function
        is built for each of its conditions, too, to find what they ask for.
        """
        space = self.hyperparameters({})
        if hasattr(self.hypermodel, "declare_hyperparameters"):
            self.hypermodel.declare_hyperparameters(space)
        network = self.build_network(space, images)
        study.check_network(network, images)
        study.check_loads(network)
        if not self.is_ours:
            self._explore(space, images)
        config: dict[str, list[Any]] = {}
        for hp in space.space:
            # Several under different conditions may have one name.
            known = config.setdefault(hp.name, [])
            known.append({"kind": type(hp).__name__, **hp.get_config()})
        identity_init = getattr(self.hypermodel, "identity_init", None)
        settings = {
            **(settings or {}),
            "model": self.name,
            "space": config,
            "identity_init": identity_init,
            "network": study.fingerprint(network),
            "algorithm": self.algorithm,
            "seed": self.recipe.seed,
        }
        return dataclasses.replace(self, space=space, settings=settings)

    def _explore(self, space, images):
        """Builds a network for each condition, once.

        KerasTuner repeats this until every condition was met, which may be
        never.
        """
        scopes = copy.deepcopy(space.inactive_scopes)
        for conditions in scopes:
            met = {own.name: own.values[0] for own in conditions}
            probe = point(space, **met)
            # A trial with these values records the error.
            with contextlib.suppress(Exception):
                self.build_network(probe, images)
            space.merge(probe.space, overwrite=False)
            more = [s for s in probe.inactive_scopes if s not in scopes]
            scopes += copy.deepcopy(more)

    def folder(
        self, output: str | os.PathLike, images: data.ImageData
    ) -> study.StudyFolder:
        """Returns the output folder, where trials are variants of a study."""
        planned = study.Study(
            self.task,
            [
                study.Variant(
                    "default", functools.partial(self.build, self.space)
                )
            ],
            seeds=(self.recipe.seed,),
            recipe=self.recipe,
            budget=self.budget,
            settings=self.settings,
            kind="tune",
        )
        folder = study.StudyFolder(output, planned, images)
        known = self.points(self.space) if self.is_list else ()
        folder.settings["variants"] = {
            name_of(values): values
            for values in itertools.islice(known, self.max_trials)
        }
        return folder


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
    workers: int = 1,
    tensorboard: bool = False,
    data_options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> SearchResults | None:
    """Searches for the best network and reports whether attention pays off.

    What `cbam-keras tune` runs. Every trial is trained by the recipe, with
    its seed. The first trials are no attention, squeeze-and-excitation, and
    CBAM nearest to the paper's, as far as they are in the space; then the
    algorithm chooses. A trial that exceeds the budget, runs out of memory,
    diverges or fails is recorded with that status, and the search goes on.

    The highest of many accuracies is partly luck. So the two best
    configurations, no attention and SE are then trained again from fresh
    seeds, which decide the initial weights and the split into training and
    validation images. The configuration that validates best over these seeds
    is compared with no attention on the test images, paired by seed.

    The same call given again resumes from the last finished epoch of the
    running trial, and ends as it would have without the interruption. After
    the end it returns the results. A call with other settings is refused,
    and the error names what differs. Only the best trials keep their
    networks, as `<values>.keras`.

    Several processes may make the same call on one folder, on one machine or
    on several that share it, if all trials are known before the first: with
    `"grid"`, and with `"random"` unless the space has ranges. Other
    algorithms need KerasTuner's own variables, see the guide "Many GPUs,
    clusters".

    Args:
        hypermodel: A `CBAMHyperModel`; any other `keras_tuner.HyperModel`;
            or a function that takes `keras_tuner.HyperParameters` and
            returns a `keras.Model`. A model of one of the latter that comes
            compiled keeps its optimizer and loss, others are compiled by the
            recipe. Defaults to `None`, which means `CBAMHyperModel()`.
        images: What `cbam_keras.data.load` takes, or what it returned. See
            `training.train`. The fresh seeds of the confirmation split again
            what is not loaded yet. Defaults to `"crowded_mnist"`.
        recipe: A `training.Recipe`, or the name of one. Defaults to `None`,
            which means that of `comparison.compare`, with one epoch.
        algorithm: `"random"` (no combination twice, so all of a small space;
            each kind of attention as often as it has combinations; with
            ranges, or more than 20,000 combinations, as KerasTuner draws
            them); `"hyperband"` (many trials for a few epochs, the best third
            of them for three times as many, and so on up to those of the
            recipe); `"bayesian"` (Gaussian process); `"grid"` (all
            combinations; 10 values for a range). Defaults to `"random"`.
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
            interval needs at least 2. `0` skips the confirmation; the verdict
            then says that there is no evidence. Defaults to `3`.
        keep: Positive integer, how many of the best trials keep the network
            of their best epoch. Defaults to `3`.
        output: Path of a folder that is new, empty, or holds this search.
            Defaults to `None`, which means
            `runs/tune-<images>-<model>`.
        resume: Boolean. `False` refuses a folder that holds a run. Defaults
            to `True`.
        overwrite: Boolean, whether to start again, see `training.train`.
            Defaults to `False`.
        workers: Positive integer, how many processes train at a time, see
            `study.run`. Defaults to `1`.
        tensorboard: Boolean, whether to write logs for TensorBoard, under
            TensorFlow. Defaults to `False`.
        data_options: Mapping of further arguments of `cbam_keras.data.load`.
            Defaults to `None`.
        settings: Mapping of further settings (plain values) that a resumed
            search must agree in. Defaults to `None`.

    Returns:
        A `SearchResults`; `None` in a process that KerasTuner's variables
        make one of several workers.

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
    workers = _checks.positive_integer("workers", workers)
    study.check_tensorboard(tensorboard)
    planned = plan(
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
        output = study.default_output("tune", planned.task.name, planned.name)
    loaded = planned.task.load(planned.recipe)
    planned = planned.explored(loaded, settings)
    folder = planned.folder(output, loaded)
    _check_version(folder.path)
    with folder.opened(resume=resume, overwrite=overwrite, retry=False):
        return _run(planned, folder, loaded, workers, tensorboard)


def _run(planned, folder, loaded, workers, tensorboard):
    """Runs the trials that are missing, then all that comes after them."""
    from cbam_keras.tuning import processes, tuner

    most, content = planned.max_trials, folder.content
    before = content.get("max_trials", most)
    if before != most and most and (before is None or most < before):
        raise ValueError(
            "`max_trials` may be raised when a search is resumed, not "
            f'lowered. Received: output="{folder.path}", max_trials={most}, '
            f"was {before}"
        )
    role = processes.role()
    if not content.get("searched") or before != most:
        study.print_if_few_steps(planned.recipe, loaded)
        with folder.locked():
            folder.add(max_trials=most, searched=False)
        if role == processes.CHIEF:
            processes.serve(planned)
        elif workers > 1 and not role:
            processes.run_workers(planned, folder, workers, tensorboard)
        folder.refresh()
        served = role == processes.CHIEF or workers > 1 and not role
        if planned.is_list or not served:
            trials = tuner.Trials(planned, folder, loaded, tensorboard)
            tuner.run_trials(trials)
    if role == processes.WORKER:
        return None
    with folder.locked():
        folder.add(searched=True)
    if not planned.is_list:
        # Rounds of Hyperband went on training these.
        shutil.rmtree(folder.cell("", 0).parent, ignore_errors=True)
    return report(planned, folder, loaded, workers)


def default_recipe(hypermodel: Any) -> Recipe:
    """Returns what `recipe=None` means for a search."""
    model = getattr(hypermodel, "model", None)
    return dataclasses.replace(comparison.default_recipe(model), epochs=1)


def default_output(hypermodel: Any, images: Any) -> pathlib.Path:
    """Returns the folder that `search` writes to by default."""
    name = study.Classification(images).name
    return study.default_output("tune", name, _name_of_model(hypermodel))


def plan(
    hypermodel: Any,
    images: Any,
    recipe: Any,
    *,
    algorithm: str = "random",
    max_trials: int | None = None,
    max_parameters: float | None = None,
    max_macs: float | None = None,
    confirm: int = 3,
    keep: int = 3,
    data_options: Mapping[str, Any] | None = None,
) -> Search:
    """Returns the arguments of a search after checking them."""
    # Some are needed only at the end, but checked before any work.
    for package, extra in (
        ("keras_tuner", "tune"),
        ("matplotlib.figure", "plot"),
        ("rich.table", "all"),
        *([("sklearn.gaussian_process", "tune")] * (algorithm == "bayesian")),
    ):
        _checks.require(package, extra=extra)
    from cbam_keras.tuning.hypermodel import CBAMHyperModel

    hypermodel = CBAMHyperModel() if hypermodel is None else hypermodel
    _check_hypermodel(hypermodel)
    build = getattr(type(hypermodel), "build", None)
    recipe = default_recipe(hypermodel) if recipe is None else recipe
    recipe = find_recipe(recipe)
    budget = {"parameters": max_parameters, "macs": max_macs}
    for key, value in budget.items():
        if value is not None:
            budget[key] = _checks.positive_number(f"max_{key}", value)
    return Search(
        hypermodel=hypermodel,
        name=_name_of_model(hypermodel),
        is_ours=isinstance(hypermodel, CBAMHyperModel),
        by_recipe=build is CBAMHyperModel.build,
        task=Classification(images, **(data_options or {})),
        recipe=recipe,
        algorithm=_checks.one_of("algorithm", algorithm, ALGORITHMS),
        max_trials=_max_trials(algorithm, max_trials),
        budget=study.Budget(**budget),
        keep=_checks.positive_integer("keep", keep),
        seeds=_seeds(recipe, confirm),
    )


def _max_trials(algorithm, max_trials):
    if max_trials is None:
        return MAX_TRIALS if algorithm in ("random", "bayesian") else None
    max_trials = _checks.positive_integer("max_trials", max_trials)
    if algorithm == "hyperband":
        raise ValueError(
            'With algorithm="hyperband" the number of trials follows from '
            "the epochs of the recipe, and `max_trials` must be None. "
            f"Received: max_trials={max_trials}"
        )
    return max_trials


def _seeds(recipe, confirm):
    """Returns the seeds of the confirmation, other than that of the search."""
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
    seeds = (recipe.seed + number for number in range(1, int(confirm) + 1))
    return tuple(seed % 2**32 for seed in seeds)


def _check_hypermodel(hypermodel):
    from keras_tuner import HyperModel

    is_hypermodel = isinstance(hypermodel, HyperModel)
    if not is_hypermodel and (
        isinstance(hypermodel, (type, keras.Model)) or not callable(hypermodel)
    ):
        raise TypeError(
            "`hypermodel` must be a CBAMHyperModel, a keras_tuner.HyperModel "
            "or a function that takes HyperParameters and returns a model. "
            f"Received: hypermodel={hypermodel!r}"
        )
    if is_hypermodel and type(hypermodel).fit is not HyperModel.fit:
        raise ValueError(
            "Networks of a search are trained by its recipe, so `fit` of "
            f"{type(hypermodel).__name__} would not be called. Received: "
            f"hypermodel={hypermodel!r}. Put what differs into `build`, or "
            "use a tuner of KerasTuner's"
        )


def _name_of_model(hypermodel):
    """Returns a name for a hypermodel that a folder can have."""
    model = getattr(hypermodel, "model", None)
    if hypermodel is None or isinstance(model, str):
        name = model or "tiny"
    else:
        named = hypermodel if model is None else model
        name = getattr(named, "__name__", type(named).__name__)
    return "".join(c if c.isalnum() else "_" for c in name)


def _check_version(path):
    if (path / "search.json").exists():
        raise ValueError(
            "`output` must be a new or empty folder, or hold the search to "
            f'resume. Received: output="{path}", which holds a search of an '
            "earlier version, which keeps its trials elsewhere. Its results "
            "can still be read and explained. Choose another folder"
        )
