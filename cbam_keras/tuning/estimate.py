"""`estimate`: what a search would train, and how long it would take."""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping
from typing import Any

from cbam_keras import _checks, _inspection, _terminal, study
from cbam_keras._terminal import in_words
from cbam_keras.recipes import Recipe
from cbam_keras.study import Cost
from cbam_keras.tuning.report import CANDIDATES
from cbam_keras.tuning.search import plan
from cbam_keras.tuning.space import PLAIN, controls, count_points, label, point

# The cheapest and the dearest of the values of these.
EXTREMES = {"reduction_ratio": (max, min), "kernel_size": (min, max)}


@dataclasses.dataclass(frozen=True)
class SearchEstimate:
    """What a search would train; prints as a table.

    Attributes:
        costs: Dictionary of kinds of attention to a tuple of
            `study.Cost`: of its cheapest and its most expensive network,
            as far as reduction ratio and kernel size decide.
        points: Dictionary of kinds of attention to the number of their
            combinations in the space, a range counted as ten values.
        trials: Integer, how many networks are tried; the upper limit for
            `"hyperband"`.
        epochs: Integer, the epochs of all trials together.
        confirmations: Dictionary of kinds of attention to the number of
            trainings of the confirmation.
        epochs_each: Integer, the epochs of each training of these.
        workers: Integer, how many workers share the trainings.
    """

    costs: dict[Any, tuple[Cost, ...]]
    points: dict[Any, int]
    trials: int
    epochs: int
    confirmations: dict[Any, int]
    epochs_each: int
    workers: int = 1

    @property
    def seconds_of_trials(self) -> float:
        """Seconds of all trials, with all workers at work."""
        everything = sum(self.points.values())
        return sum(
            self._seconds(kind, self.trials, self.epochs) * many / everything
            for kind, many in self.points.items()
        )

    @property
    def seconds_of_confirmation(self) -> float:
        """Seconds of the confirmation, with all workers at work."""
        return sum(
            self._seconds(kind, many, many * self.epochs_each)
            for kind, many in self.confirmations.items()
        )

    @property
    def seconds(self) -> float:
        """Seconds in all, without reading the dataset."""
        return self.seconds_of_trials + self.seconds_of_confirmation

    def _seconds(self, kind, trainings, epochs):
        costs = self.costs[kind]
        once = statistics.fmean(cost.seconds_once for cost in costs)
        epoch = statistics.fmean(cost.seconds_per_epoch for cost in costs)
        return (trainings * once + epochs * epoch) / self.workers

    def json(self) -> str:
        """Returns the estimate as JSON."""
        return json.dumps(
            {
                "networks": [
                    {"attention": kind, **dataclasses.asdict(cost)}
                    for kind, costs in self.costs.items()
                    for cost in costs
                ],
                "points": list(self.points.values()),
                "trials": self.trials,
                "epochs": self.epochs,
                "trainings_of_confirmation": sum(self.confirmations.values()),
                "workers": self.workers,
                "seconds": self.seconds,
            },
            indent=2,
        )

    def __str__(self) -> str:
        rows = [
            {
                "network": cost.network,
                "parameters": f"{cost.parameters:,}",
                "MACs": "?" if cost.macs is None else f"{cost.macs:,}",
                "s / epoch": f"{cost.seconds_per_epoch:.1f}",
                "s besides": f"{cost.seconds_once:.1f}",
            }
            for costs in self.costs.values()
            for cost in costs
        ]
        columns = {**dict.fromkeys(rows[0], "right"), "network": "left"}
        each = ", ".join(
            f"{count:,} {kind}"
            for kind, count in self.points.items()
            if kind is not None
        )
        again = sum(self.confirmations.values())
        combinations = _counted(sum(self.points.values()), "combination")
        lines = [
            _terminal.render(columns, [[[*row.values()] for row in rows]]),
            f"{combinations}: {each}" if each else combinations,
            f"{_counted(self.trials, 'trial')}, "
            f"{_counted(self.epochs, 'epoch')} in all: "
            f"about {in_words(self.seconds_of_trials)}",
        ]
        if again:
            lines.append(
                f"Confirmation, {_counted(again, 'training')}, "
                f"{_counted(again * self.epochs_each, 'epoch')} in all: "
                f"about {in_words(self.seconds_of_confirmation)}"
            )
        where = "on this device"
        if self.workers > 1:
            where = f"with {self.workers} workers, each on a device like this"
        lines.append(f"Together about {in_words(self.seconds)} {where}")
        return "\n".join(lines)


