"""`search`, and `Search`, what it tries."""

import dataclasses
import math
from typing import Any, cast

from cbam_keras import _graph, study
from cbam_keras._checks import Options
from cbam_keras.data import Images
from cbam_keras.layers import _docstrings
from cbam_keras.study import Recipe
from cbam_keras.tuning.choice import choose, to_confirm, verdict
from cbam_keras.tuning.files import keep_networks, write_best, write_trials
from cbam_keras.tuning.plan import SearchPlan
from cbam_keras.tuning.space import (
    PLAIN,
    controls,
    count_points,
    has_no_attention,
    hyperparameters,
    kinds_of,
    name_of,
    point,
)


@_docstrings.explained_by(SearchPlan)
class Search(SearchPlan):
    """A search for the best network: what is tried, how, and how long.

    For `study.run` and `study.estimate`; `search` runs it.

    Args:
        The arguments of `SearchPlan`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of a wrong kind, or has its own `fit`.
        ImportError: If a package is missing.
    """

    def run(self, options: study.RunOptions) -> study.Ranking:
        """Runs the search; see `study.run`."""
        output = options.output
        if output is None:
            output = study.default_output(self.trials)
        folder = self.folder(output)
        with folder.opened(options):
            results = self._run_trials(folder, options)
            self._confirm(results, folder, options)
        return cast(study.Ranking, study.Results.read(folder.path))

    @_graph.same_randomness()
    def estimate(self) -> study.Estimate:
        """Counts what the search would train; see `study.estimate`.

        All trainings are counted as those of CBAM nearest to the paper's, or
        of the network of the defaults.
        """
        space = self.space
        epochs = self.trials.recipe_for().total_epochs
        points = count_points(space)
        trials = min(points, self.max_trials or points)
        total, trials_text = trials * epochs, f"{trials:,} trials"
        folds = self.folds or 1
        total *= folds
        if self.folds is not None:
            trials_text += f" over {folds} folds"
        # The winner and, where the space has both, no attention.
        is_plain = [kind in PLAIN for kind in kinds_of(space)]
        has_skips = any(hp.name == "skip_attention" for hp in space.space)
        has_both = any(is_plain) and (has_skips or not all(is_plain))
        networks_retrained = 2 if has_both else 1
        again = networks_retrained * len(self.seeds) * folds
        dearest = (controls(space) or [point(space).values])[-1]
        one = dataclasses.replace(
            self.trials,
            task=type(self.of_confirmation)(self.loaded),
            variants=[self.variant(dearest)],
            folds=None,
        )
        return dataclasses.replace(
            study.estimate(one),
            times=math.ceil(total / epochs) + again,
            about=f"{points:,} combinations, {trials_text} of {total:,} epochs "
            f"in all, and {again:,} trainings of the confirmation. Each is "
            "counted as this network:",
        )

    def _run_trials(self, folder, options):
        """Returns the trials, after running those that are missing."""
        more = options.tensorboard, options.callbacks
        queue = study.Queue(self.trials, folder, self.load, *more)
        if self.is_list:
            queue.train_all(options)
        else:
            from cbam_keras.tuning import tuner

            tuner.run(self, queue, options)
        results = keep_networks(folder, self.keep)
        if results.ranked:
            write_trials(results)
        else:
            failed = [f"{x.status} ({x.message})" for x in results.trials]
            raise RuntimeError(
                f"None of the {len(failed)} trials finished, first "
                f"{'; '.join(failed[:3])}. Tracebacks are in "
                f'"{folder.path}". Fix the cause, and give '
                "the same call again"
            )
        return results

    def _confirm(self, results, folder, options):
        """Trains the best again, chooses one, and writes what was found."""
        trained, confirmation = results, []
        images = results.images_of(results.planned_runs, "validation")
        trials, seeds = to_confirm(results.ranked, images), self.seeds
        if seeds:
            trained = self._train_again(trials, seeds, folder.path, options)
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
        (best, name), measure = choose(results), results.measures[0]
        network = max(
            (x for x in trained.runs if x.variant == name and x.file),
            key=lambda o: (
                measure.merit(o.metrics[measure.key]),
                -o.metrics["val_loss"],
            ),
        )
        best_network = write_best(
            folder,
            best,
            network,
            trained.output / str(network.file),
            lambda path: self.of_confirmation.measure_file(
                path, self.recipe, self.load(network.run)
            ),
        )
        layer = self.adapted.attention_for(hyperparameters(best.values))
        folder.add(
            best=best.number,
            best_network=best_network,
            best_options=dict(layer.keywords) if layer else {},
            code=layer.code if layer else "",
            confirmation=confirmation,
            verdict=verdict(results, trained.describe_guessing()),
        )

    def _train_again(self, trials, seeds, output, options):
        """Returns the results of trials with fresh seeds."""
        first = trials[0].values
        is_plain = has_no_attention(first)
        again = study.Study(
            self.of_confirmation,
            [self.variant(trial.values) for trial in trials],
            seeds=seeds,
            recipe=self.trials.recipe,
            baseline=name_of(first) if is_plain else None,
            budget=self.trials.budget,
            folds=self.folds,
        )
        path = study.run(
            again,
            output / study.CONFIRMATION,
            workers=options.workers,
            executor=options.executor,
            callbacks=options.callbacks,
        ).output
        names = [variant.name for variant in again.variants]
        # The folder also holds trials that were among the best before.
        content = study.read_content(path)
        return study.Results.of(path, content, names, again.seeds)

    def _options_of(self, values):
        """Returns the arguments of an attention layer, or else all values."""
        layer = self.adapted.attention_for(hyperparameters(values))
        options = dict(layer.keywords if layer else values)
        options.pop("attention", None)
        return options


@_docstrings.explained_by(Search)
def search(
    hypermodel: Any = None,
    data: Images = "crowded_mnist",
    recipe: Recipe | str | None = None,
    *,
    algorithm: str = "random",
    max_trials: int | None = None,
    max_parameters: float | None = None,
    max_macs: float | None = None,
    confirm: int = 6,
    folds: int | None = None,
    keep: int = 3,
    data_options: Options | None = None,
    measure: str = study.ACCURACY,
    task: study.Segmentation | None = None,
    **options: Any,
) -> study.Ranking:
    """Searches for the best network and reports whether attention pays off.

    Retrains the best setting and no attention with new seeds. The same call
    given again resumes. `cbam-keras tune` runs it.

    It is `study.run(Search(...), **options)`. Every trial is trained by the
    recipe, with its seed: first no attention, SE and CBAM nearest to the
    paper's, if in the space, then what the algorithm says.

    The highest of many accuracies is partly luck. So the trials decide on one
    setting with attention: the best or, of those within a standard error of
    its score, sqrt(a (1 - a) / n) with n validation images, the one of fewest
    multiply-accumulates, then parameters. It and no attention are retrained
    with new seeds and compared on the test images, paired by seed.

    The output folder gets the best networks, a table and figures;
    `report.write(folder)` adds a page.

    A call that resumes repeats trials with an error until the last trial has
    ended. A call for a search that has ended returns its results. With
    `"bayesian"` trials depend on those before, so on the number of workers.

    Args:
        The arguments of `Search`, and:

        **options: `output`, `resume`, `overwrite`, `workers`, `executor`,
            `tensorboard` and `callbacks`, as for `study.run`. `output` defaults
            to `runs/tune-<data>-<model>`.

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
        folds=folds,
        keep=keep,
        data_options=data_options,
        measure=measure,
        task=task,
    )
    return cast(study.Ranking, study.run_with(planned, options))
