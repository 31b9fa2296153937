"""A network without attention and with others, compared."""

import contextlib
import dataclasses
import functools
import inspect
import os
import types
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import keras

from cbam_keras import _checks, _files
from cbam_keras._checks import Options
from cbam_keras.data import Images
from cbam_keras.insertion import insert_attention
from cbam_keras.layers import (
    BASELINE,
    SKIP,
    Attention,
    MakeLayer,
    attention_layers,
    is_on_skips,
)
from cbam_keras.layers.stages import (
    ALL,
    TOP,
    StageError,
    check_stages,
    choose_stages,
)
from cbam_keras.models import (
    NETWORKS,
    PRETRAINED,
    UNET,
    WEIGHTS,
    classifier,
    segmenter,
)
from cbam_keras.study.files.options import CallbackMakers
from cbam_keras.study.plans import recipes
from cbam_keras.study.plans.recipes import Recipe
from cbam_keras.study.plans.segmentation import Segmentation
from cbam_keras.study.plans.study import (
    Study,
    Variant,
    check_folds_of,
    check_seeds,
)
from cbam_keras.study.plans.tasks import Classification, ImageTask, Regression
from cbam_keras.study.programs.controls import HIDDEN, WIDER, control
from cbam_keras.study.programs.training import finish
from cbam_keras.study.results.results import Results
from cbam_keras.study.running.run import run

__all__ = ["compare", "plan", "NETWORKS"]

DEFAULT = (BASELINE, "cbam")
# Without folds: with three Student's t distribution is wide.
SEEDS = 5
ORIGINAL = "original"
# Stands for all stages, each alone, the last two or more, and the top.
EACH = "each"

Attentions = Sequence[str | MakeLayer]
# The name of a network, or a function that builds it with an attention.
Network = str | Callable[[MakeLayer | None], keras.Model]
TASKS = {"classification": Classification, "regression": Regression}


