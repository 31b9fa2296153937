"""`Search`, what a search tries and how it runs, and `search`."""

import dataclasses
import functools
import os
import random
import shutil
from concurrent.futures import Executor
from typing import Any, cast

from cbam_keras import _checks, _files, _graph, _terminal, study
from cbam_keras._checks import Options
from cbam_keras.data import ImageData, Images
from cbam_keras.study import Recipe, comparison, find_recipe
from cbam_keras.study.files.options import CallbackMakers
from cbam_keras.study.plans.recipes import (
    check_single_rate,
    describe_changes,
    find_place,
)
from cbam_keras.study.plans.study import check_folds_of
from cbam_keras.study.plans.tasks import ImageTask
from cbam_keras.tuning import space
from cbam_keras.tuning.choice import choose_setting, search_verdict, to_confirm

# All points of the default space.
MAX_TRIALS = 14


@_checks.named_arguments
@dataclasses.dataclass(frozen=True)
class Search:
    """A search for the best network: its space, trials, data and recipe.

    For `study.run` and `study.estimate`; `search` runs it.

    Args:
        hypermodel, data, recipe, max_trials, confirm, folds, data_options,
            measure, task: See `search`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of a wrong kind.
        ImportError: If a package is missing.
    """

    # A `CBAMHyperModel`, once the search has been made.
    hypermodel: Any = None
    data: Images = "crowded_mnist"
    # A `Recipe`, once the search has been made.
    recipe: Any = None
    _: dataclasses.KW_ONLY
    max_trials: int = MAX_TRIALS
    confirm: int = 6
    folds: int | None = None
    data_options: Options | None = None
    measure: Any = None
    task: ImageTask | str | None = None

    def __post_init__(self) -> None:
        _checks.positive_integer("max_trials", self.max_trials)
        _checks.positive_integer("confirm", self.confirm, or_zero=True)
        # Some are needed only at the end, but checked before any work.
        _checks.require("matplotlib.figure", extra="plot")
        _checks.require("keras_tuner", extra="tune")
        if self.confirm * (self.folds or 1) > 1:
            _checks.require("scipy.stats", extra="plot")
        folds = check_folds_of(self.test_task, self.folds)
        hypermodel = _check_hypermodel(self.hypermodel)
        _checks.convert(self, folds=folds, hypermodel=hypermodel)
        recipe = find_recipe(self.recipe, self.default_recipe)
        check_single_rate(recipe, "tuning.search (cbam-keras tune)")
        _checks.convert(self, recipe=recipe)

    @property
    def default_recipe(self) -> Recipe:
        """What `recipe=None` means for this network and these data."""
        return comparison.default_recipe(
            self.hypermodel.model,
            self.hypermodel.weights,
            self.test_task.data,
            isinstance(self.task, study.Segmentation),
        )

    @functools.cached_property
    def test_task(self) -> ImageTask:
        """The task of the confirmation."""
        return comparison.make_task(
            self.task, self.data, self.data_options, self.measure
        )

    @functools.cached_property
    def trial_task(self) -> ImageTask:
        """The task of the trials, which are not measured on test images."""
        return self.test_task.on_validation()

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
        return self.trial_task.load(self.recipe, self.folds)

    def load(self, run: study.Run) -> ImageData:
        """Returns the data of one of the runs of the trials."""
        if run == self.trials.runs[0]:
            return self.loaded
        return cast(ImageData, self.trials.load(run))

    @functools.cached_property
    def points(self) -> list[space.Point]:
        """All settings: the controls, then the others in a random order."""
        points = self.hypermodel.points()
        controls = space.controls(points)
        further_points = [point for point in points if point not in controls]
        random.Random(self.recipe.seed).shuffle(further_points)
        return [*controls, *further_points]

    @functools.cached_property
    def trials(self) -> study.Study:
        """The trials as a study."""
        network = study.build_seeded(
            functools.partial(
                self.hypermodel.network,
                self.points[0],
                self.loaded,
                self.recipe,
            ),
            self.recipe,
        )
        self.trial_task.check(network, self.loaded)
        model = self.hypermodel.model_name
        planned = study.Study(
            self.trial_task,
            [self.variant(x) for x in self.points[: self.max_trials]],
            seeds=(self.recipe.seed,),
            recipe=self.recipe,
            settings={
                "model": model,
                "weights": self.hypermodel.weights,
                "space": self.hypermodel.options,
                "network": study.fingerprint(network),
                "seed": self.recipe.seed,
            },
            kind="tune",
            folds=self.folds,
            options=self._describe_options(),
            question=f"Which attention suits the network {model} on "
            f"{self.trial_task.name}, and does it improve the "
            f"{self.trial_task.noun}?",
        )
        return planned.suited_to(self.loaded)

    def _describe_options(self) -> dict[str, object]:
        """Returns in what the search differs from that of all defaults."""
        hypermodel = self.hypermodel
        usual = _check_hypermodel(None).options
        searched = {
            name: values
            for name, values in hypermodel.options.items()
            if values != usual.get(name)
        }
        changes = describe_changes(self.recipe, self.default_recipe)
        weights = comparison.describe_weights(
            hypermodel.model, hypermodel.weights
        )
        return {**weights, **searched, **changes}

    def variant(self, values: space.Point) -> study.Variant:
        """Returns a trial as a variant of a study."""
        return study.Variant(
            space.point_name(values),
            functools.partial(_build, self.hypermodel, values, self.recipe),
            values,
            label=space.label(values),
        )

    def run(self, options: study.RunOptions) -> study.Ranking:
        """Runs the search; see `study.run`."""
        # Raises if the data have no labels to weight.
        study.class_weights(self.loaded, self.recipe)
        if options.output is None:
            folder = study.open_default(self.trials, self.loaded)
        else:
            folder = study.StudyFolder(options.output, self.trials, self.loaded)
        with folder.opened(options):
            results = self._run_trials(folder, options)
            self._confirm(results, folder, options)
            results = cast(study.Ranking, study.Results.read(folder.path))
            if options.on_end:
                options.on_end(folder.path, results)
            return results

    @_graph.same_randomness()
    def estimate(self) -> study.Estimate:
        """Counts what the search would train; see `study.estimate`.

        All runs are counted as those of CBAM nearest to the paper's, or of the
        network of the defaults.
        """
        num_folds = self.folds or 1
        num_trials = len(self.points[: self.max_trials])
        # The winner and, where the space has both, the network without it.
        networks_retrained = len({*map(space.has_no_attention, self.points)})
        runs_retrained = networks_retrained * len(self.seeds) * num_folds
        counted = self.variant(space.controls(self.points)[-1])
        planned = dataclasses.replace(self.trials, variants=[counted])
        over_folds = f" over {num_folds} folds" if self.folds else ""
        return dataclasses.replace(
            study.estimate(planned),
            times=num_trials * num_folds + runs_retrained,
            about=f"{len(self.points):,} combinations, {num_trials:,} trials"
            f"{over_folds}, and {runs_retrained:,} runs of the confirmation. "
            "The counts of each are taken to be those of this network:",
        )

    def _run_trials(self, folder, options):
        """Returns the trials, after running those that are missing."""
        study.Queue(
            self.trials, folder, self.load, options.callbacks
        ).train_all(options)
        content = study.read_content(folder.path)
        results = cast(study.Ranking, study.read_results(folder.path, content))
        if not results.ranked:
            failed = [f"{x.status} ({x.message})" for x in results.trials]
            raise RuntimeError(
                f"No trial finished ({len(failed)} failed): "
                f"{'; '.join(failed[:3])}. Tracebacks are in "
                f'"{folder.path}". Fix the cause and rerun'
            )
        _files.write_csv(folder.path / "trials.csv", results._records())
        _files.write_figure(folder.path / "comparison.png", results.plot())
        return results

    def _confirm(self, results, folder, options):
        """Trains the best again, chooses one, and records the choice."""
        trials = to_confirm(results)
        # Without new seeds, the networks are those of the trials.
        trained = results
        confirmation = []
        if self.seeds:
            trained = self._train_again(
                trials, self.seeds, folder.path, options
            )
            confirmation = [
                {
                    "trial": trial.number,
                    "options": self._options_of(trial.values),
                    "seeds": trained.seeds,
                }
                for row, trial in zip(trained.rows, trials, strict=True)
                if row.values
            ]
        results = results.confirmed(confirmation)
        best, name = choose_setting(results)
        measure = results.measures[0]
        # The network of the seed and fold that validates best.
        network = max(
            (x for x in trained.runs if x.variant == name and x.file),
            key=lambda o: (
                measure.merit(o.metrics[measure.key]),
                -o.metrics["val_loss"],
            ),
        )
        with _files.replacing(folder.path / "best.keras") as beside:
            shutil.copyfile(trained.output / str(network.file), beside)
        layer = self.hypermodel.attention_of(best.values)
        with folder.locked():
            guessing = trained.describe_guessing()
            folder.add(
                {
                    "best": best.number,
                    "best_network": {
                        "seed": network.seed,
                        "fold": network.fold,
                        **network.metrics,
                    },
                    "best_options": self._options_of(best.values),
                    "code": layer.code if layer else "",
                    "confirmation": confirmation,
                    "verdict": search_verdict(results, guessing),
                }
            )

    def _train_again(self, trials, seeds, output, options):
        """Returns the results of trials with fresh seeds."""
        first = trials[0].values
        is_plain = space.has_no_attention(first)
        again = study.Study(
            self.test_task,
            [self.variant(trial.values) for trial in trials],
            seeds=seeds,
            recipe=self.trials.recipe,
            baseline=space.point_name(first) if is_plain else None,
            folds=self.folds,
        )
        path = output / study.CONFIRMATION
        self._announce(again, path)
        study.run(
            again,
            path,
            workers=options.workers,
            executor=options.executor,
            callbacks=options.callbacks,
        )
        names = [variant.name for variant in again.variants]
        # The folder also holds trials that were among the best before.
        content = study.read_content(path)
        return study.Results.of(path, content, names, again.seeds)

    def _announce(self, again, path):
        """Prints what the confirmation will train, if that is anything."""
        folder = study.StudyFolder(path, again, self.loaded)
        missing = [
            variant
            for variant, run in again.networks
            if folder.outcome(variant.name, run) is None
        ]
        if not missing:
            return
        names = " and ".join(
            variant.label or variant.name for variant in again.variants
        )
        seeds = _checks.count(len(again.seeds), "new seed")
        runs = _checks.count(len(missing), "training run")
        _terminal.say(f"\nConfirmation: {names} with {seeds}, {runs} left")

    def _options_of(self, values):
        """Returns the arguments of the attention layer, if there is one."""
        layer = self.hypermodel.attention_of(values)
        return dict(layer.keywords) if layer else {}


