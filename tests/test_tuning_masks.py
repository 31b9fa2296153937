"""A search on masks: attention in the decoder of a U-Net, and on its skips."""

import itertools

import networks
import numpy as np
import pretended
import pytest
import tuning_checks

from cbam_keras import study, training, tuning
from cbam_keras.layers import CBAM, AttentionGate
from cbam_keras.tuning import space

keras_tuner = pytest.importorskip("keras_tuner")
pytest.importorskip("scipy.stats", reason="intervals need SciPy")

IMAGES = np.arange(10 * 16 * 48).reshape(10, 16, 16, 3)
IMAGES = (IMAGES // 5).astype("uint8")
MASKS = IMAGES[..., 0] > 99


@pytest.fixture(autouse=True)
def tiny_unet(monkeypatch):
    networks.replace_tiny(monkeypatch.setitem, (1, 1), "strided")


def hypermodel(**options):
    options = {
        "model": "unet-tiny",
        "skip_attention": ("none", "gate"),
    } | options
    return tuning.CBAMHyperModel(
        attention=("none", "cbam"), reduction_ratio=4, kernel_size=3, **options
    )


def test_networks_have_the_attention_of_their_values():
    kinds = itertools.product(("none", "cbam"), ("none", "gate"))
    images = study.Segmentation(IMAGES, MASKS).load(training.Recipe())
    for kind, skip in kinds:
        hp = keras_tuner.HyperParameters()
        hp.values = {"attention": kind, "skip_attention": skip}
        model = hypermodel().network(hp, images)
        for layer, is_there in (
            (CBAM, kind != "none"),
            (AttentionGate, skip == "gate"),
        ):
            found = any(isinstance(x, layer) for x in model.layers)
            assert found == is_there
        assert space.has_no_attention(hp.values) == (kind == skip == "none")


def test_a_search_compares_the_winner_with_no_attention_at_all(
    tmp_path, monkeypatch
):
    pretended.install(monkeypatch)

    def accuracy(model):
        gates = [x for x in model.layers if isinstance(x, AttentionGate)]
        return 1.0 if gates else 0.25

    tuning_checks.score(monkeypatch, accuracy)
    found = tuning.search(
        hypermodel(),
        task=study.Segmentation(IMAGES, MASKS),
        recipe=training.Recipe(epochs=1, batch_size=4),
        confirm=1,
        output=tmp_path / "run",
    )
    assert [x.label for x in found.ranked[:2]] == [
        "none skip=gate",
        "cbam skip=gate r=4 k=3",
    ]
    assert {x.score for x in found.ranked} == {1.0, 0.25}
    assert found.measures[0].heading == "validation mIoU"
    none, best = found.confirmation
    assert none.label == "none" and "gate" in best.label
    assert "of test mIoU" in found.verdict
    assert found.test_accuracy is None
    assert 0 <= found.choice["best_network"]["test_miou"] <= 1


def test_skips_are_those_of_a_unet():
    with pytest.raises(TypeError, match="`task` must be a study.Segmentation"):
        tuning.Search(task=study.Classification("mnist5k"))
    with pytest.raises(ValueError, match="`data`, .* must be left out"):
        tuning.Search(data="mnist5k", task=study.Segmentation(IMAGES, MASKS))
