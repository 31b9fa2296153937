"""Results of a search: trials, the confirmation, a verdict, and their files.

The highest accuracy of many trials is partly luck. So the best configurations
and the controls are trained again, with seeds that the search did not use.
One configuration is chosen by its validation accuracy over these seeds, and
judged by its test accuracy.
"""

import collections
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any

import keras

from cbam_keras import _files, _terminal, plotting, study
from cbam_keras.tuning.space import PLAIN, label, name_of

# How many trials the table shows.
MAX_ROWS = 20
CONFIRMATION = "confirmation"
# How many configurations are confirmed, besides the controls.
CANDIDATES = 2
# Of the network in `best.keras`, what `best.json` holds beside the metrics.
DESCRIBED = ("seed", "best_epoch", "parameters", "macs")


@dataclasses.dataclass(frozen=True)
class Trial:
    """Result of one trial of a search.

    Attributes:
        number: Integer from 1.
        values: Dictionary, hyperparameters to values, without those that
            were not in use.
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
        seconds: Number, of training and validation in this trial.
    """

    number: int
    values: dict[str, Any]
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
        trial: Integer, the number of the trial that tried it first.
        attention: The kind of attention, usually a string; `None` if no
            hyperparameter has that name.
        options: Dictionary, the keyword arguments of its attention layer, or
            its hyperparameters if the search was not over a
            `CBAMHyperModel`.
        seeds: Tuple of integers, other seeds than that of the search.
        test_accuracy: Number in [0, 1], the mean over the seeds.
        difference: Number, the mean over the seeds of its test accuracy
            minus that of the network without attention; `None` for the
            latter, and if there is none.
        interval: Tuple of two numbers, the 95 % confidence interval of the
            difference; `None` like the difference, and for one seed.
        compared: The row of the comparison, with more of the same.
    """

    trial: int
    attention: Any
    options: dict[str, Any]
    seeds: tuple[int, ...]
    test_accuracy: float
    difference: float | None
    interval: tuple[float, float] | None
    compared: Any


@dataclasses.dataclass(frozen=True)
class SearchResults(_terminal.Tabular):
    """Results of a search; prints as tables with a verdict.

    `to_dataframe()` has a row per trial, with its values and the attributes of
    `Trial`.

    Attributes:
        trials: Tuple of `Trial`, in the order they began.
        best: The `Trial` of the chosen configuration: of those confirmed, no
            attention included, the one of the highest mean validation
            accuracy; without confirmation the best trial.
        test_accuracy: Number in [0, 1], of the network in `best.keras`: the
            training of that configuration which validates best.
        output: Path of the folder with all files.
        confirmation: Tuple of `Confirmed`: no attention, SE, and the best
            few others, as far as they are in the space.
        verdict: String, whether attention improves accuracy on this dataset;
            empty if no hyperparameter is named `"attention"`.
        best_options: Dictionary, the keyword arguments of the attention layer
            of `best`, if the search was over a `CBAMHyperModel`.
        code: String, a line of code that makes this layer, or `None` without
            attention; empty if the search was over something else.
    """

    trials: tuple[Trial, ...]
    best: Trial
    test_accuracy: float
    output: pathlib.Path
    confirmation: tuple[Confirmed, ...] = ()
    verdict: str = ""
    best_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    code: str = ""

    def json(self) -> str:
        """Returns the results as JSON.

        `"trials"` has an object per trial: `"attention"`,
        `"reduction_ratio"`, `"kernel_size"` (`null` where it has none) and
        its other hyperparameters, `"score"` (the validation accuracy in
        [0, 1]), and what `Trial` holds. `"confirmation"` has one per
        `Confirmed`, with its options. `"verdict"` is a string, and so is
        `"code"`.
        """
        return json.dumps(
            {**self._content(), "output": str(self.output)}, indent=2
        )

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
        trials, *confirmation = (
            _terminal.render(columns, sections, title=title)
            for columns, sections, title in self._tables()
        )
        lines = [
            trials,
            _counted(self.trials),
            *confirmation,
            self.verdict,
            f"best.keras, best.json: {label(self.best.values)}, with a test "
            f"accuracy of {self.test_accuracy:.2%}.",
            f"To use it: {self.code}" if self.code else "",
        ]
        return "\n".join(filter(None, lines))

    def _tables(self):
        rows = trial_rows(ranked(self.trials)[:MAX_ROWS])
        columns = {**dict.fromkeys(rows[0], "right"), "values": "left"}
        cells = [list(row.values()) for row in rows]
        yield columns, [cells], f"Best trials in {self.output}"
        if not self.confirmation:
            return
        rows = [
            (
                str(row.trial),
                row.compared.network,
                f"{100 * row.compared.validation_accuracy:.2f}",
                row.compared.mean_cell(),
                row.compared.difference_cell(),
            )
            for row in self.confirmation
        ]
        columns = {
            "trial": "right",
            "values": "left",
            "val accuracy (%)": "right",
            "test accuracy (%)": "right",
            "difference to none": "right",
        }
        seeds = ", ".join(map(str, self.confirmation[0].seeds))
        title = f"Confirmation: trained again, mean over seeds {seeds}"
        yield columns, [rows], title


def _counted(trials):
    counts = collections.Counter(trial.outcome for trial in trials)
    each = ", ".join(f"{count} {name}" for name, count in counts.items())
    total = len(trials)
    return f"{total} trial{'s' * (total != 1)}: {each}."


def ranked(trials: Iterable[Any]) -> list[Trial]:
    """Returns the trials that finished, the best first."""
    return sorted(
        (trial for trial in trials if trial.outcome == study.FINISHED),
        key=lambda trial: (
            -trial.val_accuracy,
            trial.val_loss,
            trial.parameters,
            trial.number,
        ),
    )


def trials_in(content: dict[str, Any]) -> dict[str, Trial]:
    """Returns the trials in `results.json` by their names, in their order."""
    variants = content["settings"]["variants"]
    numbers = {name: number for number, name in enumerate(variants, 1)}
    same = ("message", "best_epoch", "parameters", "macs")
    return {
        cell["variant"]: Trial(
            number=numbers[cell["variant"]],
            values=variants[cell["variant"]],
            outcome=cell["status"],
            val_accuracy=cell["metrics"].get("val_accuracy"),
            val_loss=cell["metrics"].get("val_loss"),
            epochs=len(cell["history"]),
            seconds=cell.get("seconds"),
            **{name: cell.get(name) for name in same},
        )
        for cell in content["cells"]
    }


def trial_rows(trials: Iterable[Trial]) -> list[dict[str, str]]:
    """Returns the rows of a table of trials."""

    def text(form, value, factor=1):
        return "" if value is None else form.format(factor * value)

    return [
        {
            "trial": str(trial.number),
            "values": label(trial.values),
            "val accuracy (%)": text("{:.2f}", trial.val_accuracy, 100),
            "epochs": str(trial.epochs),
            "parameters": text("{:,}", trial.parameters),
            "MMACs": text("{:,.4g}", trial.macs, 1e-6),
            "seconds": text("{:.1f}", trial.seconds),
        }
        for trial in trials
    ]


def keep_networks(folder: Any, count: int) -> Any:
    """Deletes the networks of all but the best trials, within `locked`."""
    folder.refresh()
    trials = trials_in(folder.content)
    best = ranked(trials.values())[:count]
    cells = [dict(cell) for cell in folder.content["cells"]]
    for cell in cells:
        if trials[cell["variant"]] not in best:
            # A process may have died before it noted the file.
            for file in (cell["file"], f"{cell['variant']}.keras"):
                (folder.path / str(file)).unlink(missing_ok=True)
            cell["file"] = None
    folder.add(cells=cells)
    return trials


def report(search: Any, folder: Any, workers: int = 1) -> SearchResults:
    """Confirms a `Search` whose trials have ended, and writes its results."""
    with folder.locked():
        by_name = keep_networks(folder, search.keep)
    trials = tuple(by_name.values())
    finished = ranked(trials)
    if not finished:
        outcomes = [f"{trial.outcome} ({trial.message})" for trial in trials]
        raise RuntimeError(
            f"None of the {len(trials)} trials finished, first "
            f"{'; '.join(outcomes[:3])}. Fix the cause, and search again in "
            "another folder, or overwrite this one (overwrite=True, or "
            "--overwrite on the command line). Tracebacks are in "
            f'"{folder.path / study.RESULTS}"'
        )
    results = SearchResults(trials, finished[0], 0.0, folder.path)
    written = study.as_written(results._content())["trials"]
    if folder.content.get("trials") != written:
        # Before the confirmation, which takes as long as several trials.
        with folder.locked():
            _write_trials(results, search.data.name)
            folder.add(trials=written)
    names = {trial.number: name for name, trial in by_name.items()}
    to_confirm = {names[t.number]: t for t in _to_confirm(finished)}
    confirmed, missing, details = _confirm(search, folder, to_confirm, workers)
    chosen = _best(confirmed)
    best, place = finished[0], folder.path
    if chosen is None:
        details = study.Results.of(place, folder.content)
    else:
        place = place / CONFIRMATION
        best = next(t for t in trials if t.number == chosen.trial)
    name = names[best.number]
    network = max(
        (outcome for outcome in details.runs if outcome.variant == name),
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
    best_file = folder.path / "best.keras"
    known = folder.content.get("best_network", {})
    if described.items() <= known.items() and best_file.exists():
        described = known
    elif chosen is None:
        # No trial was measured on the test images.
        model = keras.saving.load_model(place / network.file)
        described |= search.task.evaluate(model, search.data)
    layer = search.layer_of(best.values)
    results = dataclasses.replace(
        results,
        best=best,
        test_accuracy=described["test_accuracy"],
        confirmation=confirmed,
        verdict=_verdict(search, trials, confirmed, chosen, missing),
        best_options=dict(layer.keywords) if layer else {},
        code=_code(layer) if search.is_ours else "",
    )
    with folder.locked():
        if described is not known:
            with _files.replacing(best_file) as beside:
                shutil.copyfile(place / network.file, beside)
            _files.write_json(folder.path / "best.json", described)
        folder.add(**results._content(), best_network=described)
    return results


def _write_trials(results, name):
    """Writes the table of the trials, and draws them."""
    path = results.output
    _files.write_csv(path / "trials.csv", results._records())
    title = f"{name}, {_counted(results.trials)}"
    figures = {"pareto.png": plotting.plot_pareto(results.trials, title)}
    if any(trial.values for trial in ranked(results.trials)):
        figures["effects.png"] = plotting.plot_search(results.trials, title)
    for file, figure in figures.items():
        _files.write_figure(path / file, figure)


def _to_confirm(finished):
    """Returns the best trial of each control, then the best of the others."""
    groups: dict[str, list[Trial]] = {"none": [], "se": [], "": []}
    different = {}
    for trial in finished:
        # Hyperband tries the same values for different numbers of epochs.
        different.setdefault(name_of(trial.values), trial)
    for trial in different.values():
        kind = trial.values.get("attention", "")
        kind = "none" if kind in PLAIN else kind
        groups[kind if kind in groups else ""].append(trial)
    plain, se, others = groups.values()
    return [*plain[:1], *se[:1], *others[:CANDIDATES]]


def _confirm(search, folder, trials, workers):
    """Returns the `Confirmed`, sentences about failures, and all results."""
    if not search.seeds:
        return (), [], None
    plain = [n for n, t in trials.items() if t.values.get("attention") in PLAIN]
    results = study.run(
        dataclasses.replace(
            search.study,
            task=search.task,
            variants=[search.variant(t.values, n) for n, t in trials.items()],
            seeds=search.seeds,
            baseline=plain[0] if plain else None,
            settings={},
            kind="study",
        ),
        folder.path / CONFIRMATION,
        workers=workers,
    )
    failures = {r.variant: r.failures[0] for r in results.rows if r.failures}
    if results.baseline in failures:
        results = dataclasses.replace(results, baseline=None)
    confirmed = []
    for row in results.rows:
        if row.network in failures or not row.values:
            continue
        trial = trials[row.network]
        attention = trial.values.get("attention")
        layer = search.layer_of(trial.values)
        other = trial.values if attention is None else {}
        confirmed.append(
            Confirmed(
                trial=trial.number,
                attention=attention,
                options=dict(layer.keywords if layer else other),
                seeds=search.seeds,
                test_accuracy=row.test_accuracy,
                difference=row.difference,
                interval=row.interval,
                compared=dataclasses.replace(row, network=label(trial.values)),
            )
        )
    missing = [
        f"{label(trials[name].values)} is left out: {failure}."
        for name, failure in failures.items()
    ]
    return tuple(confirmed), missing, results


def _best(confirmed):
    """Returns the configuration that validates best."""
    return max(
        confirmed,
        key=lambda row: row.compared.validation_accuracy,
        default=None,
    )


def _code(layer):
    if layer is None:
        return "None  # no attention"
    options = (f"{name}={value!r}" for name, value in layer.keywords.items())
    module, name = layer.func.__module__, layer.func.__name__
    if module.startswith("cbam_keras."):
        module = "cbam_keras"
    return f"{module}.{name}({', '.join(options)})"


def _verdict(search, trials, confirmed, chosen, missing):
    """Returns whether attention improves accuracy, in a sentence or two."""
    if not any("attention" in trial.values for trial in trials):
        return ""
    if not search.seeds:
        return (
            "Nothing is confirmed: the highest accuracy of several trials is "
            "partly luck, and no evidence for or against attention. "
            "confirm=3 (--confirm 3) trains the best configurations and the "
            "controls again from fresh seeds, and compares them."
        )
    with_attention = [row for row in confirmed if row.attention not in PLAIN]
    if not with_attention or len(with_attention) == len(confirmed):
        lacking = "without" if with_attention else "with"
        verdict = (
            f"No network {lacking} attention was confirmed, so whether "
            "attention improves accuracy here is not known."
        )
    else:
        verdict = "Chosen by validation accuracy, "
        row = chosen
        if chosen not in with_attention:
            verdict += "no attention: "
            # SE is a control.
            others = [r for r in with_attention if r.attention != "se"]
            row = _best(others or with_attention)
        compared = row.compared
        verdict += f"{study.judge(compared.network, compared, 'none')}."
    if len(trials) == 1:
        verdict += " Only one configuration was tried."
    return " ".join([verdict, *missing])
