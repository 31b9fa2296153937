"""`search`, and `Search`, what it tries."""

import contextlib
import dataclasses
import functools
import itertools
import math
import os
import warnings
from typing import Any, Unpack, cast

import keras

from cbam_keras import _checks, _docstrings, _inspection, comparison, study
from cbam_keras._checks import Options
from cbam_keras.data import ImageData, Images
from cbam_keras.layers import Attention
from cbam_keras.recipes import Recipe, find_recipe
from cbam_keras.tuning.choice import (
    CANDIDATES,
    choose,
    to_confirm,
    verdict,
)
from cbam_keras.tuning.files import keep_networks, write_best, write_trials
from cbam_keras.tuning.space import (
    MAX_LISTED,
    PLAIN,
    SE_REDUCTION_RATIO,
    Values,
    canonical,
    controls,
    count_points,
    grid,
    kinds_of,
    label,
    name_of,
    point,
    shuffled,
)
from cbam_keras.tuning.tasks import ByValidation, Classification

ALGORITHMS = ("random", "hyperband", "bayesian", "grid")
# All points of the default space.
MAX_TRIALS = 14
# A search knows its space before it trains, trains each trial for the epochs
# of the recipe and resumes after any of them. None of this holds for a `fit`
# that users write.
OWN_FIT = """\
`hypermodel` must not have a `fit` of its own, which a search could neither \
resume nor give the same epochs. Received: a `{name}` with a `fit`. To search \
over the batch size, ask for hp.Choice("batch_size", [32, 64]) in `build`. \
For any other `fit`, keep KerasTuner's tuner, and take our attention into it:

    space = tuning.CBAMHyperModel()
    class Mine({name}):
        def build(self, hp):
            return my_network(space.attention_for(hp))  # compiled
    tuner = keras_tuner.RandomSearch(Mine(), "val_accuracy", max_trials=14)
"""


