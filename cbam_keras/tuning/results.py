"""Results of a search: trials, the confirmation, a verdict, and their files."""

import collections
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import keras

from cbam_keras import _files, _terminal, plotting, study
from cbam_keras._terminal import number_cell
from cbam_keras.tuning.space import PLAIN, Value, Values, label, name_of

if TYPE_CHECKING:
    from cbam_keras.tuning.search import Search

# How many trials the table shows.
MAX_ROWS = 20
# How many configurations are confirmed, besides the controls.
CANDIDATES = 2
# Of the network in `best.keras`, what `best.json` holds beside the metrics.
DESCRIBED = ("seed", "best_epoch", "parameters", "macs")


@dataclasses.dataclass(frozen=True)
class Trial:
    """Result of one trial of a search.

    Attributes:
        number: Integer from 1.
        values: Dictionary, the hyperparameters in use to their values.
        outcome: String, `"finished"`, `"over budget"`, `"out of memory"`,
            `"diverged"` (the loss became NaN or infinite) or `"error"`.
        message: String, what went wrong, or `None`.
        val_accuracy: Number in [0, 1], the highest validation accuracy;
            `None` unless finished.
        val_loss: Number, in the same epoch, or `None`.
        best_epoch: Integer from 1, that epoch, or `None`.
        epochs: Integer, the epochs that were trained, including those of the
            trial that this one continued.
        parameters: Integer, trainable parameters, or `None`.
        macs: Integer, multiply-accumulates for one image, or `None` where
            they cannot be counted.
        seconds: Number, of these epochs with their validation.
    """

    number: int
    values: Values
    outcome: str
    message: str | None
    val_accuracy: float | None
    val_loss: float | None
    best_epoch: int | None
    epochs: int
    parameters: int | None
    macs: int | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class Confirmed:
    """A configuration of a search, trained again from fresh seeds.

    Attributes:
        trial: Integer, the number of its best trial.
        attention: The kind of attention, usually a string; `None` if no
            hyperparameter has that name.
        options: Dictionary, the keyword arguments of its attention layer, or
            the hyperparameters of a search over something else.
        seeds: Tuple of integers, other seeds than that of the search.
        test_accuracy: Number in [0, 1], the mean over the seeds.
        difference: Number, the mean difference in test accuracy to the
            network without attention; `None` for the latter, and without one.
        interval: Tuple of two numbers, the 95 % confidence interval of the
            difference, see `study.Row`; `None` like the difference.
        compared: The row of the comparison, with more of the same.
    """

    trial: int
    attention: Value | None
    options: dict[str, object]
    seeds: tuple[int, ...]
    test_accuracy: float
    difference: float | None
    interval: tuple[float, float] | None
    compared: study.Row