@_checks.named_with(recipes.find_place)
def compare(
    attentions: Attentions = DEFAULT,
    *,
    stages: str | Sequence[str] = ALL,
    instead_of: str | Sequence[str] | None = None,
    model: Network = "tiny",
    weights: str | None = None,
    data: Images = "crowded_mnist",
    recipe: Recipe | str | None = None,
    layer_options: Options | None = None,
    data_options: Options | None = None,
    seeds: int | Sequence[int] | None = None,
    folds: int | None = None,
    measure: str | Callable | None = None,
    threshold: str | None = None,
    task: ImageTask | str | None = None,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    overwrite: bool = False,
    workers: int = 1,
    executor: Executor | None = None,
    callbacks: CallbackMakers = (),
) -> Results:
    """Trains a network without and with attention, and compares them.

    The same call resumes an interrupted run, or trains only what is missing.
    `cbam-keras train` runs it.

    It is `study.run` of a `plan`. The output folder also gets `curves.png` and
    `comparison.png`.

    Args:
        attentions: Sequence of names that `layers.make_attention` takes,
            `"none"`, and layers of your own: classes, or callables that take
            `name`, e.g. `layers.Attention`. Or `"all"`: `"none"` and each
            attention layer. `"wider"` and `"hidden"` are controls without
            attention, with as many parameters as the largest network with it:
            they have more channels in each layer (a network in
            `comparison.NETWORKS` or the decoder of a U-Net), or a hidden layer
            before the classifier. Defaults to `("none", "cbam")`.
        stages: The stages that get attention, see `insert_attention`, or a
            sequence of these to compare. `"each"` is all stages, each alone,
            the last two, three, ..., and `"top"`. Defaults to `"all"`.
        instead_of: Attention to replace, see `insert_attention`, such as
            `"se"` in EfficientNet. The original network, `"original"`, is
            compared with `"none"`, without this attention, and with each other
            attention in its place. Defaults to `None`.
        model: A key of `comparison.NETWORKS` (`"tiny"` has 20,000 parameters,
            `"small"` 78,000), a network of `keras.applications`, such as
            `"MobileNetV2"`, or a function that takes `attention` and returns a
            `keras.Model`. Networks of `keras.applications` and
            `"EfficientNetLite0"` include their preprocessing, a new classifier,
            and attention as in `insert_attention`. Defaults to `"tiny"`.
        weights: `"imagenet"` for a network of `keras.applications`, which Keras
            downloads, or `"EfficientNetLite0"`, from a package. Its batch
            normalization is frozen, and for the `frozen_epochs` of the recipe
            so are all pretrained layers. Attention types by name start as the
            identity. Defaults to `None`, random weights.
        data: Anything that `cbam_keras.data.load` accepts; for one seed also
            its result. Defaults to `"crowded_mnist"`.
        recipe: A `training.Recipe`, or the name of one in `training.RECIPES`.
            Several seeds replace its seed. Defaults to `None`, which means
            `"segmentation"` for masks, `"fine-tuning"` with `weights`, else one
            epoch in batches of 64, at a learning rate of 0.01, or 0.03 for
            `"tiny"`. If that is fewer than 200 steps, or 60 with
            `"fine-tuning"`, there are more epochs, except for the embedded
            digits.
        layer_options: Mapping of arguments of the attention layers, such as
            `{"reduction_ratio": 8}`. Each layer gets those that it takes; one
            that no layer takes is an error. With `{"identity_init": False}`, a
            name stands for the defaults of its class. Defaults to `None`, which
            means a `reduction_ratio` of 4 for `"tiny"`.
        data_options: Mapping of other arguments of `data.load`, such as
            `{"download": True}`. Defaults to `None`.
        seeds: Positive integer, the number of seeds (0, 1, 2, ...); or a
            sequence of them. One seed is that of the recipe. Defaults to
            `None`, which means five, and one with `folds` or loaded data.
        folds: Integer from 2, the folds of a cross-validation, see
            `study.Study`. Defaults to `None`.
        measure: The metric that is compared, see `study.Classification` and
            `study.Regression`. Defaults to `None`: `"test_accuracy"`, or
            `"mae"` for regression.
        threshold: See `study.Classification`. Defaults to `None`.
        task: `"classification"` or `"regression"`. Or a
            `study.Classification`, `study.Regression` or `study.Segmentation`,
            instead of `data`, `data_options`, `measure` and `threshold`. With
            masks, the network is a `models.UNet` named after its encoder, such
            as `"unet-tiny"`, with attention in its decoder; `"skip-gate"` in
            `attentions` is an `AttentionGate` on its skip connections, and
            `"skip-cbam"` and so on are other layers there. `recipe=None` means
            `"segmentation"`, in one stage for random weights. Defaults to
            `None`, which means `"classification"`.
        output: Path of a folder that is new, empty, or holds this run.
            Defaults to `None`, which means `runs/train-<data>-<model>`.
        resume: Boolean, `False` refuses a folder with a run. Defaults to
            `True`.
        overwrite: Boolean, whether to rename the folder of a run first; see
            `study.run`. Defaults to `False`.
        workers: Positive integer, how many processes train on this machine;
            see `study.run`. Defaults to `1`: this process.
        executor: A `concurrent.futures.Executor` whose workers train instead;
            see `study.run`. Defaults to `None`.
        callbacks: Sequence of functions without arguments that make a Keras
            callback for each network; see `study.run`. Defaults to `()`.

    Returns:
        A `study.Results`.

    Raises:
        ValueError: If an argument is out of range, see also `data.load` and
            `study.run`.
        TypeError: If an argument is of a wrong kind, or unknown, or if `data`
            are loaded already and there are several seeds.
        ImportError: If a package is missing.

    Example:
        >>> from cbam_keras import comparison, training
        >>> results = comparison.compare(
        ...     data="mnist5k", seeds=1, output=folder,
        ...     recipe=training.Recipe(epochs=1, batch_size=400),
        ... )  # doctest: +ELLIPSIS
        3,600 images of 10 classes (0, 1, 2, ...) in train, 400 in ...
        ...
        >>> [row.variant for row in results.rows]
        ['none', 'cbam']
        >>> verdict = results.verdict
    """
    planned = plan(
        attentions,
        stages=stages,
        instead_of=instead_of,
        model=model,
        weights=weights,
        data=data,
        recipe=recipe,
        layer_options=layer_options,
        data_options=data_options,
        seeds=seeds,
        folds=folds,
        measure=measure,
        threshold=threshold,
        task=task,
    )
    return run(
        planned,
        output,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        executor=executor,
        callbacks=callbacks,
    )


