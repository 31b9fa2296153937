"""The paper's comparisons on your own data, over several seeds.

`ABLATIONS` holds the networks and `TABLES` says which table shows which. Both
are the rows of Tables 1 to 4 as `cbam_keras.presets` has them, with any network
instead of ResNet50. All spatial gates are the authors' variant,
`VARIANTS["official"]`, with batch normalization in the gate.
"""

import functools
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import (
    _checks,
    _files,
    comparison,
    models,
    plotting,
    presets,
    study,
)
from cbam_keras.ablation.results import AblationResults, AblationRow
from cbam_keras.layers import ATTENTION
from cbam_keras.recipes import Recipe, find_recipe

# The paper's Table 2 adds spatial gates to the last channel gate of Table 1,
# which therefore comes first, as the baseline.
_ROWS = {
    1: (
        "resnet50",
        "resnet50-se",
        "resnet50-channel-max",
        "resnet50-channel-avg-max",
    ),
    2: (
        "resnet50-channel-avg-max",
        "resnet50-spatial-conv-3",
        "resnet50-spatial-conv-7",
        "resnet50-spatial-avg-max-3",
        "resnet50-cbam",
    ),
    3: (
        "resnet50-se",
        "resnet50-cbam",
        "resnet50-spatial-first",
        "resnet50-parallel",
    ),
    4: ("resnet50", "resnet50-se", "resnet50-cbam"),
}


def _short(name):
    """Returns the name of a preset without that of the network."""
    return name.removeprefix("resnet50").removeprefix("-") or "none"


TABLES: dict[int, tuple[str, ...]] = {
    table: tuple(map(_short, names)) for table, names in _ROWS.items()
}
ABLATIONS: dict[str, presets.Preset] = {
    _short(name): presets.ABLATIONS[name]
    for names in _ROWS.values()
    for name in names
}


class _TopFive(study.Classification):
    """Classification, measured by its top-5 accuracy too.

    With ten classes, top-5 is right by chance half of the time, so it is
    measured for more.
    """

    def evaluate(self, model, data):
        measured = super().evaluate(model, data)
        if len(data.class_names) > 10:
            measured["top5_accuracy"] = _top5_accuracy(model, data)
        return measured