@_checks.former_names(images="data")
@dataclasses.dataclass(frozen=True)
class Search:
    """A search for the best network: what is tried, how, and how long.

    For `study.run` and `study.estimate`; `search` runs it.

    Args:
        hypermodel: A `CBAMHyperModel`; any other `keras_tuner.HyperModel`;
            or a function that takes `keras_tuner.HyperParameters` and
            returns a `keras.Model`; if compiled, it keeps its optimizer and
            loss. Hyperparameters `"learning_rate"` and `"batch_size"` replace
            those of the recipe. Defaults to `None`: `CBAMHyperModel()`.
        data: What `cbam_keras.data.load` takes, or returned. New seeds split
            again what is not loaded yet. Defaults to `"crowded_mnist"`.
        recipe: A `training.Recipe`, or the name of one in `training.RECIPES`.
            Defaults to `None`, which means that of `comparison.compare`.
        algorithm: `"random"` (no combination twice; with ranges, or more than
            20,000 combinations, as KerasTuner draws them); `"hyperband"`
            (many trials for the first few epochs of the recipe, the best third
            for three times as many, and so on); `"bayesian"` (Gaussian
            process); `"grid"` (all combinations; 10 values for a range).
            Defaults to `"random"`.
        max_trials: Positive integer, may be raised in a later call. Defaults
            to `None`, which means 14, the whole default space, and for
            `"grid"` all combinations; for `"hyperband"` the epochs decide.
        max_parameters: Positive number, the most trainable parameters a
            network may have. Defaults to `None`.
        max_macs: Positive number, the most multiply-accumulates for one
            image, of layers that `profile_model` counts. Defaults to `None`.
        confirm: Integer from 0, how many new seeds, after that of the recipe.
            May be changed in a later call. Defaults to `3`.
        keep: Positive integer, how many of the best trials keep their
            network, as `<values>.keras`. Defaults to `3`.
        data_options: Mapping of further arguments of `cbam_keras.data.load`.
            Defaults to `None`.
        measure: What `study.Classification` takes: on the validation images
            for the search, on the test images for the verdict. Defaults to
            `"test_accuracy"`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of a wrong kind, or has its own `fit`.
        ImportError: If a package is missing.
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
    confirm: int = 3
    keep: int = 3
    data_options: Options | None = None
    measure: str = study.ACCURACY

    def __post_init__(self) -> None:
        _checks.one_of("algorithm", self.algorithm, ALGORITHMS)
        _checks.positive_integer(
            "confirm", self.confirm, or_zero=True, most=study.MAX_SEEDS
        )
        _checks.positive_integer("keep", self.keep)
        for name in ("max_parameters", "max_macs"):
            if (most := getattr(self, name)) is not None:
                _checks.positive_number(name, most)
        # Some are needed only at the end, but checked before any work.
        _checks.require("matplotlib.figure", extra="plot")
        for package, is_needed in (
            ("keras_tuner", True),
            ("sklearn.gaussian_process", self.algorithm == "bayesian"),
            ("scipy.stats", self.confirm > 1),
        ):
            if is_needed:
                _checks.require(package, extra="tune")
        from cbam_keras.tuning.hypermodel import CBAMHyperModel

        hypermodel = self.hypermodel or CBAMHyperModel()
        _checks.convert(
            self,
            hypermodel=hypermodel,
            max_trials=_max_trials(self.algorithm, self.max_trials),
            recipe=find_recipe(self.recipe, default_recipe(hypermodel)),
        )
        # Checks them.
        _network_of(self)
        _ = self.task

    def __getstate__(self) -> dict[str, object]:
        # Each process loads the data itself.
        return {k: v for k, v in vars(self).items() if k != "loaded"}

    def run(self, options: study.Execution) -> study.Ranking:
        """Runs the search; see `study.run`."""
        output = options.output
        if output is None:
            output = study.default_output(self.trials)
        folder = self.folder(output)
        with folder.opened(
            resume=options.resume,
            overwrite=options.overwrite,
            caller=options.caller,
        ):
            results = self._run_trials(folder, options)
            self._confirm(results, folder, options)
        return cast(study.Ranking, study.Results.read(folder.path))

    @_inspection.same_randomness()
    def estimate(self) -> study.Estimate:
        """Counts what the search would train; see `study.estimate`.

        All trainings are counted as those of CBAM nearest to the paper's, or
        of the network of the defaults.
        """
        space, epochs = self.space, self.recipe.total_epochs
        points = count_points(space)
        trials = min(points, self.max_trials or points)
        total, counted = trials * epochs, f"{trials:,} trials"
        if self.algorithm == "hyperband":
            # So many brackets of about so many epochs.
            brackets = 1 + math.log(epochs, 3)
            total, counted = math.ceil(brackets**2 * epochs), "trials"
        fixed = [kind for kind in kinds_of(space) if kind in (*PLAIN, "se")]
        again = min(points, len(fixed) + CANDIDATES) * len(self.seeds)
        dearest = (controls(space) or [point(space).values])[-1]
        one = dataclasses.replace(
            self.trials,
            task=Classification(self.loaded),
            variants=[self.variant(dearest)],
            seeds=range(math.ceil(total / epochs) + again),
        )
        return dataclasses.replace(
            study.estimate(one),
            about=f"{points:,} combinations, {counted} of {total:,} epochs "
            f"in all, and {again:,} trainings of the confirmation. Each is "
            "counted as this network:",
        )

    def folder(self, output: str | os.PathLike) -> study.StudyFolder:
        """Returns the output folder of the search."""
        folder = study.StudyFolder(output, self.trials, self.loaded)
        if not self.is_list:
            # Variants are known when they begin.
            folder.settings["variants"], folder.labels = {}, {}
        return folder

    def _run_trials(self, folder, options):
        """Returns the trials, which are run unless as many have ended."""
        most = self.max_trials or 0
        if self.is_list:
            most = len(self.trials.variants)
        is_done = folder.content.get("searched", -1) >= most
        if self.is_list and not is_done:
            with warnings.catch_warnings():
                # The results count those that failed.
                warnings.filterwarnings("ignore", "A network is left out")
                study.run(
                    self.trials,
                    folder.path,
                    workers=options.workers,
                    executor=options.executor,
                    tensorboard=options.tensorboard,
                )
        elif not is_done:
            from cbam_keras.tuning import tuner

            folder.retry()
            study.print_data(self.recipe, self.loaded)
            tuner.run(self, folder, options)
        with folder.locked():
            results = keep_networks(folder, self.keep)
            if results.ranked and not is_done:
                write_trials(results)
                folder.add(searched=most)
        if not results.ranked:
            failed = [f"{x.status} ({x.message})" for x in results.trials]
            raise RuntimeError(
                f"None of the {len(failed)} trials finished, first "
                f"{'; '.join(failed[:3])}. Tracebacks are in "
                f'"{folder.path / study.RESULTS}". Fix the cause, and give '
                "the same call again"
            )
        return results

    def _confirm(self, results, folder, options):
        """Trains the best again, chooses one, and writes what was found."""
        trained, confirmation = results, []
        if self.seeds:
            trials = to_confirm(results.ranked)
            trained = self._train_again(trials, folder.path, options)
            confirmation = [
                {
                    "trial": trial.number,
                    "options": self._options_of(trial.values),
                    "seeds": trained.seeds,
                }
                for row, trial in zip(trained.rows, trials, strict=True)
                if row.values
            ]
        results = results.with_confirmation(confirmation)
        (best, name), measure = choose(results), self.trials.task.measure
        network = max(
            (outcome for outcome in trained.runs if outcome.variant == name),
            key=lambda o: (o.metrics[measure], -o.metrics["val_loss"]),
        )
        best_network = write_best(
            folder,
            best,
            network,
            trained.output / str(network.file),
            lambda path: self.task.measure_file(path, self.recipe, self.loaded),
        )
        layer = self.layer_of(best.values)
        with folder.locked():
            folder.add(
                best=best.number,
                best_network=best_network,
                best_options=dict(layer.keywords) if layer else {},
                code=layer.code if layer else "",
                confirmation=confirmation,
                verdict=verdict(results, trained.unlearned()),
            )

    def _train_again(self, trials, output, options):
        """Returns the results of trials with fresh seeds."""
        first = trials[0].values
        is_plain = first.get("attention") in PLAIN
        again = study.Study(
            self.task,
            [self.variant(trial.values) for trial in trials],
            seeds=self.seeds,
            recipe=self.recipe,
            baseline=name_of(first) if is_plain else None,
            budget=self.trials.budget,
        )
        return study.run(
            again,
            output / study.CONFIRMATION,
            workers=options.workers,
            executor=options.executor,
        )

    def _options_of(self, values):
        """Returns the arguments of an attention layer, or else all values."""
        layer = self.layer_of(values)
        options = dict(layer.keywords if layer else values)
        options.pop("attention", None)
        return options

    @property
    def is_ours(self) -> bool:
        """Whether the hypermodel builds as `CBAMHyperModel` does."""
        from cbam_keras.tuning.hypermodel import CBAMHyperModel

        build = getattr(type(self.hypermodel), "build", None)
        return build is CBAMHyperModel.build

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the confirmation, other than that of the search."""
        return tuple(
            (self.recipe.seed + number) % 2**32
            for number in range(1, self.confirm + 1)
        )

    @functools.cached_property
    def task(self) -> Classification:
        """The task of the confirmation."""
        options = self.data_options or {}
        return Classification(self.data, measure=self.measure, **options)

    @functools.cached_property
    def loaded(self) -> ImageData:
        """The data of the trials."""
        return self.task.load(self.recipe)

    @functools.cached_property
    def _explored(self):
        """The space, and a network of its defaults."""
        space = _hyperparameters({})
        return space, self._explore(space)

    @property
    def space(self) -> Any:
        """The `HyperParameters` that the networks ask for."""
        return self._explored[0]

    @functools.cached_property
    def trials(self) -> study.Study:
        """The trials as a study, as far as they are known at the start."""
        hyperparameters: dict[str, list[object]] = {}
        for hp in self.space.space:
            # Several under different conditions may have one name.
            known = hyperparameters.setdefault(hp.name, [])
            known.append({"kind": type(hp).__name__, **hp.get_config()})
        options = self.data_options or {}
        return study.Study(
            ByValidation(self.data, measure=self.measure, **options),
            [self.variant(values) for values in self._points()],
            seeds=(self.recipe.seed,),
            recipe=self.recipe,
            budget=study.Budget(self.max_parameters, self.max_macs),
            settings={
                "model": self.name,
                "weights": getattr(self.hypermodel, "weights", None),
                "space": hyperparameters,
                "identity_init": getattr(
                    self.hypermodel, "identity_init", None
                ),
                "network": self._explored[1],
                "algorithm": self.algorithm,
                "seed": self.recipe.seed,
            },
            kind="tune",
            layout="ranking",
            question=f"Which attention suits the network {self.name} on "
            f"{self.task.name}, and does it improve the accuracy?",
        )

    @property
    def name(self) -> str:
        """The name of the hypermodel, which a folder can have."""
        model = getattr(self.hypermodel, "model", self.hypermodel)
        if not isinstance(model, str):
            model = getattr(model, "__name__", type(model).__name__)
        return "".join(c if c.isalnum() else "_" for c in model)

    @functools.cached_property
    def is_list(self) -> bool:
        """Whether all trials are known before the first."""
        ranges = [
            hp
            for hp in self.space.space
            if type(hp).__name__ == "Float" and hp.step is None
        ]
        return self.algorithm == "grid" or (
            self.algorithm == "random"
            and not ranges
            and count_points(self.space) <= MAX_LISTED
        )

    def values_of(self, values: Values) -> Values:
        """Returns the values of a trial that decide on its network."""
        if self.is_ours and self.hypermodel.fixes_se:
            if values.get("attention") == "se":
                values = {**values, "reduction_ratio": SE_REDUCTION_RATIO}
        return canonical(values)

    def layer_of(self, values: Values) -> Attention | None:
        """Returns the attention of a trial, if any."""
        if not self.is_ours:
            return None
        return self.hypermodel.attention_for(_hyperparameters(values))

    def variant(self, values: Values, name: str | None = None) -> study.Variant:
        """Returns a trial as a variant of a study."""
        values = self.values_of(values)
        rate: Any = values.get("learning_rate")
        batch_size: Any = values.get("batch_size")
        if self.is_ours:
            # Functions may compute them from other hyperparameters.
            hp, hypermodel = _hyperparameters(values), self.hypermodel
            batch_size = hypermodel.batch_size_for(hp)
            if hypermodel.options["learning_rate"]:
                rate = hypermodel.learning_rate_for(hp)
        network = _network_of(self)
        build = functools.partial(_build, network, values)
        variant = study.Variant(
            name or name_of(values), build, values, rate, batch_size=batch_size
        )
        return dataclasses.replace(variant, label=label(variant.describe()))

    def _points(self):
        """Returns the points of a list; the defaults, if it is none."""
        every = grid(self.space)
        if self.is_list and self.algorithm == "random":
            every = shuffled(self.space, self.recipe.seed)
        return itertools.islice(every, self.max_trials if self.is_list else 1)

    def _explore(self, space):
        """Fills the space; returns the fingerprint of the defaults' network."""
        build_network = _network_of(self)

        def ask(hp):
            build = functools.partial(build_network, hp, self.loaded)
            return study.build_seeded(build, self.recipe)

        network = ask(space)
        study.check_network(network, self.loaded)
        fingerprint = study.fingerprint(network)
        if self.is_ours:
            ask = self.hypermodel.attention_for
        # What networks ask for under a condition is found by changing one
        # value at a time. The list grows.
        for hp in space.space:
            met = {parent.name: parent.values[0] for parent in hp.conditions}
            # Of a range the end.
            is_range = hasattr(hp, "max_value")
            for value in [hp.max_value] if is_range else hp.values:
                probe = point(space, **{**met, hp.name: value})
                # A trial with these values records the error.
                with contextlib.suppress(Exception):
                    ask(probe)
                space.merge(probe.space, overwrite=False)
        return fingerprint