@_checks.named_with(recipes.find_place)
def plan(
    attentions: Attentions = DEFAULT,
    *,
    stages: str | Sequence[str] = ALL,
    instead_of: str | Sequence[str] | None = None,
    model: Network = "tiny",
    weights: str | None = None,
    data: Images = "crowded_mnist",
    recipe: Recipe | str | None = None,
    layer_options: Options | None = None,
    data_options: Options | None = None,
    seeds: int | Sequence[int] | None = None,
    folds: int | None = None,
    measure: str | Callable | None = None,
    threshold: str | None = None,
    task: ImageTask | str | None = None,
) -> Study:
    """Plans a comparison of one network without and with attention.

    Args:
        attentions, stages, instead_of, model, weights, data, recipe,
            layer_options, data_options, seeds, folds, measure, threshold,
            task: See `compare`.

    Returns:
        A `study.Study`, for `study.run` and `study.estimate`.

    Raises:
        ValueError: If an argument is out of range, see also `data.load`.
        TypeError: If an argument is of a wrong kind, or if `data` are
            loaded already and there are several seeds.
        ImportError: If a package for the data or the figures is missing.
    """
    # The figures at the end need it: it is checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    task = make_task(task, data, data_options, measure, threshold)
    folds = check_folds_of(task, folds)
    has_masks, model = isinstance(task, Segmentation), name_network(model, task)
    default = default_recipe(model, weights, task.data, has_masks)
    if isinstance(attentions, str):
        attentions = [attentions]
    controls = [x for x in attentions if x in (WIDER, HIDDEN)]
    attentions = [x for x in attentions if x not in controls]
    kinds = attention_layers(
        attentions, model_options(model), layer_options, has_masks
    )
    layers = _in_places(kinds, stages, model, instead_of)
    recipe = recipes.find_recipe(recipe, default)
    build, label = network_of(model, weights, recipe)
    settings: dict[str, object] = {"model": label, "weights": weights}
    variants, baseline = [], BASELINE if BASELINE in layers else None
    if instead_of is not None:
        if any(map(is_on_skips, layers)):
            raise ValueError(
                "`instead_of` must be left out with attention on skips. "
                f"Received: instead_of={instead_of!r}, attention={[*layers]}"
            )
        variants = [Variant(ORIGINAL, functools.partial(build, attention=None))]
        build = functools.partial(_in_place_of, build, instead_of)
        settings["instead_of"], baseline = instead_of, ORIGINAL
    for name, attention in layers.items():
        make = functools.partial(build, **{_place_of(name): attention})
        variants.append(Variant(name, make, _settings_of(attention)))
    others = [x for x in variants if layers.get(x.name) is not None]
    variants += [
        control(x, model, weights, recipe.starts_frozen, others)
        for x in controls
    ]
    return Study(
        task=task,
        variants=variants,
        seeds=_find_seeds(seeds, folds, recipe, task),
        recipe=recipe,
        baseline=baseline,
        settings=settings,
        kind="train",
        finish=_draw,
        folds=folds,
        question=f"Does attention improve the {task.noun} of the "
        f"network {label} on {task.name}?",
        options={
            **describe_weights(model, weights),
            **_describe_places(stages, instead_of),
            **(layer_options or {}),
            **recipes.describe_changes(recipe, default),
        },
    )


def describe_weights(model: Network, weights: str | None) -> Options:
    """Returns the weights of a network that is usually a pretrained one."""
    is_pretrained_network = (
        isinstance(model, str) and model.removeprefix(UNET) not in NETWORKS
    )
    return (
        {"weights": "random"} if is_pretrained_network and not weights else {}
    )


def _describe_places(stages, instead_of):
    """Returns where attention goes, if not where it goes by default."""
    options = {}
    places = [stages] if isinstance(stages, str) else [*stages]
    if places != [ALL]:
        options["stages"] = places
    if instead_of is not None:
        options["instead_of"] = instead_of
    return options