@dataclasses.dataclass(frozen=True)
class SearchResults(_terminal.Tabular):
    """Results of a search; prints as tables with a verdict.

    `to_dataframe()` has a row per trial, with its values and the attributes of
    `Trial`.

    Attributes:
        trials: Tuple of `Trial`, in the order they began.
        best: The `Trial` of the chosen configuration: of those confirmed, the
            one of the highest mean validation accuracy; without confirmation
            the best trial.
        test_accuracy: Number in [0, 1], of the network in `best.keras`: the
            training of that configuration which validates best.
        output: Path of the folder with all files.
        confirmation: Tuple of `Confirmed`: no attention, SE, and the best
            two others, as far as they are in the space.
        verdict: String, whether attention improves accuracy on this dataset,
            or that no network has learned; empty if no hyperparameter is
            named `"attention"`.
        best_options: Dictionary, the keyword arguments of the attention layer
            of `best`, if the search was over a `CBAMHyperModel`.
        code: String, a line of code that makes this layer; empty without
            attention, for a layer that no code can import, such as one of a
            lambda, or if the search was over something else.
    """

    trials: tuple[Trial, ...]
    best: Trial
    test_accuracy: float
    output: pathlib.Path
    confirmation: tuple[Confirmed, ...] = ()
    verdict: str = ""
    best_options: dict[str, object] = dataclasses.field(default_factory=dict)
    code: str = ""

    def json(self) -> str:
        """Returns the results as JSON.

        `"trials"` has an object per trial: `"attention"`,
        `"reduction_ratio"`, `"kernel_size"` (`null` where it has none) and
        its other hyperparameters, `"score"` (the validation accuracy), and
        what `Trial` holds. `"confirmation"` has one per `Confirmed`, with its
        options.
        """
        content = {**self._content(), "output": str(self.output)}
        return json.dumps(content, indent=2)

    def _content(self):
        names = ("attention", "reduction_ratio", "kernel_size")
        return {
            "trials": [
                {
                    **dict.fromkeys(names),
                    **trial.values,
                    "score": trial.val_accuracy,
                    **vars(trial),
                }
                for trial in self.trials
            ],
            "confirmation": [
                {**row.options, **dataclasses.asdict(row)}
                for row in self.confirmation
            ],
            "verdict": self.verdict,
            "best": self.best.number,
            "best_options": self.best_options,
            "code": self.code,
            "test_accuracy": self.test_accuracy,
        }

    def _records(self):
        rows = [{**trial.values, **vars(trial)} for trial in self.trials]
        for row in rows:
            del row["values"]
        return rows

    def __str__(self) -> str:
        trials, *confirmation = map(str, self._tables())
        lines = [
            trials,
            _counted(self.trials),
            *confirmation,
            _terminal.wrapped(self.verdict),
            f"best.keras, best.json: {label(self.best.values)}, with a test "
            f"accuracy of {self.test_accuracy:.2%}.",
            f"To use it: {self.code}" if self.code else "",
        ]
        return "\n".join(filter(None, lines))

    def _tables(self):
        best = trial_rows(ranked(self.trials)[:MAX_ROWS])
        yield _terminal.Table(f"Best trials in {self.output}", best)
        if self.confirmation:
            yield confirmation_table(
                [dataclasses.asdict(row) for row in self.confirmation]
            )


