"""The plans of the studies: networks without and with attention."""

import collections
import dataclasses
import functools
import importlib
import types

import keras
import numpy as np
from PIL import Image

from benchmarks import networks
from benchmarks.when_it_helps import results
from cbam_keras import CBAM, VARIANTS, comparison, data, models, study
from cbam_keras.study import RECIPES, Recipe

KINDS = ("none", "se", "spatial", "cbam", "eca", "coordinate")
NETWORK, WEIGHTS = "EfficientNetLite0", "imagenet"
# These end the names of studies of the plain network alone, for more epochs. No
# wider network has trained weights.
LONGER = ("-longer", "-16-epochs", "-20-epochs")
# As many weights as CBAM: 22,843 besides the classifier, where it has 20,885.
RANK = 1
# Units of a hidden layer with as many weights as CBAM in all blocks.
FEW_HIDDEN = 26
# The classes of CamVid.
STREETS = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign"),
    *("fence", "car", "pedestrian", "cyclist"),
)
# About half the size of its photographs.
STREET_SIZE = (96, 128)


def kinds(plan, *more, **arguments):
    """Plans no attention, each kind, CBAM from the paper's start, and more."""
    planned = plan((*KINDS, "cbam-paper"), **arguments)
    variants = [*planned.variants, *more]
    return dataclasses.replace(planned, variants=variants)


def wider(width, stem, images):
    """Returns the network `"small"` or `"tiny"` with 25% more channels."""
    x = keras.layers.Rescaling(1 / 255)(keras.Input(images.image_shape))
    classes = len(images.class_names)
    return networks.tiny(width, stem=stem, input_tensor=x, classes=classes)


def longer(plan, epochs, folder):
    """Plans the network without attention alone, for more epochs."""
    planned = plan(folder)
    recipe = dataclasses.replace(planned.recipe, epochs=epochs)
    none = planned.variants[:1]
    return dataclasses.replace(planned, variants=none, recipe=recipe)


def from_scratch(data, width, stem, **arguments):
    wide = study.Variant("none-wide", functools.partial(wider, width, stem))
    options = {"reduction_ratio": 4}
    plan = functools.partial(comparison.plan, layer_options=options)
    return kinds(plan, wide, data=data, **arguments)


def cifar10(folder):
    recipe = dataclasses.replace(RECIPES["small_images"], epochs=15)
    options = {"model": "small", "recipe": recipe, "seeds": 3}
    return from_scratch(folder / "cifar10", 20, "small", **options)


def official(name):
    """The layer as its authors published it, with the ratio of the others."""
    return CBAM(**{**VARIANTS["official"], "reduction_ratio": 4}, name=name)


def again(plan, folder):
    """Plans what pages compare, after a change of how networks are trained."""
    planned = plan(folder)
    names = ("none", "se", "cbam", "coordinate")
    variants = [x for x in planned.variants if x.name in names]
    return dataclasses.replace(planned, variants=variants)


def cifar10_again(folder):
    """Plans new seeds of CIFAR-10, and the authors' layer."""
    planned = again(cifar10, folder)
    other = comparison.plan((official,), model="small", data=planned.task.data)
    variants = [*planned.variants, *other.variants]
    return dataclasses.replace(planned, variants=variants, seeds=range(10, 18))


def cifar10_equal_time(folder):
    """Plans CBAM for 15 epochs, with seeds that no study has used.

    `longer` plans no attention for 20 epochs with the same seeds, which takes
    as much time.
    """
    planned = cifar10(folder)
    variants = [x for x in planned.variants if x.name in ("none", "cbam")]
    return dataclasses.replace(planned, variants=variants, seeds=range(20, 25))


def cifar10_converged(folder):
    """Plans no attention, CBAM and coordinate attention, four times as long."""
    planned = cifar10(folder)
    recipe = dataclasses.replace(planned.recipe, epochs=60)
    names = ("none", "cbam", "coordinate")
    variants = [x for x in planned.variants if x.name in names]
    return dataclasses.replace(
        planned, variants=variants, recipe=recipe, seeds=range(5)
    )


def drawn(data, folder):
    recipe = Recipe(epochs=2, batch_size=64, learning_rate=0.03)
    return from_scratch(data, 10, "strided", recipe=recipe, seeds=5)


def stages(folder):
    """Plans CBAM in each set of the three stages of the network."""
    recipe = Recipe(epochs=2, batch_size=64, learning_rate=0.03)
    return comparison.plan(
        ("none", "cbam"),
        stages=("all", "1", "2", "3", "1,2", "1,3", "2,3"),
        recipe=recipe,
        seeds=10,
    )


def fine_tuning(data, **options):
    recipe = dataclasses.replace(RECIPES["fine-tuning"], image_size=96)
    plan = functools.partial(comparison.plan, model=NETWORK, weights=WEIGHTS)
    return kinds(plan, data=data, recipe=recipe, **options)