def run(
    images: Any = "crowded_mnist",
    *,
    model: str | Callable[[Any], keras.Model] = "tiny",
    tables: Sequence[int] = (1, 2, 3, 4),
    seeds: int | Sequence[int] = 3,
    recipe: Recipe | str | None = None,
    identity_init: bool = True,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
    workers: int = 1,
    tensorboard: bool = False,
    data_options: Mapping[str, Any] | None = None,
) -> AblationResults:
    """Runs the comparisons of the paper's Tables 1 to 4 on any dataset.

    What `cbam-keras ablate` runs: Table 1 compares the pooling of the channel
    gate, Table 2 spatial gates after it, Table 3 the arrangement of the two,
    and Table 4 no attention, SE and CBAM. All spatial gates are the authors'
    variant, `VARIANTS["official"]`.

    Each network (10 in all tables) is trained once per seed, however many
    tables show it. The same call given again resumes from the last finished
    epoch, or returns the results. With more tables or seeds it trains what is
    missing. With other settings it is refused, and the error names what
    differs. A seed decides the initial weights, which images are for
    validation, and their order; the test images are always the same.

    The output folder gets `tables.md`, `tables.csv` and `ablation.png`, and
    what `study.run` writes.

    Args:
        images: What `cbam_keras.data.load` takes: the name of a dataset,
            the path of a folder, or arrays. Defaults to
            `"crowded_mnist"`.
        model: String, a network of `comparison.compare`; or a function that
            takes `attention`, as the builders of `cbam_keras.models` do, and
            returns a classifier of the images. Defaults to `"tiny"`.
        tables: Sequence of integers from 1 to 4. Defaults to `(1, 2, 3, 4)`.
        seeds: Positive integer, how many seeds, from 0; or a sequence of
            different seeds. One seed is that of the recipe. Defaults to `3`.
        recipe: A `training.Recipe`, or the name of one in
            `training.RECIPES`. Several seeds replace its seed. Defaults to
            `None`, which means that of `comparison.compare`.
        identity_init: Boolean, whether all attention layers start as the
            identity, as those of `comparison.compare` do, since gates that
            start at one help networks that are too small for their task.
            `False` is the start of the paper. Defaults to `True`.
        output: Path of a folder. Defaults to `None`, which means
            `runs/ablate-<images>-<model>`.
        resume: Boolean. `False` refuses a folder that holds a run. Defaults
            to `True`.
        overwrite: Boolean, whether to start again, see `training.train`.
            Defaults to `False`.
        workers: Positive integer, how many processes train at a time, see
            `study.run`. Defaults to `1`.
        tensorboard: See `training.train`. Defaults to `False`.
        data_options: Mapping of further arguments of `data.load`, as
            `{"download": True}`, except those of the recipe.
            Defaults to `None`.

    Returns:
        An `AblationResults`.

    Raises:
        ValueError: If an argument is out of range; if the output folder
            cannot be written, holds something else or is used by another
            process; if the ablation in it has other settings or is damaged.
        TypeError: If an argument is of a wrong kind.
        ImportError: If a package for the data, the figure, or the intervals
            (SciPy) is missing.

    Example:
        >>> from cbam_keras import ablation
        >>> ablation.TABLES[4]
        ('none', 'se', 'cbam')
        >>> ablation.ABLATIONS["parallel"].attention
        'channel & spatial in parallel'
        >>> ablation.run(tables=[4], seeds=0)
        Traceback (most recent call last):
        ...
        ValueError: `seeds` must be a positive integer. Received: seeds=0

    Reference:
        Woo, Park, Lee and Kweon, 2018, Tables 1 to 4
        (https://arxiv.org/abs/1807.06521).
    """
    _checks.require("matplotlib.figure", extra="plot")
    planned, chosen, label = _study(
        images, model, tables, seeds, recipe, identity_init, data_options
    )
    if output is None:
        output = study.default_output("ablate", planned.task.name, label)
    finish = functools.partial(_finish, tables=chosen, network=label)
    results = study.run(
        planned,
        output,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        tensorboard=tensorboard,
        finish=finish,
    )
    return results_of(results, chosen, label)


def estimate(
    images: Any = "crowded_mnist",
    *,
    model: str | Callable[[Any], keras.Model] = "tiny",
    tables: Sequence[int] = (1, 2, 3, 4),
    seeds: int | Sequence[int] = 3,
    recipe: Recipe | str | None = None,
    identity_init: bool = True,
    workers: int = 1,
    data_options: Mapping[str, Any] | None = None,
) -> study.Estimate:
    """Estimates how long `run` takes on one device; writes nothing."""
    planned, _, _ = _study(
        images, model, tables, seeds, recipe, identity_init, data_options
    )
    return study.estimate(planned, workers=workers)


def _study(images, model, tables, seeds, recipe, identity_init, data_options):
    """Returns the study, the tables and the label of the network."""
    _checks.boolean("identity_init", identity_init)
    build, label = _builder(model)
    chosen = _check_tables(tables)
    recipe = comparison.default_recipe(model) if recipe is None else recipe
    recipe = find_recipe(recipe)
    task = _TopFive(images, **(data_options or {}))
    names = dict.fromkeys(name for table in chosen for name in TABLES[table])
    shared = comparison.model_options(model) | {"identity_init": identity_init}
    planned = study.Study(
        task=task,
        variants=[
            study.Variant(
                name,
                functools.partial(build, attention=_attention(name, shared)),
                _options(name, shared),
            )
            for name in names
        ],
        seeds=comparison.seeds_of(seeds, recipe, task),
        recipe=recipe,
        settings={"model": label, "identity_init": identity_init},
        kind="ablate",
    )
    return planned, chosen, label


def _builder(model):
    """Returns a function of images and `attention`, and its label."""
    if isinstance(model, str):
        _checks.one_of("model", model, models.NETWORKS)
        return models.NETWORKS[model], model
    if not callable(model) or isinstance(model, keras.layers.Layer):
        raise TypeError(
            "`model` must be the name of a network or a function that takes "
            f"`attention` and returns a keras.Model. Received: model={model!r}"
        )
    label = getattr(model, "__name__", "")
    label = label if label.isidentifier() else "custom"
    return functools.partial(_call, model), label