def _counted(trials):
    counts = collections.Counter(trial.outcome for trial in trials)
    each = ", ".join(f"{count} {name}" for name, count in counts.items())
    total = len(trials)
    return f"{total} trial{'s' * (total != 1)}: {each}."


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Returns the trials that finished, the best first."""
    finished = (trial for trial in trials if trial.outcome == study.FINISHED)
    return sorted(finished, key=_rank)


def _rank(trial):
    costs = trial.val_loss, trial.parameters, trial.number
    return -trial.val_accuracy, *costs


def trials_in(content: _files.Json) -> list[Trial]:
    """Returns the trials in `results.json`, one per cell."""
    variants = content["settings"]["variants"]
    same = ("message", "best_epoch", "parameters", "macs", "seconds")
    return [
        Trial(
            number=[*variants].index(cell["variant"]) + 1,
            values=variants[cell["variant"]],
            outcome=cell["status"],
            val_accuracy=cell["metrics"].get("val_accuracy"),
            val_loss=cell["metrics"].get("val_loss"),
            epochs=len(cell["history"]),
            **{name: cell.get(name) for name in same},
        )
        for cell in content["cells"]
    ]


def trial_rows(trials: Iterable[Trial]) -> list[dict[str, str]]:
    """Returns the rows of a table of trials."""
    return [
        {
            "trial": str(trial.number),
            "values": label(trial.values),
            "val accuracy (%)": number_cell("{:.2f}", trial.val_accuracy, 100),
            "epochs": str(trial.epochs),
            "parameters": number_cell("{:,}", trial.parameters),
            "MMACs": number_cell("{:,.4g}", trial.macs, 1e-6),
            "seconds": number_cell("{:.1f}", trial.seconds),
        }
        for trial in trials
    ]


def confirmation_table(rows: Sequence[_files.Json]) -> _terminal.Table:
    """Returns the table of a confirmation, as `results.json` holds it."""
    every = dict.fromkeys(seed for row in rows for seed in row["seeds"])
    seeds = ", ".join(map(str, every))
    cells = []
    for row in rows:
        network = row["compared"]
        measured = study.Measured(
            values=(),
            mean=row["test_accuracy"],
            deviation=network.get("deviation"),
            difference=row["difference"],
            interval=row["interval"],
        )
        validation = network.get("validation_accuracy")
        cells.append(
            {
                "trial": str(row["trial"]),
                "values": network["network"],
                "val accuracy (%)": number_cell("{:.2f}", validation, 100),
                "test accuracy (%)": measured.mean_cell(),
                "difference to none": measured.difference_cell(),
            }
        )
    title = f"Confirmation: trained again, mean over seeds {seeds}"
    return _terminal.Table(title, cells)


def keep_networks(folder: study.StudyFolder, count: int) -> tuple[Trial, ...]:
    """Deletes the networks of all but the best trials, within `locked`."""
    folder.refresh()
    trials = trials_in(folder.content)
    best = ranked(trials)[:count]
    cells = [dict(cell) for cell in folder.content["cells"]]
    for cell, trial in zip(cells, trials, strict=True):
        if trial not in best:
            # Also if a process died before it noted the file.
            file = folder.path / f"{cell['variant']}.keras"
            file.unlink(missing_ok=True)
            cell["file"] = None
    folder.add(cells=cells)
    return tuple(trials)


def report(
    search: "Search",
    folder: study.StudyFolder,
    executor: Executor | None = None,
) -> SearchResults:
    """Confirms a `Search` whose trials have ended, and writes its results.

    The highest accuracy of many trials is partly luck. So the best
    configurations and the controls are trained again, with fresh seeds. One
    is chosen by its validation accuracy over these, and judged by its test
    accuracy.
    """
    with folder.locked():
        trials = keep_networks(folder, search.keep)
    finished = ranked(trials)
    if not finished:
        outcomes = [f"{trial.outcome} ({trial.message})" for trial in trials]
        raise RuntimeError(
            f"None of the {len(trials)} trials finished, first "
            f"{'; '.join(outcomes[:3])}. Tracebacks are in "
            f'"{folder.path / study.RESULTS}". Fix the cause, and give the '
            "same call again"
        )
    results = SearchResults(trials, finished[0], 0.0, folder.path)
    written = study.as_written(results._content())["trials"]
    if folder.content.get("trials") != written:
        # Before the confirmation, which takes as long as several trials.
        with folder.locked():
            _write_trials(results, search.loaded.name)
            folder.add(trials=written)
    best, confirmed, unlearned = finished[0], (), ""
    if search.seeds:
        again = _to_confirm(finished)
        trained, confirmed = _confirm(search, folder, again, executor)
        unlearned = trained.unlearned()
        chosen = _best(confirmed)
        best = next(t for t in trials if t.number == chosen.trial)
        name = name_of(best.values)
    else:
        trained = study.Results.of(folder.path, folder.content)
        name = [*folder.content["settings"]["variants"]][best.number - 1]
    network = max(
        (outcome for outcome in trained.runs if outcome.variant == name),
        key=lambda o: (o.metrics["val_accuracy"], -o.metrics["val_loss"]),
    )
    described = study.as_written(
        {
            "trial": best.number,
            "values": best.values,
            **{name: getattr(network, name) for name in DESCRIBED},
            **network.metrics,
        }
    )
    known = folder.content.get("best_network", {})
    best_file = folder.path / "best.keras"
    is_there = best_file.exists() and not _files.is_torn(best_file)
    if not (described.items() <= known.items() and is_there):
        known, file = described, trained.output / str(network.file)
        if not confirmed:
            # No trial was measured on the test images.
            model = keras.saving.load_model(file)
            known |= search.task.evaluate(model, search.loaded)
        with folder.locked():
            with _files.replacing(best_file) as beside:
                shutil.copyfile(file, beside)
            _files.write_json(folder.path / "best.json", known)
    layer = search.layer_of(best.values)
    results = dataclasses.replace(
        results,
        best=best,
        test_accuracy=known["test_accuracy"],
        confirmation=confirmed,
        verdict=_verdict(trials, confirmed, unlearned),
        best_options=dict(layer.keywords) if layer else {},
        code=_code(layer),
    )
    with folder.locked():
        folder.add(**results._content(), best_network=known)
    return results


def _write_trials(results, name):
    """Writes the table of the trials, and draws them."""
    path = results.output
    _files.write_csv(path / "trials.csv", results._records())
    title = f"{name}, {_counted(results.trials)}"
    figures = {"pareto.png": plotting.plot_pareto(results.trials, title)}
    ranges = {"reduction_ratio", "kernel_size"}
    if any(ranges <= {*trial.values} for trial in ranked(results.trials)):
        figures["effects.png"] = plotting.plot_search(results.trials, title)
    for file, figure in figures.items():
        _files.write_figure(path / file, figure)


def _to_confirm(finished):
    """Returns the best trial of each control, then the best of the others."""
    different: dict[str, Trial] = {}
    for trial in finished:
        # Hyperband tries the same values for different numbers of epochs.
        different.setdefault(name_of(trial.values), trial)
    trials = different.values()
    plain = [t for t in trials if t.values.get("attention") in PLAIN]
    se = [t for t in trials if t.values.get("attention") == "se"]
    others = [t for t in trials if t not in [*plain, *se]]
    return [*plain[:1], *se[:1], *others[:CANDIDATES]]


def _confirm(search, folder, trials, executor):
    """Returns the `study.Results` of more seeds, and a `Confirmed` each."""
    first = trials[0].values
    again = dataclasses.replace(
        search.trials,
        task=search.task,
        variants=[search.variant(trial.values) for trial in trials],
        seeds=search.seeds,
        baseline=name_of(first) if first.get("attention") in PLAIN else None,
        settings={},
        kind="study",
        finish=None,
    )
    place = folder.path / "confirmation"
    trained = study.run(again, place, executor=executor)
    confirmed = []
    for row, trial in zip(trained.rows, trials, strict=True):
        layer = search.layer_of(trial.values)
        options = dict(layer.keywords if layer else trial.values)
        options.pop("attention", None)
        if row.values:
            found = Confirmed(
                trial=trial.number,
                attention=trial.values.get("attention"),
                options=options,
                seeds=row.seeds,
                test_accuracy=row.test_accuracy,
                difference=row.difference,
                interval=row.interval,
                compared=dataclasses.replace(row, network=label(trial.values)),
            )
            confirmed.append(found)
    return trained, tuple(confirmed)


def _best(confirmed):
    """Returns the configuration that validates best."""
    return max(confirmed, key=lambda row: row.compared.validation_accuracy)


def _code(layer):
    name = getattr(layer and layer.func, "__qualname__", "<object>")
    if "<" in name:
        # No code imports a lambda, or what is defined within a function.
        return ""
    options = (f"{name}={value!r}" for name, value in layer.keywords.items())
    module = layer.func.__module__
    if module.startswith("cbam_keras."):
        module = "cbam_keras"
    path = name if module == "__main__" else f"{module}.{name}"
    return f"{path}({', '.join(options)})"


def _verdict(trials, confirmed, unlearned):
    """Returns whether attention improves accuracy, in a sentence or two."""
    if not any("attention" in trial.values for trial in trials):
        return ""
    if not confirmed:
        return (
            "Nothing is confirmed: the highest accuracy of several trials is "
            "partly luck, and no evidence for or against attention. "
            "confirm=3 (--confirm 3) trains the best configurations and the "
            "controls again from fresh seeds, and compares them."
        )
    with_attention = [row for row in confirmed if row.attention not in PLAIN]
    if unlearned:
        verdict = unlearned
    elif not with_attention or len(with_attention) == len(confirmed):
        lacking = "without" if with_attention else "with"
        verdict = (
            f"No network {lacking} attention was confirmed, so whether "
            "attention improves accuracy here is not known."
        )
    else:
        row, chosen = _best(confirmed), ""
        if row not in with_attention:
            chosen = "no attention: "
            # SE is a control.
            others = [r for r in with_attention if r.attention != "se"]
            row = _best(others or with_attention)
        judged = study.judge(row.compared.network, row.compared, "none")
        verdict = f"Chosen by validation accuracy, {chosen}{judged}."
    if len(trials) == 1:
        verdict += " Only one configuration was tried."
    return verdict