def photographs(folder):
    """Plans fine-tuning on 200 photographs of each class, tested on 200."""
    splits = []
    for split in ("train", "test"):
        classes = sorted((folder / "cifar10" / split).iterdir())
        paths = [path for x in classes for path in sorted(x.iterdir())[:200]]
        images = np.stack([np.asarray(Image.open(path)) for path in paths])
        splits.append((images, np.repeat(np.arange(len(classes)), 200)))
    return fine_tuning(splits, seeds=5)


def photographs_chosen(folder):
    """Plans CBAM and no attention, each at the rate that each run chooses.

    The rates are a third of the one of `photographs`, that one, and three times
    it, to see whether one rate for both is unfair to one of them.
    """
    planned = photographs(folder)
    rates = (3e-4, 1e-3, 3e-3)
    recipe = dataclasses.replace(planned.recipe, learning_rate=rates)
    variants = [x for x in planned.variants if x.name in ("none", "cbam")]
    return dataclasses.replace(
        planned, variants=variants, recipe=recipe, seeds=range(20, 23)
    )


def photographs_one_rate(folder):
    """Plans the same networks and seeds, all at the rate of `photographs`.

    What changes from this to `photographs_chosen` comes from the rates.
    """
    planned = photographs_chosen(folder)
    recipe = dataclasses.replace(planned.recipe, learning_rate=1e-3)
    return dataclasses.replace(planned, recipe=recipe)


def frozen(attention):
    """Builds the pretrained network, of which only what is new is trained."""
    images = types.SimpleNamespace(input_shape=(96, 96, 3), output_shape=(10,))
    return models.classifier(NETWORK, WEIGHTS, True, images, attention)


