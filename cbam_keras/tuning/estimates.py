"""`estimate`: what a search would train, and how long it would take."""

import dataclasses
import functools
import json
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

from cbam_keras import _checks, _terminal, training
from cbam_keras._terminal import in_words
from cbam_keras.training import Cost, Recipe
from cbam_keras.tuning.algorithms import count_points
from cbam_keras.tuning.confirmation import CANDIDATES, PLAIN
from cbam_keras.tuning.plan import plan_of
from cbam_keras.tuning.results import label

# The cheapest and the dearest of the values of these.
EXTREMES = {"reduction_ratio": (max, min), "kernel_size": (min, max)}


@dataclasses.dataclass(frozen=True)
class SearchEstimate:
    """What a search would train; prints as a table.

    Attributes:
        costs: Dictionary of kinds of attention to a tuple of
            `training.Cost`: of its cheapest and its most expensive network,
            as far as reduction ratio and kernel size decide.
        points: Dictionary of kinds of attention to the number of their
            combinations in the space, a range counted as ten values.
        trials: Integer, how many networks are tried; the upper limit for
            `"hyperband"`.
        epochs: Integer, the epochs of all trials together.
        confirmations: Dictionary of kinds of attention to the number of
            trainings of the confirmation.
        epochs_each: Integer, the epochs of each training of these.
        workers: Integer, how many workers share the trials.
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
        seconds = sum(
            self.points[kind]
            / everything
            * (
                self.trials * _mean(costs, "seconds_once")
                + self.epochs * _mean(costs, "seconds_per_epoch")
            )
            for kind, costs in self.costs.items()
        )
        return seconds / self.workers

    @property
    def seconds_of_confirmation(self) -> float:
        """Seconds of the confirmation, which one process trains."""
        return sum(
            many
            * (
                _mean(self.costs[kind], "seconds_once")
                + self.epochs_each
                * _mean(self.costs[kind], "seconds_per_epoch")
            )
            for kind, many in self.confirmations.items()
        )

    @property
    def seconds(self) -> float:
        """Seconds in all, without reading the dataset."""
        return self.seconds_of_trials + self.seconds_of_confirmation

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
        table = _terminal.render(
            {
                "network": "left",
                "parameters": "right",
                "MACs": "right",
                "s / epoch": "right",
                "s besides": "right",
            },
            [
                [
                    (
                        cost.network,
                        f"{cost.parameters:,}",
                        f"{cost.macs:,}",
                        f"{cost.seconds_per_epoch:.1f}",
                        f"{cost.seconds_once:.1f}",
                    )
                    for costs in self.costs.values()
                    for cost in costs
                ]
            ],
        )
        each = ", ".join(
            f"{count:,} {kind}"
            for kind, count in self.points.items()
            if kind is not None
        )
        lines = [table, _counted(sum(self.points.values()), "combination")]
        lines[1] += f": {each}" if each else ""
        workers = f" with {self.workers} workers" if self.workers > 1 else ""
        lines.append(
            f"{_counted(self.trials, 'trial')}, "
            f"{_counted(self.epochs, 'epoch')} in all: "
            f"{_about(self.seconds_of_trials)}{workers}"
        )
        again = sum(self.confirmations.values())
        if again:
            lines.append(
                f"Confirmation, {_counted(again, 'training')}, "
                f"{_counted(again * self.epochs_each, 'epoch')} in all: "
                f"{_about(self.seconds_of_confirmation)}"
            )
        lines.append(f"Together {_about(self.seconds)} on this device")
        return "\n".join(lines)


def _counted(number, noun):
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _about(seconds):
    return f"about {in_words(seconds)}"


def _mean(costs, name):
    return statistics.fmean(getattr(cost, name) for cost in costs)


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

    What `cbam-keras tune --dry-run` runs. Trains a few steps of each kind of
    attention and writes nothing. Trials that `"hyperband"` saves in a small
    space, and networks over the budget, are counted as if they were trained.

    Args:
        hypermodel: See `search`.
        images: See `search`.
        recipe: See `search`.
        algorithm: See `search`.
        max_trials: See `search`.
        max_parameters: See `search`.
        max_macs: See `search`.
        confirm: See `search`.
        workers: Positive integer, how many workers will share the trials,
            each on a device like this. Defaults to `1`.
        data_options: See `search`.

    Returns:
        A `SearchEstimate`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of a wrong kind.
        ImportError: If a package is missing.
    """
    workers = _checks.positive_integer("workers", workers)
    plan = plan_of(
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
    tuner = plan.tuner(pathlib.Path("runs"))
    space = tuner.own_oracle.get_space()
    points = count_points(space)
    costs = {
        kind: training.estimate(
            _networks(tuner, space, kind), plan.images, plan.recipe
        ).costs
        for kind in points
    }
    trials, epochs = tuner.own_oracle.algorithm.planned(
        sum(points.values()), plan.limits["max_trials"], plan.recipe.epochs
    )
    seeds = len(plan.seeds)
    controls = {kind: seeds for kind in points if kind in (*PLAIN, "se")}
    others = [kind for kind in points if kind not in controls]
    many = min(CANDIDATES, sum(points[kind] for kind in others))
    return SearchEstimate(
        costs=costs,
        points=points,
        trials=trials,
        epochs=epochs,
        # The best of these are not known before.
        confirmations=controls | ({others[-1]: many * seeds} if others else {}),
        epochs_each=plan.recipe.epochs,
        workers=workers,
    )


def _networks(tuner, space, kind):
    """Returns the cheapest and the most expensive network of a kind."""
    found = {}
    for end in (0, 1):
        hp = space.copy()
        hp.values = {}
        for own in hp.space:
            if hp.is_active(own):
                hp.values[own.name] = _value(own, kind, end)
        found[label(hp.values)] = functools.partial(tuner.build, hp)
    return found


def _value(own, kind, end):
    if own.name == "attention":
        return kind
    if own.name in EXTREMES:
        return EXTREMES[own.name][end](own.values)
    return own.default