def _build(hypermodel, values, recipe, images):
    """Builds a network of a study; `functools.partial` of it is pickled."""
    return hypermodel.network(values, images, recipe)


def _check_hypermodel(hypermodel):
    """Returns a hypermodel of ours, by default that of the default space."""
    from cbam_keras.tuning.hypermodel import CBAMHyperModel

    if hypermodel is None:
        return CBAMHyperModel()
    kind = type(hypermodel)
    # A search knows its space before it trains, and resumes after any epoch. It
    # could not promise this for what users write.
    if not isinstance(hypermodel, CBAMHyperModel) or any(
        getattr(kind, name) is not getattr(CBAMHyperModel, name)
        for name in ("build", "fit")
    ):
        raise TypeError(
            "`hypermodel` must be a tuning.CBAMHyperModel, with its own `build`"
            f" and `fit`. Received: hypermodel={hypermodel!r}. For your own "
            "hypermodel use a tuner such as keras_tuner.RandomSearch(Mine(), "
            '"val_accuracy"), and in its `build` '
            "tuning.CBAMHyperModel().attention_for(hp)"
        )
    return hypermodel


@_checks.named_with(find_place)
def search(
    hypermodel: Any = None,
    data: Images = "crowded_mnist",
    recipe: Recipe | str | None = None,
    *,
    max_trials: int = MAX_TRIALS,
    confirm: int = 6,
    folds: int | None = None,
    data_options: Options | None = None,
    measure: Any = None,
    task: ImageTask | str | None = None,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
    workers: int = 1,
    executor: Executor | None = None,
    callbacks: CallbackMakers = (),
) -> study.Ranking:
    """Searches for the best network, and tests whether attention helps.

    Retrains the best setting and the network without attention with new seeds.
    The same call resumes an interrupted search. `cbam-keras tune` runs it.

    It is `study.run` of a `Search`. All trials have the recipe and its seed.
    They begin with the network without attention, SE and the CBAM closest to
    the paper's, if these are in the space; the others are in a random order.

    The best of many trials is optimistically biased, so trials only select one
    setting with attention: among those within one standard error of the best
    score, sqrt(a (1 - a) / n) with n validation images, the one with the fewest
    multiply-accumulates, then parameters. It and the network without attention
    are retrained with new seeds and compared on the test images, paired by
    seed.

    The output folder gets the best networks, a table and figures;
    `report.write(folder)` adds a page.

    A call that resumes repeats trials with an error until the last trial has
    ended. A call for a search that has ended returns its results.

    Args:
        hypermodel: A `CBAMHyperModel`. For your own hypermodel, use
            `CBAMHyperModel.attention_for` in it, and one of KerasTuner's
            tuners. Defaults to `None`: `CBAMHyperModel()`.
        data: Anything that `cbam_keras.data.load` accepts, or its result. New
            seeds split it again unless loaded. Defaults to `"crowded_mnist"`.
        recipe: A `training.Recipe`, or the name of one in `training.RECIPES`.
            Defaults to `None`, the default of `comparison.compare`.
        max_trials: Positive integer, the number of combinations to try, in a
            random order without repetition. May be raised in a later call. For
            other orders, pass a `CBAMHyperModel` to one of KerasTuner's tuners.
            Defaults to `14`, the whole default space.
        confirm: Integer from 0, the number of new seeds with which the best
            setting and the network without attention are retrained, after
            the seed of the recipe. May be raised in a later call. Defaults to
            `6`.
        folds: Integer from 2, the number of folds of a cross-validation. See
            `study.Study`. Trials are compared by the mean over the validation
            images of folds, new seeds by their test images. Defaults to `None`.
        data_options: Mapping of other arguments of `data.load`, such as
            `{"download": True}`. Defaults to `None`.
        measure: The metric that is compared, see `comparison.compare`: on the
            validation images in the search, on the test images in the verdict.
            Defaults to `None`.
        task: See `comparison.compare`. A `study.Segmentation` takes a
            `CBAMHyperModel` of a U-Net. Defaults to `None`.
        output: Path of a folder that is new, empty, or holds this search.
            Defaults to `None`, which means `runs/tune-<data>-<model>`.
        resume, overwrite, workers, executor, callbacks: See
            `comparison.compare`.

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
        3,600 images of 10 classes (0, 1, 2, ...) in train, 400 in ...
        ...
        >>> [trial.values["attention"] for trial in results.trials]
        ['none', 'se']
    """
    planned = Search(
        hypermodel,
        data,
        recipe,
        max_trials=max_trials,
        confirm=confirm,
        folds=folds,
        data_options=data_options,
        measure=measure,
        task=task,
    )
    results = study.run(
        planned,
        output,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        executor=executor,
        callbacks=callbacks,
    )
    return cast(study.Ranking, results)