def with_batch_norm(images):
    """Builds it with the batch normalization of all its layers trained, too."""
    model = frozen(None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = True
    return model


@keras.saving.register_keras_serializable("benchmarks")
class FixedNorm(keras.layers.BatchNormalization):
    """Normalizes by its moving averages in training, too."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


def with_affine(images):
    """Builds it with the factors and offsets of these layers trained alone."""
    model = frozen(None)

    def clone(layer):
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        kind = FixedNorm if is_norm else type(layer)
        copy = kind.from_config(layer.get_config())
        copy.trainable = is_norm or layer.trainable
        return copy

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def with_lora(rank, images):
    """Builds it with a product of `rank` added to each kernel but depthwise.

    Hu et al., 2021 (https://arxiv.org/abs/2106.09685), by Keras' own layers.
    """
    model = frozen(None)
    for layer in model.layers:
        if type(layer) is keras.layers.Conv2D:
            layer.trainable = True
            layer.enable_lora(rank)
    return model


def with_hidden(units, images):
    """Builds it with a hidden layer before its classifier."""
    return models.hidden_network(NETWORK, WEIGHTS, True, images, units)


def photographs_frozen(folder):
    """Plans what a few weights do for a network that stays frozen."""
    recipe = Recipe(
        epochs=4, learning_rate=1e-3, augment=("flip",), image_size=96
    )
    planned = comparison.plan(
        ("none", "se", "cbam", "eca"),
        model=frozen,
        data=photographs(folder).task.data,
        recipe=recipe,
        seeds=5,
    )
    others = [
        study.Variant("batch-norm", with_batch_norm),
        study.Variant("affine", with_affine),
        study.Variant("lora", functools.partial(with_lora, RANK)),
    ]
    variants = [*planned.variants, *others]
    return dataclasses.replace(planned, variants=variants)


def photographs_frozen_chosen(folder):
    """Plans the same with learning rates that each run chooses.

    Without augmentation, so that the features of what needs no more than
    those are computed once.
    """
    recipe = dataclasses.replace(RECIPES["frozen"], epochs=4, image_size=96)
    planned = comparison.plan(
        ("none", "se", "cbam", "coordinate"),
        model=frozen,
        data=photographs(folder).task.data,
        recipe=recipe,
        seeds=5,
    )
    others = [
        study.Variant("hidden", functools.partial(with_hidden, FEW_HIDDEN)),
        study.Variant("affine", with_affine),
        study.Variant("lora", functools.partial(with_lora, RANK)),
    ]
    variants = [*planned.variants, *others]
    return dataclasses.replace(planned, variants=variants)


def solar_cells(folder):
    """Returns solar cells that have a defect, or certainly not."""
    images, chances, _ = importlib.import_module(
        "elpv_dataset.utils"
    ).load_dataset()
    known = (chances == 0) | (chances == 1)
    small = [Image.fromarray(x).resize((96, 96)) for x in images[known]]
    return np.stack(small), chances[known].astype(int)


def cells(folder):
    return fine_tuning(solar_cells(folder), folds=5)


def some(images, labels):
    """Returns the first 200 images of each of ten classes."""
    rows = [np.flatnonzero(labels.ravel() == x)[:200] for x in range(10)]
    return images[np.concatenate(rows)], np.repeat(np.arange(10), 200)


def some_photographs(folder):
    paths = sorted((folder / "cifar10" / "train").glob("*/*"))
    names = [path.parent.name for path in paths]
    labels = np.unique(names, return_inverse=True)[1]
    kept, labels = some(np.array(paths), labels)
    return np.stack([np.asarray(Image.open(x)) for x in kept]), labels


def some_clothes(folder):
    return some(*keras.datasets.fashion_mnist.load_data()[0])


def some_digits(folder):
    return some(*data.load("mnist5k", batch_size=None).train)


# Behind the last feature map of a frozen network, where `cbam` has 206,000
# weights: a hidden layer, and an added product of two matrices, of as many, and
# the factors and offsets of the last normalization.
HIDDEN, TOP_RANK = 160, 80
TOP = ("none", "se", "cbam", "channel", "spatial", "eca", "coordinate")


def top_network(images, change=None, hidden=0):
    """Builds a frozen network with one more layer at the top of it."""
    network = models.pretrained(NETWORK, WEIGHTS, images.image_shape)
    network.trainable = False
    x = network.output if change is None else change(network)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    if hidden:
        x = keras.layers.Dense(hidden, "relu", name="hidden")(x)
    x = keras.layers.Dense(
        len(images.class_names),
        "softmax",
        kernel_initializer="he_normal",
        name="predictions",
    )(x)
    return keras.Model(network.input, x)


def low_rank(network):
    """Adds a product of two matrices, which starts at zero, to features."""
    x = network.output
    y = keras.layers.Dense(TOP_RANK, use_bias=False, name="down")(x)
    zeros = {"kernel_initializer": "zeros", "use_bias": False}
    y = keras.layers.Dense(x.shape[-1], name="up", **zeros)(y)
    return keras.layers.Add(name="added")([x, y])


def top_affine(network):
    """Trains factors and offsets of the last normalization alone."""
    norm = next(
        layer
        for layer in reversed(network.layers)
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    copy = FixedNorm.from_config(norm.get_config() | {"trainable": True})
    x = copy(norm.input)
    copy.set_weights(norm.get_weights())
    return keras.layers.ReLU(6.0, name="top_relu")(x)


CONTROLS = {
    "hidden": {"hidden": HIDDEN},
    "low-rank": {"change": low_rank},
    "last-affine": {"change": top_affine},
}
RATES = (1e-3, 3e-3, 1e-2)


def top(load, folder, rates=None):
    """Plans one layer on top of a frozen network, 30 times: seeds and folds.

    The learning rates are those of the best validation images in the study
    `top_rates`, with other seeds.
    """
    recipe = dataclasses.replace(
        RECIPES["frozen"], epochs=5, image_size=96, learning_rate=RATES[1]
    )
    planned = comparison.plan(
        TOP,
        stages="top",
        model=NETWORK,
        weights=WEIGHTS,
        data=load(folder),
        recipe=recipe,
        seeds=6,
        folds=5,
    )
    controls = [
        study.Variant(name, functools.partial(top_network, **options))
        for name, options in CONTROLS.items()
    ]
    variants = [
        dataclasses.replace(x, learning_rate=(rates or {}).get(x.name))
        for x in (*planned.variants, *controls)
    ]
    return dataclasses.replace(planned, variants=variants)


def top_rates(load, folder):
    """Plans to choose the learning rates of `top`, each as often."""
    planned = top(load, folder)
    variants = [
        dataclasses.replace(x, name=f"{x.name}@{rate:g}", learning_rate=rate)
        for x in planned.variants
        for rate in RATES
    ]
    return dataclasses.replace(
        planned, variants=variants, baseline=None, seeds=(100, 101), folds=None
    )


def top_tuned(name, load, folder):
    """Plans `top` with the rates that `top_rates` has found."""
    scores = collections.defaultdict[str, list](list)
    for network in results.stored()[f"{name}-rates"]["networks"]:
        score = network["metrics"]["val_accuracy"]
        scores[network["variant"]].append(score)
    best: dict[str, tuple[float, float]] = {}
    for variant, values in scores.items():
        arm, rate = variant.split("@")
        found = float(np.mean(values)), float(rate)
        best[arm] = max(best.get(arm, found), found)
    return top(load, folder, {arm: rate for arm, (_, rate) in best.items()})


def top_chosen(load, folder):
    """Plans `top` with learning rates that each run chooses, in 20 epochs."""
    planned = top(load, folder)
    recipe = dataclasses.replace(RECIPES["frozen"], image_size=96)
    return dataclasses.replace(planned, recipe=recipe)


def habit(load, folder):
    """Plans what public code does: then the last 30 layers at 1e-5."""
    planned = top(load, folder)
    recipe = dataclasses.replace(
        planned.recipe,
        frozen=False,
        frozen_epochs=5,
        epochs=5,
        learning_rate=1e-4,
        unfreeze=30,
    )
    names = "none", "cbam-top", "hidden"
    variants = [x for x in planned.variants if x.name in names]
    return dataclasses.replace(
        planned, variants=variants, recipe=recipe, seeds=(0,)
    )


def blood(folder):
    # The others need no detectors.
    from examples.detection import task

    return kinds(
        task.plan,
        backbone=NETWORK,
        weights=WEIGHTS,
        data=folder / "bccd",
        recipe=Recipe(
            frozen_epochs=3,
            epochs=12,
            batch_size=8,
            learning_rate=2e-3,
            image_size=(192, 256),
            augment=("flip",),
        ),
        seeds=3,
    )


def street_unet(attention, skip_attention=None, multiplier=1):
    """Returns a U-Net on a frozen network, with a narrow decoder for a CPU."""
    encoder = models.pretrained(NETWORK, WEIGHTS, (*STREET_SIZE, 3))
    encoder.trainable = False
    return models.UNet(
        encoder,
        len(STREETS),
        attention=attention,
        skip_attention=skip_attention,
        decoder_widths=[int(multiplier * x) for x in (64, 48, 32, 24, 16)],
    )


def streets(folder):
    photographs = folder / "camvid"
    recipe = dataclasses.replace(
        RECIPES["segmentation"],
        image_size=STREET_SIZE,
        # "balanced" makes buildings and roads worse.
        class_weight="sqrt",
    )
    planned = comparison.plan(
        ["none", "se", "cbam", "eca", "coordinate", "skip-gate"],
        task=study.Segmentation(
            photographs,
            "{split}/labels/{name}.png",
            images="{split}/images/{name}.jpg",
            class_names=[*STREETS],
            ignore_index=len(STREETS),
        ),
        model=street_unet,
        recipe=recipe,
        layer_options={"reduction_ratio": 4},
        seeds=3,
    )
    wide = study.Variant(
        "none-wide", lambda images: street_unet(None, multiplier=1.25)
    )
    variants = [*planned.variants, wide]
    return dataclasses.replace(planned, variants=variants)


TOPS = {
    "top-solar-cells": solar_cells,
    "top-photographs": some_photographs,
    "top-clothes": some_clothes,
    "top-digits": some_digits,
}
PLANS = {
    **{f"{x}-rates": functools.partial(top_rates, y) for x, y in TOPS.items()},
    **{x: functools.partial(top_tuned, x, y) for x, y in TOPS.items()},
    **{f"{x}-habit": functools.partial(habit, y) for x, y in TOPS.items()},
    **{
        f"{x}-chosen": functools.partial(top_chosen, y) for x, y in TOPS.items()
    },
    "photographs": photographs,
    "photographs-chosen": photographs_chosen,
    "photographs-one-rate": photographs_one_rate,
    "photographs-frozen": photographs_frozen,
    "photographs-frozen-chosen": photographs_frozen_chosen,
    "photographs-frozen-chosen-20-epochs": functools.partial(
        longer, photographs_frozen_chosen, 20
    ),
    "photographs-longer": functools.partial(longer, photographs, 5),
    "solar-cells": cells,
    "solar-cells-longer": functools.partial(longer, cells, 5),
    "photographs-again": functools.partial(again, photographs),
    "photographs-again-longer": functools.partial(longer, photographs, 5),
    "solar-cells-again": functools.partial(again, cells),
    "solar-cells-again-longer": functools.partial(longer, cells, 5),
    "bccd": blood,
    "bccd-longer": functools.partial(longer, blood, 14),
    "camvid": streets,
    "cifar10": cifar10,
    "cifar10-longer": functools.partial(longer, cifar10, 23),
    "cifar10-again": cifar10_again,
    "cifar10-again-longer": functools.partial(longer, cifar10_again, 23),
    "cifar10-16-epochs": functools.partial(longer, cifar10, 16),
    "cifar10-20-epochs": functools.partial(longer, cifar10, 20),
    "cifar10-again-16-epochs": functools.partial(longer, cifar10_again, 16),
    "cifar10-again-20-epochs": functools.partial(longer, cifar10_again, 20),
    "cifar10-equal-time": cifar10_equal_time,
    "cifar10-equal-time-20-epochs": functools.partial(
        longer, cifar10_equal_time, 20
    ),
    "cifar10-converged": cifar10_converged,
    "digits-stages": stages,
    "digits": functools.partial(drawn, "crowded_mnist"),
    "fashion": functools.partial(drawn, "fashion_mnist"),
}
