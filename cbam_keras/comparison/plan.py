"""What is compared, after all arguments have been checked."""

import dataclasses
import functools
import inspect
import os
import shlex
from collections.abc import Sequence
from typing import Any

from cbam_keras import _checks, data, training
from cbam_keras._run_folder import default_output
from cbam_keras.comparison.results import BASELINE, Comparison, verdict
from cbam_keras.layers import ATTENTION
from cbam_keras.models import NETWORKS
from cbam_keras.training import find_recipe, images_for


def start_options(kind: str, identity_init: bool = True) -> dict[str, Any]:
    """Returns how layers of a kind start unless options say otherwise.

    Gates that start at one, and may amplify, help networks that are too small
    for their task; those of the paper start at a quarter. The many weights of
    the spatial gate, which all start at zero, saturate it within a few steps
    of Adam, unless its logits are normalized.
    """
    if not identity_init:
        return {}
    normalized = {"cbam": "spatial_batch_norm", "spatial": "batch_norm"}
    return {
        "identity_init": True,
        **({normalized[kind]: True} if kind in normalized else {}),
    }


def model_options(model: Any) -> dict[str, Any]:
    """Returns options of attention layers that differ for one network.

    Of the 8, 16 and 32 channels of `"tiny"`, the ratio of the layers would
    leave 1, 1 and 2 hidden units.
    """
    return {"reduction_ratio": 4} if model == "tiny" else {}


def default_recipe(model: Any) -> training.Recipe:
    """Returns what `recipe=None` means for a network, given by name or not.

    In two epochs the network `"tiny"` underfits the default images, which is
    where gates can help. Of four learning rates 0.03 suits it best, without
    attention and with.
    """
    rate = 0.03 if model == "tiny" else 0.01
    return training.Recipe(epochs=2, batch_size=64, learning_rate=rate)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compared, and how."""

    model: str
    networks: dict[str, Any]
    layer_options: dict[str, Any]
    images: data.ImageData
    # Of the first seed.
    recipe: training.Recipe
    seeds: tuple[int, ...]
    # The options of `cbam-keras explain` for these images, or `None`.
    data_arguments: list[str] | None

    @classmethod
    def of(
        cls,
        attentions,
        model,
        images,
        recipe,
        layer_options,
        data_options,
        seeds,
        distribute=False,
    ):
        names = _checks.subset("attention", attentions, [BASELINE, *ATTENTION])
        _checks.one_of("model", model, NETWORKS)
        if recipe is None:
            recipe = default_recipe(model)
        recipe = find_recipe(recipe)
        chosen = training.check_seeds(seeds)
        if isinstance(seeds, Sequence) or len(chosen) > 1:
            recipe = dataclasses.replace(recipe, seed=chosen[0])
        if len(chosen) > 1:
            training.check_repeatable(images, chosen, distribute)
            # Needed only at the end, but checked before any work.
            _checks.require("scipy.stats", extra="tune")
        made, options = attention_layers(names, model, layer_options)
        # Processes connect before anything is computed.
        training.connect(distribute)
        loaded = images_for(images, recipe, data_options)
        networks = {
            name: functools.partial(NETWORKS[model], loaded, attention)
            for name, attention in made.items()
        }
        arguments = _data_arguments(images, data_options)
        seeds = chosen if len(chosen) > 1 else (recipe.seed,)
        return cls(model, networks, options, loaded, recipe, seeds, arguments)

    def default_output(self):
        """Returns the default folder: several seeds have one of their own."""
        folder = default_output("train", self.images.name, self.model)
        several = len(self.seeds) > 1
        return folder.with_name(folder.name + "-seeds") if several else folder

    def rows(self, ends):
        """Returns the rows of a comparison, given the results by seed."""
        runs = {
            name: [
                run
                for results in ends.values()
                for run in results.runs
                if run.network == name
            ]
            for name in self.networks
        }
        baseline = BASELINE if BASELINE in runs else None
        return training.compared(runs, self.images.sizes["test"], baseline)

    def summary(self, ends):
        """Returns what `results.json` gets at the end of several seeds."""
        rows = self.rows(ends)
        return {
            "seeds": self.seeds,
            "test_images": self.images.sizes["test"],
            "rows": [dataclasses.asdict(row) for row in rows],
            "verdict": verdict(rows),
        }

    def comparison(self, ends, output):
        """Returns the comparison, given the results by seed."""
        runs, history = [], []
        for seed, results in ends.items():
            for run in results.runs:
                path = (results.output / run.file).relative_to(output)
                runs.append(dataclasses.replace(run, file=path.as_posix()))
            of_seed = {"seed": seed} if len(ends) > 1 else {}
            history += [{**of_seed, **row} for row in results.history]
        command = None
        if self.data_arguments is not None:
            files = [output / run.file for run in runs[: len(self.networks)]]
            command = shlex.join(
                ["cbam-keras", "explain", *map(str, files)]
                + self.data_arguments
            )
        rows = self.rows(ends)
        return Comparison(
            runs=runs,
            history=history,
            output=output,
            rows=rows,
            data=self.images.name,
            seeds=self.seeds,
            test_images=self.images.sizes["test"],
            verdict=verdict(rows),
            command=command,
        )


def attention_layers(attentions, model, layer_options):
    """Returns the value of `attention=` for each name, and the options."""
    given = dict(layer_options or {})
    identity = bool(given.get("identity_init", True))
    made: dict[str, Any] = {}
    used: dict[str, Any] = {}
    for name in attentions:
        if name == BASELINE:
            made[name] = None
            continue
        accepted = inspect.signature(ATTENTION[name]).parameters
        options = {
            **start_options(name, identity),
            **model_options(model),
            **given,
        }
        own = {key: options[key] for key in options if key in accepted}
        used.update(own)
        made[name] = functools.partial(ATTENTION[name], **own)
        # Raises for bad values before any work.
        made[name](name=name)
    unused = [key for key in given if key not in used]
    if unused:
        raise ValueError(
            f"`{unused[0]}` must be an argument of one of the attention "
            f"layers that are compared. Received: {unused[0]}="
            f"{given[unused[0]]!r}, attention={list(attentions)}"
        )
    return made, used


def _data_arguments(images, data_options):
    """Returns the options of `cbam-keras explain` for these images."""
    if isinstance(images, data.ImageData):
        images = images.name if images.name in data.EMBEDDED else None
    if not isinstance(images, str | os.PathLike):
        return None
    arguments = ["--data", str(images)]
    for name in ("data_dir", "manual_dir"):
        if name in (data_options or {}):
            option = f"--{name.replace('_', '-')}"
            arguments += [option, str(data_options[name])]
    return arguments
