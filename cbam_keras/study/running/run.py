"""`run`, which trains what a study lacks, and `estimate`, which counts it.

The folder is the queue: each process takes the next network to train.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

import keras

from cbam_keras import _checks, _files, _graph, _terminal
from cbam_keras.study.files import checkpoints, interrupts
from cbam_keras.study.files.folder import (
    RESULTS,
    StudyFolder,
    open_default,
    read_content,
)
from cbam_keras.study.files.options import CallbackMakers, RunOptions
from cbam_keras.study.files.outcomes import ERROR, Outcome
from cbam_keras.study.files.rates import list_candidates
from cbam_keras.study.plans import networks
from cbam_keras.study.plans.recipes import class_weights
from cbam_keras.study.plans.study import Data, Run, Study, Variant
from cbam_keras.study.plans.tasks import Classification
from cbam_keras.study.results import learning
from cbam_keras.study.results.kept import read_predictions, write_predictions
from cbam_keras.study.results.results import Results
from cbam_keras.study.results.tables import describe_few_images
from cbam_keras.study.running import workers
from cbam_keras.study.running.compiled import CompiledNetworks
from cbam_keras.study.running.estimate import Cost, Estimate
from cbam_keras.study.running.frozen import FrozenNetworks
from cbam_keras.study.running.memory import free_memory
from cbam_keras.study.running.trainer import Training

# A process that finds nothing to train looks again after so long.
SECONDS_OF_WAITING = 0.5


class Plan(Protocol):
    """What can be run besides a `Study`, e.g. `tuning.Search`."""

    def estimate(self) -> Estimate:
        """Counts what would be trained."""

    def run(self, options: RunOptions) -> Any:
        """Trains what is missing, and returns the results."""


@_checks.named
def run(
    study: Study | Plan,
    output: str | os.PathLike | None = None,
    *,
    resume: bool = True,
    overwrite: bool = False,
    workers: int = 1,
    executor: Executor | None = None,
    callbacks: CallbackMakers = (),
    command: str | None = None,
    on_end: Callable[[pathlib.Path, Any], object] | None = None,
) -> Results:
    """Trains each variant with each seed, and compares them.

    The same call resumes from the last finished epoch, with the results of an
    uninterrupted run. With more seeds or variants, it trains only what is
    missing; with other settings, it is refused. The results are of what the
    call asks for; other networks in the folder stay.

    Layers of your own draw the same numbers after resuming if they use
    `keras.random`. Operations of TensorFlow, such as `tf.random.normal`, keep a
    state that cannot be restored.

    The output folder gets `results.json`, `history.csv`, and a folder for each
    network, `<variant>-seed<seed>`, with the network after its best epoch in
    `<variant>-seed<seed>.keras`. No file is ever incomplete.

    A variant that fails is recorded, and the others go on; after an error the
    same call tries it again, from its last finished epoch on. Several
    processes, also on several machines, may make the same call on one folder:
    each trains the next network that no other one trains.

    Args:
        study: A `Study`, or a `tuning.Search`.
        output: Path of a folder that is new, empty, or holds this run.
            Defaults to `None`, which means `runs/<kind>-<data>-<model>`,
            followed by what distinguishes the plan from that of all defaults.
        resume: Boolean, `False` refuses a folder with a run. Defaults to
            `True`.
        overwrite: Boolean, whether to rename the folder of a run first, to
            `<output>.old-1` or the next free number, once all arguments have
            been checked. A folder in which a process trains, or of other files
            and no run, is refused. Defaults to `False`.
        workers: Positive integer, how many processes train on this machine,
            each with its own GPU or its share of the cores. The study must be
            picklable by cloudpickle then. Defaults to `1`: this process.
        executor: A `concurrent.futures.Executor` whose workers train instead,
            as `dask.distributed.Client(...).get_executor()`. All must see the
            output folder, and have Python at the same path. Defaults to `None`.
        callbacks: Sequence of functions without arguments that make a Keras
            callback for each network, e.g. `lambda: MyCallback(3)`. Errors are
            recorded as the network's. A resumed network gets new ones, without
            their state. Defaults to `()`.
        command: String, the command line that reports name. Defaults to `None`.
        on_end: Function of the path of the output folder and the results, or
            `None` if the run is stopped, which is called while nobody can
            overwrite the run. Defaults to `None`.

    Returns:
        A `Results`.

    Raises:
        ValueError: If an argument is out of range, or if the output folder is
            in use, cannot be written, or holds something else.
        RuntimeError: If no training finished, or if workers failed.
        ImportError: If a package is missing.

    Example:
        >>> from cbam_keras import study, training
        >>> def linear(data):
        ...     return keras.Sequential([
        ...         keras.Input(data.image_shape), keras.layers.Flatten(),
        ...         keras.layers.Dense(len(data.class_names)),
        ...     ])
        >>> planned = study.Study(
        ...     study.Classification("mnist5k"),
        ...     [study.Variant("linear", linear)],
        ...     recipe=training.Recipe(epochs=1, batch_size=400),
        ... )
        >>> results = study.run(planned, folder)  # doctest: +ELLIPSIS
        3,600 images of 10 classes (0, 1, 2, ...) in train, 400 in ...
        ...
        >>> [row.variant for row in results.rows]
        ['linear']
    """
    options = RunOptions(
        output=output,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        executor=executor,
        callbacks=callbacks,
        command=command,
        on_end=on_end,
    )
    if not isinstance(study, Study):
        return study.run(options)
    # What is done at the end is checked before any work.
    if len(study.runs) > 1:
        _checks.require("scipy.stats", extra="plot")
    if isinstance(study.task, Classification):
        _checks.require("sklearn.metrics", extra="plot")
    queue = Queue.of(study, output, options.callbacks)
    folder, data = queue.folder, queue.load(study.runs[0])
    # Raises if the data have no labels to weight.
    class_weights(data, study.recipe_for())
    with _terminal.no_retracing():
        queue.check_networks(options.overwrite)
        with folder.opened(options):
            try:
                queue.train_all(options)
                queue.restore_predictions()
            finally:
                results = Results.of(folder.path, read_content(folder.path))
                if study.finish is not None and results.runs:
                    with folder.locked():
                        study.finish(results, folder)
            queue.check_end(results)
            if options.on_end:
                options.on_end(folder.path, results)
            return results


@_checks.named
def estimate(study: Study | Plan) -> Estimate:
    """Counts what `run` would train: networks, parameters, MACs, epochs.

    It builds each network once, writes nothing, and keeps the random states.

    Args:
        study: A `Study`, or a `tuning.Search`.

    Returns:
        An `Estimate`.

    Raises:
        ValueError: If an argument or a network does not fit.
    """
    if not isinstance(study, Study):
        return study.estimate()
    costs = []
    with _graph.same_randomness():
        data = study.load(study.runs[0])
        study = study.suited_to(data)
        recipe = study.recipe_for()
        _print_plan(study, data)
        for variant in study.variants:
            with free_memory():
                model = networks.build_network(
                    study, variant, study.runs[0], data
                )
                parameters = networks.count_parameters(model, recipe)
                macs = networks.count_network_macs(model, data)
                costs.append(Cost(variant.name, parameters, macs))
                del model
    rates = max(len(study.rates_for(x)) for x in study.variants)
    notes = []
    if frozen := recipe.frozen_epochs:
        first = f"the first {frozen} epochs train"
        if frozen == 1:
            first = "the first epoch trains"
        notes.append(f"{first} only the new layers")
    if rates > 1:
        notes.append(
            f"each run trains at {rates} learning rates, and at one more where "
            "the best is the lowest or the highest"
        )
    elif learning.can_ask(study):
        count = _checks.count(len(costs), "further run")
        notes.append(f"at most {count} for networks that learn slowly")
    return Estimate(
        tuple(costs),
        recipe.total_epochs,
        times=len(study.runs) * rates,
        about="; ".join(notes),
    )


def _print_plan(study, data):
    """Prints what is trained on, and for how many steps."""
    line = getattr(data, "summary", "")
    if study.recipe.least_steps:
        epochs, steps = study.recipe.total_epochs, len(data.train)
        line += f"; epochs by default: {epochs:,}, steps: {epochs * steps:,}"
    if line:
        _terminal.say(line)
    noun = getattr(data, "noun", "image")
    if text := describe_few_images(data.sizes, study.folds, noun):
        _terminal.say(text)


@dataclasses.dataclass
class Queue:
    """The networks of a study, trained in its output folder."""

    study: Study
    folder: StudyFolder
    load: Callable[[Run], Data]
    callbacks: CallbackMakers = ()
    # Workers share the cores, so their times say little.
    is_worker: bool = False

    def __post_init__(self) -> None:
        self.frozen = FrozenNetworks(self.folder, keeps=not self.callbacks)
        self.compiled = CompiledNetworks()
        # How networks have ended that are not tried again.
        self._outcomes: dict[tuple[str, Run], Outcome] = {}
        self._has_said_busy = False
        # How long networks took that were trained here as a whole.
        self.seconds: dict[str, list[float]] = {}

    @classmethod
    def of(
        cls,
        study: Study,
        output: str | os.PathLike | None,
        callbacks: CallbackMakers = (),
    ) -> "Queue":
        """Returns the networks of a study in a folder, by default its own."""
        load = functools.lru_cache(maxsize=1)(study.load)
        data = load(study.runs[0])
        study = study.suited_to(data)
        if output is None:
            folder = open_default(study, data)
        else:
            folder = StudyFolder(output, study, data)
        return cls(study, folder, load, callbacks)

    def missing(self) -> list[tuple[Variant, Run]]:
        """Returns what can be trained next, in its order."""
        missing = []
        for steps in self._steps():
            absent = [(x, run) for x, run, ended in steps if ended is None]
            # The network itself, the last step, is chosen from the others.
            if steps[-1][-1] is None:
                missing += absent[:-1] or absent
        return missing or self._further_trainings()

    def _ended(self, name, run):
        """Returns how a training has ended, `None` if it is to be tried."""
        if (name, run) not in self._outcomes:
            outcome = self.folder.outcome(name, run)
            if outcome is None or outcome.status == ERROR:
                return outcome
            self._outcomes[name, run] = outcome
        return self._outcomes[name, run]

    def _steps(self):
        """Yields what leads to each network, itself last, and how it ended."""
        study, ended = self.study, self._ended
        for variant, run in study.networks:
            steps = []
            if len(study.rates_for(variant)) > 1:
                steps, _ = list_candidates(study, variant, run, ended)
            yield [(x, run, ended(x.name, run)) for x in (*steps, variant)]

    def _further_trainings(self):
        """Returns trainings that say whether others had finished learning."""
        if not learning.can_ask(self.study):
            return []
        outcomes = [self._ended(v.name, run) for v, run in self.study.networks]
        slow, first = learning.find_slow(outcomes), self.study.runs[0]
        further = [
            variant.at(learning.faster(*self.study.rates_for(variant)))
            for variant in self.study.variants
            if variant.name in slow
        ]
        absent = [x for x in further if self._ended(x.name, first) is None]
        return [(x, first) for x in absent]

    def check_networks(self, overwrite: bool) -> None:
        """Raises if a network cannot be built, before any is trained."""
        study = self.study
        data = self.load(study.runs[0])
        for variant in study.variants:
            places = [self.folder.place(variant.name, x) for x in study.runs]
            states = [] if overwrite else map(checkpoints.peek_state, places)
            if any(state is not None and state.history for state in states):
                continue
            with _graph.same_randomness(), free_memory():
                try:
                    networks.build_network(study, variant, study.runs[0], data)
                except Exception as error:
                    error.add_note(f'It is of the variant "{variant.name}"')
                    raise

    def train_all(self, options: RunOptions) -> None:
        """Trains what is missing, here or by workers."""
        if not self.missing():
            return
        study, data = self.study, self.load(self.study.runs[0])
        _print_plan(study, data)
        _terminal.say(f"Backend: {keras.backend.backend()}")
        count, executor = options.workers, options.executor
        if count > 1 or executor is not None:
            workers.delegate(self, count, executor)
        while self.missing():
            if not self.train_next():
                # Another process trains what is left.
                time.sleep(SECONDS_OF_WAITING)

    def restore_predictions(self) -> None:
        """Computes predictions again that are missing or damaged, or warns."""
        task, path = self.study.task, self.folder.path
        for variant, run in self.study.networks:
            outcome = self.folder.outcome(variant.name, run)
            if outcome is None or not outcome.finished:
                continue
            file = path / str(outcome.file)
            try:
                read_predictions(path, outcome)
                continue
            except ValueError as error:
                _terminal.say(f"Recomputing predictions: {error}")
            try:
                with self.folder.claim(variant.name, run), free_memory():
                    data = self.load(run)
                    model = _files.load_model(file)
                    recipe = self.study.recipe_for(variant)
                    task.compile(model, recipe.stages[-1], data)
                    arrays = task.predict(model, data)
                    kept = path / str(outcome.predictions)
                    write_predictions(kept, arrays)
            except Exception as error:
                interrupts.raise_if_noted()
                if _files.is_unwritable(path, error):
                    raise
                _checks.warn(
                    f'The predictions of "{file}" cannot be '
                    f"recomputed ({type(error).__name__}: {error}). Delete its "
                    "folder to train the network again"
                )

    def train_next(self) -> bool:
        """Trains the next network that nobody trains, if there is one."""
        missing = self.missing()
        busy = None
        if self.is_worker:
            # Most lists begin with the smallest network. Workers that begin
            # with the largest one end at about the same time. The seeds of a
            # network keep their order.
            order = [variant.name for variant in self.study.variants]
            missing.sort(key=lambda each: -order.index(each[0].original))
        for variant, run in missing:
            try:
                with self.folder.claim(variant.name, run):
                    # Another process may have trained it in the meantime.
                    if self.folder.outcome(variant.name, run) is None:
                        self._train(variant, run)
                        return True
            except _files.InUse as error:
                busy = error
        if busy and not self.is_worker and not self._has_said_busy:
            self._has_said_busy = True
            _terminal.say(f"Waiting for other processes: {busy}")
        return False

    def _train(self, variant, run):
        """Trains one network to its end; this process holds its lock.

        Where the run chooses its learning rate, its candidates were trained
        before as networks of their own. What is left for the run itself is to
        take the best one, with its history and checkpoints, and to test it.
        """
        folder = self.folder
        data = self.load(run)
        place = folder.place(variant.name, run)
        state = folder.new_state(variant, run, data)
        # The folder of the candidate that the run has chosen.
        chosen = None
        if self.is_worker:
            # The main process reads there what a worker that dies was doing.
            _terminal.say(f"{workers.TRAINS}{place.name}", sys.stderr)
        if len(self.study.rates_for(variant)) > 1:
            choice = self._choose(variant, run, state)
            if choice is None:
                return
            variant, state, chosen = choice
        is_whole = not state.history
        began = time.monotonic()
        is_timed = not self.is_worker or workers.accelerators(os.environ)
        # The callbacks of users have seen the training of a chosen network.
        callbacks = () if chosen else self.callbacks
        title = self._title(variant, run)
        # Later networks say what earlier ones took. A worker does not know
        # how many others there are.
        is_first = not self.seconds and not self.is_worker and not chosen
        with free_memory():
            Training(
                self.study,
                variant,
                state,
                data,
                place,
                self.frozen,
                self.compiled,
                trained_in=chosen or place,
                runs_to_estimate=len(self.missing()) if is_first else 0,
            ).run(title, callbacks, bool(is_timed))
        if chosen and state.outcome.finished:
            folder.delete_candidates(state.variant, run)
        if is_whole and state.outcome and state.outcome.finished:
            took = time.monotonic() - began
            self.seconds.setdefault(variant.name, []).append(took)

    def give_up(self, name: str, message: str) -> None:
        """Records a network, by its folder, that ends each process."""
        for variant, run in self.missing():
            if (place := self.folder.place(variant.name, run)).name != name:
                continue
            # Another worker may train it just now.
            with (
                contextlib.suppress(_files.InUse),
                self.folder.claim(variant.name, run),
            ):
                state = self.folder.new_state(variant, run, self.load(run))
                ended = {"file": None, "status": ERROR, "message": message}
                checkpoints.save_state(place, state, {"ended": ended})

    def _choose(self, variant, run, state):
        """Returns the candidate that a run tests, its state and its folder."""
        folder = self.folder
        steps, best = list_candidates(self.study, variant, run, self._ended)
        place = folder.place(best.variant, run)
        if not best.finished:
            message = f"Learning rate {best.learning_rate:g}: {best.message}"
            ended = {"status": best.status, "message": message, "file": None}
            checkpoints.save_state(
                folder.place(variant.name, run), state, {"ended": ended}
            )
            return None
        trained = checkpoints.read_state(place)
        if not (place / trained.file_of(best.best_epoch)).exists():
            # The network of the run was deleted, and its candidates before.
            with folder.claim(best.variant, run):
                (place / checkpoints.STATE).unlink()
            del self._outcomes[best.variant, run]
            return None
        chosen = next(x for x in steps if x.name == best.variant)
        # The run has the history and the checkpoints of the candidate.
        state = dataclasses.replace(
            trained,
            ended=None,
            variant=state.variant,
            options=state.options,
            call=state.call,
        )
        return chosen, state, place

    def _title(self, variant, run):
        """Returns what is printed before a network is trained."""
        every = self.study.networks
        several = f", {run}" if len(self.study.runs) > 1 else ""
        names = [(x.name, of_one) for x, of_one in every]
        number = names.index((variant.original, run)) + 1
        missing = [x.name for x, _ in self.missing()]
        left = workers.time_left(self.seconds, missing)
        return f"{variant.name}{several} ({number} of {len(every)}{left})"

    def progress(self) -> dict[str, Outcome | checkpoints.State | None]:
        """Returns how far each network is trained, by the names of folders."""
        states = {}
        for variant, run, ended in itertools.chain(*self._steps()):
            place = self.folder.place(variant.name, run)
            states[place.name] = ended or checkpoints.peek_state(place)
        return states

    def check_end(self, results: Results) -> None:
        """Raises if no training finished, and warns of those that did not."""
        failures = [
            f'"{o.variant}" with {o.run}: {o.status} ({o.message})'
            for o in results.outcomes
            if not o.finished
        ]
        if results.runs:
            for failure in failures:
                _checks.warn(f"A network is left out: {failure}")
            return
        raise RuntimeError(
            f"No training run finished ({len(failures)} failed): "
            f"{'; '.join(failures[:3])}. Tracebacks are in "
            f'"{self.folder.path / RESULTS}". Fix the cause and rerun'
        )
