"""A search on masks: attention in the decoder of a U-Net."""

import networks
import numpy as np
import pretended
import pytest
import tuning_checks

from cbam_keras import study, training, tuning
from cbam_keras.layers import CBAM

keras_tuner = pytest.importorskip("keras_tuner")
pytest.importorskip("scipy.stats", reason="intervals need SciPy")

IMAGES = np.arange(10 * 16 * 48).reshape(10, 16, 16, 3)
IMAGES = (IMAGES // 5).astype("uint8")
MASKS = IMAGES[..., 0] > 99


@pytest.fixture(autouse=True)
def tiny_unet(monkeypatch):
    networks.replace_tiny(monkeypatch.setitem, (1, 1), "strided")


def test_a_search_compares_the_winner_with_no_attention_at_all(
    tmp_path, monkeypatch
):
    pretended.install(monkeypatch)

    def accuracy(model):
        gates = [x for x in model.layers if isinstance(x, CBAM)]
        return 1.0 if gates else 0.25

    tuning_checks.score(monkeypatch, accuracy)
    found = tuning.search(
        tuning.CBAMHyperModel(
            model="unet-tiny",
            attention=("none", "cbam"),
            reduction_ratio=4,
            kernel_size=3,
        ),
        task=study.Segmentation(IMAGES, MASKS),
        recipe=training.Recipe(epochs=1, batch_size=4),
        confirm=1,
        output=tmp_path / "run",
    )
    assert [x.label for x in found.ranked] == ["cbam r=4 k=3", "none"]
    assert [x.score for x in found.ranked] == [1.0, 0.25]
    assert found.measures[0].heading == "validation mIoU"
    none, best = found.confirmation
    assert (none.label, best.label) == ("none", "cbam r=4 k=3")
    assert "of test mIoU" in found.verdict
    assert found.test_accuracy is None
    assert 0 <= found.choice["best_network"]["test_miou"] <= 1


def test_a_task_has_its_data():
    with pytest.raises(TypeError, match="`task` must be a word"):
        tuning.Search(task=study.Variant)
    with pytest.raises(ValueError, match="`data`, .* must be left out"):
        tuning.Search(data="mnist5k", task=study.Segmentation(IMAGES, MASKS))