@_docstrings.explained_by(Search)
@_checks.former_names(images="data")
@study.takes_run_options
def search(
    hypermodel: Any = None,
    data: Images = "crowded_mnist",
    recipe: Recipe | str | None = None,
    *,
    algorithm: str = "random",
    max_trials: int | None = None,
    max_parameters: float | None = None,
    max_macs: float | None = None,
    confirm: int = 3,
    keep: int = 3,
    data_options: Options | None = None,
    measure: str = study.ACCURACY,
    **options: Unpack[study.RunOptions],
) -> study.Ranking:
    """Searches for the best network and reports whether attention pays off.

    What `cbam-keras tune` runs: `study.run(Search(...), **options)`. Every
    trial is trained by the recipe, with its seed: first no attention, SE and
    CBAM nearest to the paper's, if in the space, then what the algorithm says.

    The highest of many accuracies is partly luck. So the two best settings, no
    attention and SE are retrained with new seeds, and the one that validates
    best is compared with no attention on the test images, paired by seed.

    The same call given again resumes, or returns the results; until the last
    trial has ended, it repeats those with an error. With `"bayesian"` and
    `"hyperband"`, trials depend on those before, so on the number of workers.

    Args:
        The arguments of `Search`, and:

        **options: `output`, `resume`, `overwrite`, `workers`, `executor` and
            `tensorboard`, as for `study.run`. `output` defaults to
            `runs/tune-<data>-<model>`.

    Returns:
        A `study.Ranking`, with `trials`, `confirmation` and the verdict.

    Raises:
        ValueError: If an argument is out of range, see also `study.run`.
        TypeError: If an argument is of a wrong kind, or unknown.
        RuntimeError: If no trial finished.
        ImportError: If a package is missing.

    Example:
        >>> from cbam_keras import tuning
        >>> results = tuning.search(
        ...     tuning.CBAMHyperModel(reduction_ratio=(4, 8)), "mnist5k",
        ...     max_trials=2, confirm=0, output=folder,
        ... )  # doctest: +ELLIPSIS
        3,600 images of 10 classes in train, 400 in validation, 1,000 in test
        ...
        >>> [trial.values["attention"] for trial in results.trials]
        ['none', 'se']
    """
    planned = Search(
        hypermodel,
        data,
        recipe,
        algorithm=algorithm,
        max_trials=max_trials,
        max_parameters=max_parameters,
        max_macs=max_macs,
        confirm=confirm,
        keep=keep,
        data_options=data_options,
        measure=measure,
    )
    return study.run(planned, **options)