def name_network(model: Network, task: object) -> Network:
    """Returns the network for a task: with masks, a U-Net on that of a name."""
    is_encoder = isinstance(model, str) and not model.startswith(UNET)
    has_masks = isinstance(task, Segmentation)
    return f"{UNET}{model}" if has_masks and is_encoder else model


def make_task(
    task: object,
    data: Images,
    data_options: Options | None,
    measure: object,
    threshold: str | None = None,
) -> ImageTask:
    """Returns the task of a name and its data, or a task that is given."""
    if task is None or isinstance(task, str):
        _checks.one_of("task", task, (None, *TASKS))
        options = {"measure": measure, **(data_options or {})}
        if threshold is not None:
            options["threshold"] = threshold
        return TASKS[task or "classification"](data, **options)
    if not isinstance(task, ImageTask):
        raise TypeError(
            '`task` must be a word, such as "regression", or study.'
            "Classification, Regression or Segmentation. Received: task="
            f"{_checks.shown(task)}"
        )
    is_default = isinstance(data, str) and data == "crowded_mnist"
    if data_options or not is_default or threshold or measure is not None:
        raise ValueError(
            "`data`, `data_options`, `measure` and `threshold` must be left "
            f"out with `task`, which has them. Received: {data=}, "
            f"{data_options=}, {measure=}, {threshold=}"
        )
    return task


def _draw(results, folder):
    finish(results, folder)
    _files.write_figure(results.output / "comparison.png", results.plot())


def _find_seeds(seeds, folds, recipe, task):
    """Returns the seeds of a run; a single one is that of the recipe."""
    if seeds is None:
        seeds = SEEDS if folds is None and not task.is_loaded else 1
    checked = check_seeds(seeds)
    if len(checked) > 1 and task.is_loaded:
        raise TypeError(
            "`data` must not be loaded yet: each seed splits them "
            f'differently. Received: loaded images of "{task.name}"'
        )
    # A number of seeds, as 1, names none.
    is_named = isinstance(seeds, Sequence) or len(checked) > 1
    return checked if is_named else (recipe.seed,)


def network_of(
    model: Network, weights: str | None, recipe: Recipe
) -> tuple[Callable, str]:
    """Returns a function of a dataset and `attention`, and a label."""
    label, is_unet = model, isinstance(model, str) and model.startswith(UNET)
    if isinstance(model, str):
        model = model.removeprefix(UNET)
    if _checks.one_of("weights", weights, WEIGHTS) and model not in PRETRAINED:
        raise ValueError(
            "`weights` must be None unless `model` is the name of a network "
            f"that has them: {', '.join(PRETRAINED)}. Received: model="
            f"{model!r}, weights={weights!r}"
        )
    if isinstance(model, str):
        _checks.one_of("model", model, [*NETWORKS, *PRETRAINED])
        is_frozen = recipe.starts_frozen
        if is_frozen and weights is None:
            raise ValueError(
                "`frozen_epochs` must be 0, and `frozen` False, for random "
                "weights, which must not be frozen. Received: frozen_epochs="
                f"{recipe.frozen_epochs}, frozen={recipe.frozen}, "
                f'{model=}, weights=None. Give weights="imagenet" (--weights)'
            )
        if model in NETWORKS and not is_unet:
            return NETWORKS[model], str(label)
        make = segmenter if is_unet else classifier
        return functools.partial(make, model, weights, is_frozen), str(label)
    is_function = False
    with contextlib.suppress(TypeError):
        # A function without arguments cannot take `attention`.
        inspect.signature(model).bind(None)
        is_function = not hasattr(model, "call")
    if not is_function:
        raise TypeError(
            "`model` must be a name, or a function of `attention` that returns "
            f"a keras.Model. Received: model={_checks.shown(model)}"
        )
    label = getattr(model, "__name__", "")
    label = label if label.isidentifier() else "custom"
    function = model

    def of_function(images, attention=None, skip_attention=None):
        if skip_attention is None:
            return function(attention)
        return function(attention, skip_attention=skip_attention)

    return of_function, label


