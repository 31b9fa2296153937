"""The loss of masks against a formula, and that against PyTorch."""

import keras
import numpy as np
import pytest

from cbam_keras import explain, losses

special = pytest.importorskip("scipy.special")

THREE, TWO = (0.5, 2.0, 3.0), (0.5, 2.0)
RNG = np.random.default_rng(0)
MASKS, LOGITS = RNG.integers(0, 3, (2, 4, 3)), RNG.normal(size=(2, 4, 3, 3))
MASKS[RNG.random(MASKS.shape) < 0.2] = 255


def by_formula(masks, outputs, from_logits, weight, dice):
    """Returns the loss, and its gradient by differences."""

    def loss(outputs):
        to_probabilities = special.expit if units == 1 else special.softmax
        options = {} if units == 1 else {"axis": 1}
        p = to_probabilities(outputs, **options) if from_logits else outputs
        p = np.hstack([1 - p, p]) if units == 1 else p
        y = np.eye(p.shape[1])[masks[known]]
        w = y @ (weight or np.ones(p.shape[1]))
        scores = 2 * (p * y).sum(0) / (p + y).sum(0)
        scores = scores[1:] if len(scores) == 2 else scores[y.any(0)]
        crossentropy = -(w * np.log((p * y).sum(1))).sum() / w.sum()
        return crossentropy + dice * (1 - scores.mean())

    known, units = masks != 255, outputs.shape[-1]
    steps = 1e-6 * np.eye(outputs.size).reshape(-1, *outputs.shape)
    pairs = [((outputs + x)[known], (outputs - x)[known]) for x in steps]
    changes = [loss(more) - loss(less) for more, less in pairs]
    return loss(outputs[known]), np.reshape(changes, outputs.shape) / 2e-6


@pytest.mark.parametrize("dice", [0, 0.7])
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize(
    ("units", "weight"),
    [
        (3, THREE),
        (3, None),
        (2, TWO),
        (1, TWO),
        (1, None),
    ],
)
def test_a_loss_and_its_gradient(units, weight, from_logits, dice):
    def run(watch):
        x = watch(keras.ops.convert_to_tensor(outputs, "float32"))
        return loss(masks, x), x

    masks = MASKS if units == 3 else np.where(MASKS == 2, 0, MASKS)
    outputs = LOGITS[..., :units]
    if not from_logits:
        outputs = special.softmax(LOGITS, axis=-1)[..., :units]
    loss = losses.PixelCrossentropy(255, weight, dice, from_logits)
    loss = keras.losses.deserialize(keras.losses.serialize(loss))
    expected = by_formula(masks, outputs, from_logits, weight, dice)
    _, found = explain.gradient_at(run, outputs.shape)
    assert float(run(lambda x: x)[0]) == pytest.approx(expected[0], abs=1e-5)
    found = keras.ops.convert_to_numpy(found)
    # Float32, of values up to ten.
    np.testing.assert_allclose(found, expected[1], rtol=1e-4, atol=1e-5)
    masks = np.full_like(masks, 255)
    assert float(run(lambda x: x)[0]) == 0


@pytest.mark.needs_torch
def test_the_formula_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    x = torch.tensor(LOGITS, requires_grad=True)
    weight = torch.tensor(THREE, dtype=x.dtype)
    loss = torch.nn.CrossEntropyLoss(weight, ignore_index=255)
    expected = loss(torch.moveaxis(x, -1, 1), torch.tensor(MASKS))
    expected.backward()
    found, gradient = by_formula(MASKS, LOGITS, True, THREE, 0)
    assert found == pytest.approx(expected.item())
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-8)


ONES = np.ones((2, 4, 3))
FOCAL = keras.losses.CategoricalFocalCrossentropy(1, 0, from_logits=True)
HALF = (np.arange(3) < 1) * ONES


@pytest.mark.parametrize("dice", [0, 0.7])
@pytest.mark.parametrize(
    ("options", "weight", "expected"),
    [
        ({"class_weight": np.array(THREE)}, ONES[:, 0, 0], (THREE, ONES)),
        # Focal crossentropy that has no focus.
        ({"class_weight": THREE, "loss": FOCAL}, None, (THREE, ONES)),
        ({"reduction": "mean"}, HALF[..., None], (None, HALF)),
        ({}, np.array([1, 0]), (None, ONES * [[[1]], [[0]]])),
    ],
)
def test_weights_are_those_of_pixels(options, weight, expected, dice):
    options = {"dice_weight": dice, "from_logits": True, **options}
    loss = losses.PixelCrossentropy(**options)
    loss = keras.losses.deserialize(keras.losses.serialize(loss))
    of_classes, of_pixels = expected
    kept = np.where(of_pixels > 0, MASKS, 255)
    value, _ = by_formula(kept, LOGITS, True, of_classes, dice)
    for masks in (MASKS, MASKS[..., None], MASKS.tolist()):
        found = loss(masks, LOGITS.astype("float32"), weight)
        assert float(found) == pytest.approx(value, abs=1e-5)
    metric, other = losses.PixelIoU(3), losses.PixelIoU(3)
    metric.update_state(MASKS[..., None], LOGITS, weight)
    other.update_state(kept, LOGITS)
    assert float(metric.result()) == pytest.approx(float(other.result()))


def test_reductions_are_those_of_keras():
    kinds = ("none", "sum")
    both = [losses.PixelCrossentropy(reduction=kind) for kind in kinds]
    pixels, total = (loss(MASKS, LOGITS) for loss in both)
    assert pixels.shape == MASKS.shape
    assert float(keras.ops.sum(pixels)) == pytest.approx(float(total))


@pytest.mark.parametrize("label", [3, -1, 254])
def test_labels_that_are_no_class_give_nan(label):
    masks = np.where(MASKS == 0, label, MASKS)
    assert np.isnan(float(losses.PixelCrossentropy()(masks, LOGITS)))
    metric = losses.PixelIoU(3)
    metric.update_state(masks, LOGITS)
    assert np.isnan(float(metric.result()))


@pytest.mark.every_backend
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_network_is_trained_on_masks_of_all_shapes():
    dense = keras.layers.Dense(3, "softmax", kernel_initializer="identity")
    model = keras.Sequential([keras.Input((None, None, 3)), dense])
    loss = losses.PixelCrossentropy()
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=[losses.PixelIoU(3)])
    expected = float(loss(MASKS, special.softmax(LOGITS, -1), HALF))
    for masks in (MASKS, MASKS[..., None]):
        logs = model.fit(LOGITS, masks, 2, sample_weight=HALF, verbose=0)
        assert logs.history["loss"][0] == pytest.approx(expected, abs=1e-5)
    # 255 is ignored, though nothing but it may be the foreground.
    metric = losses.PixelIoU(2)
    metric.update_state(np.where(MASKS > 0, 255, 0), LOGITS[..., :2])
    with pytest.warns(UserWarning, match="pass masks // 255"):
        metric.result()


def test_losses_of_earlier_versions_load():
    loss = losses.PixelCrossentropy(reduction="sum_over_batch_size", name="x")
    assert loss.get_config()["reduction"] == "mean_with_sample_weight"
    config = {"name": "miou", "dtype": "float32", "classes": 3, "score": "miou"}
    config |= {"ignore_index": 9, "from_logits": False}
    assert losses.PixelIoU.from_config(config).get_config() == config
