"""Which test images networks are right about: kept, compared, counted."""

import functools

import keras
import numpy as np
import pytest
from folder_checks import killed_at
from networks import linear
from study_checks import NARROW, planned

from cbam_keras import data, study

# Two classes, of which untrained networks get some right.
IMAGES = np.random.default_rng(0).integers(0, 256, (90, 7, 7, 1), "uint8")
TWO = (IMAGES, np.arange(90) % 2)


def bits(path, images):
    return np.unpackbits(np.load(path))[:images].astype(bool)


@pytest.mark.usefixtures("brighter_digits")
def test_each_network_has_a_bit_per_test_image_also_after_a_resume(tmp_path):
    run = functools.partial(study.run, output=tmp_path)
    with killed_at("narrow.keras", tmp_path):
        run(planned(NARROW))
    run(planned(NARROW))
    first = (tmp_path / "narrow.correct.npy").read_bytes()
    results = run(planned(NARROW, seeds=(0, 1)))
    names = {path.name for path in tmp_path.glob("*.correct.npy")}
    assert names == {f"narrow-seed{seed}.correct.npy" for seed in (0, 1)}
    assert (tmp_path / "narrow-seed0.correct.npy").read_bytes() == first
    images, labels = data.load("mnist5k", batch_size=None).test
    for outcome in results.outcomes:
        model = keras.saving.load_model(tmp_path / outcome.file)
        outputs = model.predict(images.astype("float32"), verbose=0)
        path = tmp_path / outcome.file.replace(".keras", ".correct.npy")
        assert np.load(path).dtype == "uint8"
        is_right = outputs.argmax(axis=1) == labels
        np.testing.assert_array_equal(bits(path, len(labels)), is_right)
        assert is_right.mean() == outcome.test_accuracy


@pytest.mark.parametrize(
    ("classes", "activation"),
    [(1, "sigmoid"), (1, None), (2, "softmax"), (2, None)],
)
def test_images_are_right_as_the_accuracy_counts(classes, activation):
    model = linear(activation=activation, classes=classes, shape=(7, 7, 1))
    task = study.Classification(TWO)
    recipe = study.Recipe(epochs=1, class_weight="balanced")
    loaded = task.load(recipe)
    task.compile(model, recipe, loaded)
    correct = task.find_correct(model, loaded)
    assert 0 < correct.mean() == task.evaluate(model, loaded)["test_accuracy"]
    outputs = model.predict(loaded.test, verbose=0)
    half = 0 if activation is None else 0.5
    expected = outputs.argmax(axis=1) if classes == 2 else outputs[:, 0] > half
    np.testing.assert_array_equal(
        correct, expected == loaded.test.examples.labels
    )
