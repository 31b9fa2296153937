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


@pytest.mark.every_backend
@pytest.mark.parametrize("dice", [0, 0.7])
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize(
    ("units", "weight"), [(3, THREE), (3, None), (2, TWO), (1, TWO), (1, None)]
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