def _in_place_of(build, instead_of, images, attention=None):
    """Builds a network with an attention in place of gates, or without them."""
    return insert_attention(
        build(images, attention=None),
        attention or functools.partial(keras.layers.Activation, "linear"),
        identity=False,
        instead_of=instead_of,
    )


def model_options(model: object) -> dict[str, object]:
    """Returns options of attention layers that differ for one network."""
    # A ratio of 16 would leave 1, 1 and 2 units of 8, 16 and 32 channels.
    return {"reduction_ratio": 4} if model == "tiny" else {}


def default_recipe(
    model: object,
    weights: str | None = None,
    data: Images = "crowded_mnist",
    has_masks: bool = False,
) -> Recipe:
    """Returns what `recipe=None` means for a network, given by name or not."""
    if has_masks:
        recipe = recipes.RECIPES["segmentation"]
        if weights is None:
            epochs = recipe.total_epochs
            recipe = dataclasses.replace(recipe, epochs=epochs, frozen_epochs=0)
        return dataclasses.replace(recipe, least_steps=recipes.LEAST_STEPS)
    if weights is not None:
        return recipes.suit_to(
            data,
            recipes.RECIPES["fine-tuning"],
            recipes.LEAST_STEPS_PRETRAINED,
        )
    # This is the best of four rates, without attention and with.
    rate = 0.03 if model == "tiny" else 0.01
    few = {"cluttered_mnist": 3, "mnist5k": 2}
    epochs = few.get(data, 1) if isinstance(data, str) else 1
    recipe = Recipe(epochs=epochs, batch_size=64, learning_rate=rate)
    return recipes.suit_to(data, recipe)


def placements(
    stages: str | Sequence[str],
    model: Network,
    place: str = "attention",
    instead_of: str | Sequence[str] | None = None,
) -> list[str]:
    """Returns the stages of a network that are asked for, or raises."""
    asked = [stages] if isinstance(stages, str | int) else list(stages)
    asked = [x if x == EACH else check_stages(x) for x in asked]
    chosen = dict.fromkeys(asked)
    if [*chosen] != [ALL]:
        available = _list_stages(model, place, instead_of)
        numbers = [x for x in available if x != TOP]
        # A single stage is all.
        each = map(str, numbers if len(numbers) > 1 else [])
        lasts = (f"last {x}" for x in range(2, len(numbers)))
        every = [ALL, *each, *lasts]
        if TOP in available:
            every.append(TOP)
        chosen = {
            x: choose_stages(x, available)
            for asked in chosen
            for x in (every if asked == EACH else [asked])
        }
    if len({str(x) for x in chosen.values()}) < len(chosen) or not chosen:
        raise ValueError(
            "`stages` must be one or several different choices of stages. "
            f"Received: stages={stages!r}"
        )
    return list(chosen)


def _list_stages(model, place, instead_of):
    """Returns the stages of a network that can have attention."""
    build, _ = network_of(model, None, Recipe())
    if instead_of is not None:
        build = functools.partial(_in_place_of, build, instead_of)
    # The stages do not depend on size and classes.
    images = types.SimpleNamespace(input_shape=(224, 224, 3), output_shape=(2,))
    try:
        build(images, **{place: Attention("se", stages="0")})
    except StageError as error:
        return error.available
    raise ValueError(
        "`stages` need a network that passes `attention` to a builder of "
        "cbam_keras.models or to insert_attention. Received: "
        f"model={model!r}, which ignores them"
    )


def _in_places(layers, stages, model, instead_of):
    """Returns each kind in each choice of stages, by its name."""
    places = dict.fromkeys(map(_place_of, layers))
    choices = {x: placements(stages, model, x, instead_of) for x in places}
    every = {}
    for name, attention in layers.items():
        if attention is None:
            every[name] = attention
            continue
        for choice in choices[_place_of(name)]:
            kind = dataclasses.replace(attention, stages=choice)
            every[SKIP * is_on_skips(name) + kind.name] = kind
    return every


def _place_of(name):
    """Returns the argument of a network that takes attention of this name."""
    return "skip_attention" if is_on_skips(name) else "attention"


def _settings_of(attention):
    if attention is None:
        return {}
    stages = {"stages": attention.stages}
    return attention.arguments | (stages if attention.stages != ALL else {})
