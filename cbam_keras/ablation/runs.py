"""The paper's comparisons on your own data, over several seeds.

`ABLATIONS` holds the networks and `TABLES` says which table shows which. Both
are the rows of Tables 1 to 4 as `cbam_keras.presets` has them, with any network
instead of ResNet50. All spatial gates are the authors' variant,
`VARIANTS["official"]`, with batch normalization in the gate.
"""

import dataclasses
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
    _run_folder,
    comparison,
    data,
    models,
    presets,
    profiling,
    training,
)
from cbam_keras._files import read_json
from cbam_keras._terminal import TimeLeft
from cbam_keras.ablation.folder import AblationFolder, described
from cbam_keras.ablation.results import AblationResults
from cbam_keras.ablation.statistics import compared
from cbam_keras.layers import ATTENTION
from cbam_keras.training import find_recipe

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


def run(
    images: Any = "crowded_mnist",
    *,
    model: str | Callable[[Any], keras.Model] = "tiny",
    tables: Sequence[int] = (1, 2, 3, 4),
    seeds: int | Sequence[int] = 3,
    recipe: training.Recipe | str | None = None,
    identity_init: bool = True,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
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

    The output folder gets `tables.md`, `tables.csv`, `results.json` and
    `ablation.png`, and below `<network>/seed-<seed>` what `training.train`
    writes, with the best checkpoint of each run as `.keras`.

    Args:
        images: What `cbam_keras.data.load` takes: the name of a dataset,
            the path of a folder, or arrays. Defaults to
            `"crowded_mnist"`.
        model: String, a network of `comparison.compare`; or a function that
            takes `attention`, as the builders of `cbam_keras.models` do, and
            returns a classifier of the images. Defaults to `"tiny"`.
        tables: Sequence of integers from 1 to 4. Defaults to `(1, 2, 3, 4)`.
        seeds: Positive integer, how many seeds, from 0; or a sequence of
            different seeds. Defaults to `3`.
        recipe: A `training.Recipe`, whose seed is replaced, or the name of
            one in `training.RECIPES`. Defaults to `None`, which means that
            of `comparison.compare`.
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
    _checks.boolean("resume", resume)
    _checks.boolean("overwrite", overwrite)
    # Needed only at the end, but checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    build, label = _builder(model, identity_init)
    chosen, own_seeds, first, loaded = _prepared(
        images, model, tables, seeds, recipe, data_options
    )
    networks = _networks(build, loaded, chosen)
    profiles, fingerprints = _costs(networks, loaded, first)
    if output is None:
        output = _run_folder.default_output("ablate", loaded.name, label)
    folder = AblationFolder(
        output,
        described(label, first, identity_init, fingerprints, loaded),
    )
    runs: dict[str, list] = {name: [] for name in networks}
    left = TimeLeft(len(networks) * len(own_seeds))
    with folder.opened(resume=resume, overwrite=overwrite):
        for seed in own_seeds:
            own = dataclasses.replace(first, seed=seed)
            if seed != own_seeds[0]:
                loaded = training.images_for(images, own, data_options)
                networks = _networks(build, loaded, chosen)
            folder.add_data(loaded)
            for name, network in networks.items():
                done = sum(map(len, runs.values()))
                print(
                    f"Run {done + 1} of {len(runs) * len(own_seeds)}: {name}, "
                    f"seed {seed}{left.at(done + 1)}",
                    flush=True,
                )
                runs[name].append(
                    _run_one(name, network, loaded, own, folder.path, label)
                )
        tested = loaded.sizes["test"]
        results = AblationResults(
            rows=_rows(chosen, label, profiles, runs, tested),
            data=loaded.name,
            seeds=own_seeds,
            test_images=tested,
            output=folder.path,
        )
        folder.finish(results)
    return results


def estimate(
    images: Any = "crowded_mnist",
    *,
    model: str | Callable[[Any], keras.Model] = "tiny",
    tables: Sequence[int] = (1, 2, 3, 4),
    seeds: int | Sequence[int] = 3,
    recipe: training.Recipe | str | None = None,
    identity_init: bool = True,
    data_options: Mapping[str, Any] | None = None,
) -> training.Estimate:
    """Estimates how long `run` takes on one device; writes nothing."""
    build, _ = _builder(model, identity_init)
    chosen, own_seeds, first, loaded = _prepared(
        images, model, tables, seeds, recipe, data_options
    )
    networks = _networks(build, loaded, chosen)
    return training.estimate(networks, loaded, first, times=len(own_seeds))


def _prepared(images, model, tables, seeds, recipe, data_options):
    """Returns tables, seeds, and recipe and images of the first seed."""
    if isinstance(images, data.ImageData):
        raise TypeError(
            "`images` must not be loaded yet: each seed splits them "
            f'differently. Received: loaded images of "{images.name}"'
        )
    chosen, seeds = _check_tables(tables), training.check_seeds(seeds)
    if len(seeds) > 1:
        _checks.require("scipy.stats", extra="tune")
    if recipe is None:
        recipe = comparison.default_recipe(model)
    recipe = find_recipe(recipe)
    recipe = dataclasses.replace(recipe, seed=seeds[0])
    loaded = training.images_for(images, recipe, data_options)
    return chosen, seeds, recipe, loaded


def _rows(tables, label, profiles, runs, test_images):
    """Returns the rows of all tables."""
    entries = {
        name: (ABLATIONS[name].attention or "none", profiles[name], runs[name])
        for name in runs
    }
    return [
        row
        for table in tables
        for row in compared(
            table, label, [entries[n] for n in TABLES[table]], test_images
        )
    ]


def _builder(model, identity_init):
    """Returns a function of images and the name of a network, and its label."""
    _checks.boolean("identity_init", identity_init)
    if isinstance(model, str):
        _checks.one_of("model", model, models.NETWORKS)
        build, label = models.NETWORKS[model], model
    elif not callable(model) or isinstance(model, keras.layers.Layer):
        raise TypeError(
            "`model` must be the name of a network or a function that takes "
            f"`attention` and returns a keras.Model. Received: model={model!r}"
        )
    else:
        label = getattr(model, "__name__", "")
        label = label if label.isidentifier() else "custom"

        def build(images, attention):
            return model(attention)

    own = comparison.model_options(model)
    own["identity_init"] = identity_init

    def build_named(images, name):
        return build(images, _attention(name, own))

    return build_named, label


def _attention(name, own_options):
    """Returns the value of `attention=` for one of the networks."""
    preset = ABLATIONS[name]
    if preset.layer is None:
        return None
    options = {**own_options, **preset.layer_options}
    return functools.partial(ATTENTION[preset.layer], **options)


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


def _networks(build, images, tables):
    """Returns functions that build the networks of all tables, by name."""
    names = dict.fromkeys(name for table in tables for name in TABLES[table])
    return {name: functools.partial(build, images, name) for name in names}


def _costs(networks, images, recipe):
    """Builds each network once; returns profiles and fingerprints."""
    profiles, fingerprints = {}, {}
    for name, network in networks.items():
        model = training.build_seeded(network, recipe)
        if not isinstance(model, keras.Model):
            raise TypeError(
                "`model` must return a keras.Model. Received: "
                f'{model!r} for the network "{name}"'
            )
        training.check_network(model, images)
        profiles[name] = profiling.profile_model(model, images.image_shape)
        fingerprints[name] = training.fingerprint(model)
    return profiles, fingerprints


def _run_one(name, network, images, recipe, output, label):
    """Trains one network with one seed, unless that is finished."""
    folder = output / name / f"seed-{recipe.seed}"
    results = training.train(
        {name: network},
        images,
        recipe,
        output=folder,
        settings={"model": label, "attention": name},
    )
    (found,) = results.runs
    # With ten classes, top-5 is right by chance half of the time.
    if len(images.class_names) <= 10:
        return found, None
    path = folder / "top5.json"
    stored = read_json(path, ["accuracy"])
    if stored is None:
        best = keras.saving.load_model(folder / found.file)
        stored = {"accuracy": _top5_accuracy(best, images)}
        _files.write_json(path, stored)
    return found, stored["accuracy"]


def _top5_accuracy(model, images):
    """Returns the fraction of test images with the class in the top 5."""
    hits = total = 0
    test = batches = images.test
    if isinstance(test, keras.utils.PyDataset):
        # A `for` over a PyDataset would not end.
        batches = (test[index] for index in range(len(test)))
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