def _call(model, images, attention):
    return model(attention)


def _options(name, shared):
    """Returns the options of the attention layer of one of the networks."""
    preset = ABLATIONS[name]
    return {**shared, **preset.layer_options} if preset.layer else {}


def _attention(name, shared):
    """Returns the value of `attention=` for one of the networks."""
    layer = ABLATIONS[name].layer
    if layer is None:
        return None
    return functools.partial(ATTENTION[layer], **_options(name, shared))


def _check_tables(tables: Any) -> list[int]:
    tables = [tables] if isinstance(tables, numbers.Integral) else tables
    try:
        found = list(tables)
        known = all(table in TABLES for table in found)
    except TypeError:
        found, known = [], False
    if not found or not known or len(set(found)) != len(found):
        raise ValueError(
            "`tables` must be one or several of 1, 2, 3, 4, each at most "
            f"once. Received: tables={tables!r}"
        )
    return sorted(found)


def _finish(results, folder, tables, network):
    """Writes the tables and the figure."""
    ablation = results_of(results, tables, network)
    with folder.drawing(results, tables=tables) as needed:
        if not needed or not ablation.rows:
            return
        for name, text in (
            ("tables.md", ablation.markdown()),
            ("tables.csv", ablation.csv()),
        ):
            with _files.replacing(folder.path / name) as beside:
                beside.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        figure = plotting.plot_ablation(ablation, ablation.title)
        with _files.replacing(folder.path / "ablation.png") as beside:
            figure.savefig(beside, dpi=150)


def results_of(
    results: study.Results, tables: Sequence[int], network: str
) -> AblationResults:
    """Returns the tables of a study, by the name of the network."""
    return AblationResults(
        rows=[
            row for table in tables for row in _rows(results, table, network)
        ],
        data=results.data,
        seeds=results.seeds,
        test_images=results.sizes["test"],
        output=results.output,
        details=results,
    )


def _rows(results, table, network):
    """Yields the rows of a table; without networks that lack a seed."""
    by_name = {row.variant: row for row in results.rows}
    names = [
        name
        for name in TABLES[table]
        if len(by_name[name].seeds) == len(results.seeds)
    ]
    first = TABLES[table][0]
    baseline = _errors(results, first, "test_accuracy")
    for name in names:
        row = by_name[name]
        top1 = _errors(results, name, "test_accuracy")
        top5 = _errors(results, name, "top5_accuracy")
        differences = None
        if name != first and first in names:
            pairs = zip(top1, baseline, strict=True)
            differences = [error - other for error, other in pairs]
        errors = study.Measured.of(top1, differences)
        fifth = study.Measured.of(top5, None) if top5 else None
        yield AblationRow(
            table=table,
            network=network,
            attention=ABLATIONS[name].attention or "none",
            parameters=row.parameters,
            macs=row.macs,
            top1_errors=errors.values,
            top1_error=errors.mean,
            top1_deviation=errors.deviation,
            difference=errors.difference,
            interval=errors.interval,
            top5_errors=fifth and fifth.values,
            top5_error=fifth and fifth.mean,
            top5_deviation=fifth and fifth.deviation,
            seconds_per_epoch=row.seconds_per_epoch,
        )


def _errors(results, name, metric):
    """Returns the error of a network in %, one per seed."""
    images = results.sizes["test"]
    return [
        100 * (images - round(accuracy * images)) / images
        for accuracy in results.values(name, metric).values()
    ]


def _top5_accuracy(model, images):
    """Returns the fraction of test images with the class in the top 5."""
    hits = total = 0
    # A `for` over a PyDataset would not end.
    batches = (images.test[index] for index in range(len(images.test)))
    for pixels, labels, *_ in batches:
        scores = np.asarray(model.predict_on_batch(np.asarray(pixels)))
        labels = np.asarray(labels)
        if labels.ndim > 1:
            labels = labels.argmax(axis=-1)
        # The first of equal scores counts, as in top-1.
        first = np.argsort(-scores, axis=-1, kind="stable")[:, :5]
        hits += int((first == labels[:, None]).any(axis=-1).sum())
        total += len(labels)
    return hits / total