def default_recipe(hypermodel: object) -> Recipe:
    """Returns what `recipe=None` means for a search."""
    model = getattr(hypermodel, "model", None)
    weights = getattr(hypermodel, "weights", None)
    return comparison.default_recipe(model, weights)


def _hyperparameters(values):
    keras_tuner = _checks.require("keras_tuner", extra="tune")
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    return hp


def _build(network, values, data):
    return network(_hyperparameters(values), data)


def _network_of(search):
    """Returns the function of hyperparameters and data that builds."""
    from keras_tuner import HyperModel

    build = hypermodel = search.hypermodel
    if isinstance(hypermodel, HyperModel):
        if type(hypermodel).fit is not HyperModel.fit:
            name = type(hypermodel).__name__
            raise TypeError(OWN_FIT.format(name=name))
        build = hypermodel.build
    if search.is_ours:
        return functools.partial(hypermodel.network, recipe=search.recipe)
    if not callable(build) or isinstance(build, (type, keras.Model)):
        raise TypeError(
            "`hypermodel` must be a CBAMHyperModel, a keras_tuner.HyperModel, "
            "or a function that takes HyperParameters and returns a model. "
            f"Received: hypermodel={hypermodel!r}"
        )
    return lambda hp, images: build(hp)


def _max_trials(algorithm, max_trials):
    if max_trials is None:
        return MAX_TRIALS if algorithm in ("random", "bayesian") else None
    if algorithm == "hyperband":
        raise ValueError(
            '`max_trials` must be None with algorithm="hyperband", whose '
            "trials follow from the epochs of the recipe. Received: "
            f"max_trials={max_trials}"
        )
    return _checks.positive_integer("max_trials", max_trials)