def _counted(number, noun):
    return f"{number:,} {noun}{'s' * (number != 1)}"


def estimate(
    hypermodel: Any = None,
    images: Any = "crowded_mnist",
    recipe: Recipe | str | None = None,
    *,
    algorithm: str = "random",
    max_trials: int | None = None,
    max_parameters: float | None = None,
    max_macs: float | None = None,
    confirm: int = 3,
    workers: int = 1,
    data_options: Mapping[str, Any] | None = None,
) -> SearchEstimate:
    """Estimates how long `search` takes, by timing a few steps of networks.

    What `cbam-keras tune --dry-run` runs; writes nothing. Networks over the
    budget are counted as if they were trained. For the arguments see
    `search`.

    Returns:
        A `SearchEstimate`.
    """
    workers = _checks.positive_integer("workers", workers)
    search = plan(
        hypermodel,
        images,
        recipe,
        algorithm=algorithm,
        max_trials=max_trials,
        max_parameters=max_parameters,
        max_macs=max_macs,
        confirm=confirm,
        data_options=data_options,
    )
    with _inspection.same_randomness():
        data = search.task.load(search.recipe)
        search = search.explored(data, None)
        points = count_points(search.space)
        costs = {kind: _costs(search, kind, data) for kind in points}
    trials, epochs = _planned(search, sum(points.values()))
    seeds = len(search.seeds)
    confirmations = {k: seeds for k in points if k in (*PLAIN, "se")}
    others = [kind for kind in points if kind not in confirmations]
    many = min(CANDIDATES, sum(points[kind] for kind in others))
    if others:
        # The best of these are not known before.
        confirmations[others[-1]] = many * seeds
    return SearchEstimate(
        costs=costs,
        points=points,
        trials=trials,
        epochs=epochs,
        confirmations=confirmations,
        epochs_each=search.recipe.epochs,
        workers=workers,
    )


def _costs(search, kind, data):
    """Returns the costs of the cheapest and the dearest network of a kind."""
    costs = {}
    for end in (0, 1):
        extremes = {
            hp.name: EXTREMES[hp.name][end](hp.values)
            for hp in search.space.space
            if hp.name in EXTREMES
        }
        hp = point(search.space, attention=kind, **extremes)
        name = label(search.values_of(hp.values))
        if name not in costs:
            planned = study.Study(
                search.task, [search.variant(hp, name)], (0,), search.recipe
            )
            costs[name] = study.cost_of(planned, planned.variants[0], data)
    return tuple(costs.values())


def _planned(search, points):
    """Returns how many trials there will be, and their epochs in all."""
    most = search.recipe.epochs
    if search.algorithm != "hyperband":
        trials = min(points, search.max_trials or points)
        return trials, trials * most
    # Of brackets and rounds as in Li et al., 2018, KerasTuner rounds so.
    trials = len(controls(search.space))
    epochs, factor = trials * most, 3
    for bracket in range(1 + int(math.log(most, factor))):
        size = math.ceil(1 + math.log(most, factor)) / (bracket + 1)
        done = 0
        for rest in range(bracket, -1, -1):
            many = math.ceil(size * factor**rest)
            until = math.ceil(most / factor**rest)
            trials += many
            epochs += many * (until - done)
            done = until
    return trials, epochs
