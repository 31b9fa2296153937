"""Weights of classes and losses: a step against its formula, and errors."""

import functools
import types

import keras
import numpy as np
import pytest
from data_checks import arrays
from networks import linear

from cbam_keras import data, study, training
from cbam_keras.study.plans import networks
from cbam_keras.study.plans.recipes import class_weights

pytestmark = pytest.mark.usefixtures("eagerly")

# One step over all training images, by the plain gradient.
STEP = training.Recipe(
    epochs=1,
    batch_size=200,
    learning_rate=0.5,
    weight_decay=0,
    optimizer="sgd",
    momentum=0,
    schedule="step",
)
RARE = arrays(per_class=[40, 20, 10], classes=3)
TWO = arrays(per_class=[40, 12], classes=2)


def network(data, classes, activation):
    shape = data.image_shape
    return linear(activation=activation, classes=classes, shape=shape)


def trained(folder, given, classes, activation, fold=None, **options):
    """Trains a step; returns the data, the weights before, and the outcome."""
    recipe = training.Recipe(**{**vars(STEP), **options})
    folds = None if fold is None else 2
    build = functools.partial(network, classes=classes, activation=activation)
    planned = study.Study(
        task=study.Classification(given),
        variants=[study.Variant("linear", build)],
        recipe=recipe,
        folds=folds,
    )
    outcome = study.run(planned, folder).runs[fold or 0]
    seed = planned.recipe_for(None, outcome.run).seed
    where = {} if fold is None else {"folds": folds, "fold": fold}
    loaded = data.load(given, batch_size=200, **where)
    keras.utils.set_random_seed(seed)
    model = build(loaded)
    networks.draw_values(networks.find_drawn(model), seed)
    before = model.get_weights()
    after = keras.saving.load_model(folder / outcome.file).get_weights()
    return loaded, before, after, outcome


def forward(images, weights):
    """Returns features and probabilities of the linear network."""
    count, height, width, channels = images.shape
    x = images[:, : height // 7 * 7, : width // 7 * 7] / 255
    x = x.reshape(count, height // 7, 7, width // 7, 7, channels)
    features = x.mean(axis=(2, 4)).reshape(count, -1)
    logits = features @ weights[0] + weights[1]
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    powers = np.exp(logits)
    return features, powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("given", "outputs", "activation", "options"),
    [
        (RARE, 3, "softmax", {"class_weight": "balanced"}),
        (RARE, 3, None, {"class_weight": "sqrt"}),
        (TWO, 1, "sigmoid", {"class_weight": "balanced"}),
        (RARE, 3, "softmax", {"class_weight": "sqrt", "fold": 1}),
    ],
    ids=["balanced", "sqrt", "sigmoid", "fold"],
)
def test_a_step_is_that_of_the_weighted_loss(
    given, outputs, activation, options, tmp_path
):
    compute = pytest.importorskip("sklearn.utils.class_weight")
    loaded, before, after, outcome = trained(
        tmp_path, given, outputs, activation, **options
    )
    classes = np.arange(len(loaded.class_names))
    in_training = loaded.train.examples.labels
    weights = compute.compute_class_weight(
        "balanced", classes=classes, y=in_training
    )
    if options["class_weight"] == "sqrt":
        weights = weights**0.5
    images, labels = loaded.train[0]
    labels = np.eye(len(classes))[labels]
    features, found = forward(images, before)
    # The mean over the images of the gradient by the logits.
    errors = (found - labels) * (labels @ weights)[:, None] / len(images)
    errors = errors if outputs > 1 else errors[:, 1:]
    for value, start, gradient in zip(
        after, before, (features.T @ errors, errors.sum(axis=0)), strict=True
    ):
        # Sums in float32.
        np.testing.assert_allclose(value, start - 0.5 * gradient, atol=1e-5)
    # Validation is not weighted.
    images, labels = loaded.validation[0]
    found = forward(images, after)[1]
    (row,) = outcome.history
    losses = -np.log(found[np.arange(len(labels)), labels])
    assert row["val_loss"] == pytest.approx(losses.mean(), abs=1e-5)
    right = np.mean(found.argmax(axis=1) == labels)
    assert row["val_accuracy"] == pytest.approx(right)


def smoothed(p, y):
    """Returns the crossentropy with a fifth of each label for all classes."""
    return -((0.8 * y + 0.2 / y.shape[1]) * np.log(p)).sum(axis=1)


def focal(p, y):
    right = (p * y).sum(axis=1)
    return -((1 - right) ** 2) * np.log(right)


SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("given", "outputs", "activation", "loss", "formula"),
    [
        # The usual weight of Keras for several classes is 0.25.
        (RARE, 3, None, "focal", lambda p, y: 0.25 * focal(p, y)),
        (TWO, 1, "sigmoid", "focal", focal),
        (RARE, 3, "softmax", 0.2, smoothed),
        (TWO, 1, None, 0.2, smoothed),
        (RARE, 3, "softmax", SPARSE, lambda p, y: -np.log(p[y == 1])),
    ],
    ids=["focal", "focal-1", "smoothing", "smoothing-1", "sparse"],
)
def test_a_loss_is_that_of_its_formula(
    given, outputs, activation, loss, formula, tmp_path
):
    loaded, _, after, outcome = trained(
        tmp_path, given, outputs, activation, loss=loss
    )
    images, labels = loaded.validation[0]
    p = forward(images, after)[1]
    expected = formula(p, np.eye(p.shape[1])[labels]).mean()
    assert outcome.val_loss == pytest.approx(expected, abs=1e-5)


def test_a_changed_loss_or_layer_is_noticed(tmp_path):
    def train(gamma, zoom):
        layer = keras.layers.RandomZoom(zoom)
        loss = keras.losses.CategoricalFocalCrossentropy(gamma=gamma)
        options = {"loss": loss, "augment": ["flip", layer]}
        trained(tmp_path, RARE, 3, "softmax", **options)

    # A layer of the same arguments has another name.
    train(2, 0.1)
    train(2, 0.1)
    with pytest.raises(ValueError, match="loss.config.gamma was 2, is 3"):
        train(3, 0.1)
    with pytest.raises(ValueError, match="height_factor was 0.1, is 0.2"):
        train(2, 0.2)


# A task of the user's, and labels that are read with the images.
@pytest.mark.parametrize("loaded", [{"class_counts": [2]}, {"boxes": False}])
def test_what_cannot_be_weighted_is_refused(loaded):
    loaded = types.SimpleNamespace(name="own", **loaded)
    with pytest.raises(ValueError, match='one class for each.* for "own"'):
        class_weights(loaded, training.Recipe(class_weight="balanced"))
