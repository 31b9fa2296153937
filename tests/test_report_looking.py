"""What the page of a run shows of its networks on test images."""

import itertools
import json
import shutil
from unittest import mock

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from report_checks import change, keep, train
from study_checks import rewrite
from tuning_checks import warned

from cbam_keras import CBAM, cli, data, explain, report
from cbam_keras.report import looking

COLORS = "red", "green", "blue"


def colors(turned=0, attention=None, channels=3):
    """Returns a model whose evidence for class k is the color k + turned.

    Its logits are the mean of each color in [0, 1], times 4, and its heat map
    of a class is that color itself over its maximum.
    """
    inputs = keras.Input((8, 8, channels))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(channels, 1, use_bias=False, name="features")(x)
    if attention is not None:
        x = attention(x)
    x = layers.GlobalAveragePooling2D()(x)
    dense = layers.Dense(channels, use_bias=False, activation="softmax")
    if channels == 1:
        dense = layers.Dense(1)
    model = keras.Model(inputs, dense(x))
    model.get_layer("features").set_weights([np.eye(channels)[None, None]])
    if channels == 3:
        dense.set_weights([4 * np.roll(np.eye(3), turned, axis=1)])
    return model


def write_run(folder, source, classes=COLORS, **models):
    """Writes a run on data of these classes, with these models."""
    shutil.rmtree(train(folder) / "explain")
    for name, model in models.items():
        model.save(folder / f"{name}-seed0/{name}-seed0.keras")
    shape = [*next(iter(models.values())).input_shape[1:]]
    change_images(folder, fingerprint=None, input_shape=shape)
    change(folder, class_names=list(classes), source=source.describe())
    return keep(folder, *((name, 0) for name in models))


def change_images(folder, **values):
    """Changes what a run says of its images."""
    for state in folder.glob("*/state.json"):
        rewrite(state, lambda content: content["data"].update(values))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Writes a folder of colors, every third of which looks like another."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for label, name in enumerate(COLORS):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(60):
            image = rng.integers(0, 120, (8, 8, 3))
            image[..., (label + (number % 3 == 0)) % 3] += 100
            path = tmp_path / "photos" / name / f"{number}.png"
            Image.fromarray(image.astype("uint8")).save(path)
    return data.Source("photos")


@pytest.fixture
def plot(monkeypatch):
    """Lets what is drawn be looked at."""
    wrapped = mock.Mock(wraps=looking.figures.plot_grad_cam)
    monkeypatch.setattr(looking.figures, "plot_grad_cam", wrapped)
    return wrapped


def as_colors(images, turned=0):
    """Returns what the model of colors answers, by the formula."""
    means = images.reshape(len(images), -1, 3).mean(axis=1) / 255
    powers = np.exp(4 * np.roll(means, turned, axis=1))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_test_images_are_drawn_mistakes_first(photos, tmp_path, plot, capsys):
    gated = colors(1, attention=CBAM(1, 3, name="gate"))
    folder = write_run(tmp_path / "run", photos, none=colors(), cbam=gated)
    assert cli.main(["report", "run", "--figures", "pdf"]) == 0
    assert capsys.readouterr().out.endswith("Report in run/report.html\n")
    # Two figures of four images stand beside each other.
    assert [len(x.args[0]) for x in plot.call_args_list] == [4, 4]
    pixels = np.concatenate([x.args[0] for x in plot.call_args_list])
    heat, below = {}, {}
    for name in ("none", "cbam"):
        parts = [x.args[1][name] for x in plot.call_args_list]
        heat[name] = np.concatenate(parts)
        parts = [x.kwargs["classes"][name] for x in plot.call_args_list]
        below[name] = [*itertools.chain(*parts)]
    texts = itertools.chain(*(x.kwargs["labels"] for x in plot.call_args_list))
    true_names = [text.removeprefix("true: ") for text in texts]
    labels = [COLORS.index(name) for name in true_names]
    tested = data.load("photos", batch_size=None).test
    of_test = {x.tobytes(): y for x, y in zip(*tested, strict=True)}
    assert [of_test[x.tobytes()] for x in pixels] == labels
    # The gate of the second network changes its features.
    means = np.array([x[..., y] for x, y in zip(pixels, labels, strict=True)])
    expected = means / means.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(heat["none"], expected, atol=1e-5)
    expected = explain.grad_cam(gated, pixels, labels)
    np.testing.assert_allclose(heat["cbam"], expected, atol=1e-5)
    answers = as_colors(pixels)
    for text, chances, label in zip(
        below["none"], answers, labels, strict=True
    ):
        mark = " \N{MULTIPLICATION SIGN}" if chances.argmax() != label else ""
        assert text == (
            f"predicted: {COLORS[chances.argmax()]}{mark}\n"
            f"P(true) = {chances[label]:.2f}"
        )
    written = json.loads((folder / "explain/images.json").read_text())
    assert [row["true class"] for row in written] == true_names
    wrong = [
        sum("\N{MULTIPLICATION SIGN}" in row[x] for x in ("none", "cbam"))
        for row in written
    ]
    assert len(wrong) == 8 and wrong == sorted(wrong, reverse=True)
    assert wrong[0] > wrong[-1]
    for row, chances in zip(written, answers, strict=True):
        color = COLORS[chances.argmax()]
        assert row["none"].startswith(f"{color} ({chances.max():.0%})")
    for ending in ("png", "pdf"):
        files = {path.stem for path in (folder / "explain").glob(f"*.{ending}")}
        assert files == {"grad_cam", "grad_cam-2", "attention-cbam"}
    page = (folder / "report.html").read_text()
    assert "Grad-CAM of none, cbam:" in page
    assert "Attention maps of cbam in each layer" in page


def test_networks_see_gray_images_and_may_end_in_one_unit(
    photos, tmp_path, plot
):
    model = colors(channels=1)
    folder = write_run(tmp_path / "run", photos, none=model)
    change(folder, class_names=["no", "yes", "maybe"])
    with warned("no heat maps or masks"):
        report.write(folder, draw=True)
    for name in ("green", "blue"):
        (tmp_path / "photos" / name).rename(tmp_path / f"photos/not {name}")
    for path in (tmp_path / "photos/not blue").iterdir():
        path.rename(tmp_path / f"photos/not green/1{path.name}")
    (tmp_path / "photos/not blue").rmdir()
    change(folder, class_names=["no", "yes"])
    report.write(folder, draw=True)
    (pixels, _), drawn = plot.call_args
    assert pixels.shape[1:] == (8, 8, 1)
    # A single unit is a logit of the second class.
    logits = keras.ops.convert_to_numpy(model(pixels))[:, 0]
    second = 1 / (1 + np.exp(-logits))
    is_second = np.array(drawn["labels"]) == "true: yes"
    expected = np.where(is_second, second, 1 - second)
    found = [float(x.split(" = ")[1]) for x in drawn["classes"]["none"]]
    # They are written with two digits.
    np.testing.assert_allclose(found, expected, atol=0.00501)
    assert not [*folder.rglob("*.pdf")]


# Where it cannot be drawn, the page is written all the same.


def _damage(folder):
    (folder / "none-seed0/none-seed0.keras").write_bytes(b"PK no model")


def _forget(folder):
    change(folder, source=None)


def _reshape(folder):
    change_images(folder, input_shape=[8, 8, 8, 1])


def _change_images(folder):
    change_images(folder, fingerprint="of other images")


def _split_copies(folder):
    change_images(folder, copies="split apart")


@pytest.mark.parametrize(
    ("change_run", "message"),
    [
        (_damage, "none-seed0.keras.* import them in Python"),
        (_forget, "the data of the run are arrays or data frames"),
        (_reshape, r"the volumes have shape \(8, 8, 8, 1\)"),
        (_change_images, "the data in .* have changed since"),
        (_split_copies, "splits copies of images in .* in another way"),
        (lambda folder: keep(folder), "no network is finished yet"),
    ],
    ids=["damaged", "arrays", "volumes", "changed", "copies", "unfinished"],
)
def test_what_cannot_be_drawn_is_a_warning(
    photos, tmp_path, change_run, message
):
    folder = write_run(tmp_path / "run", photos, none=colors())
    change_run(folder)
    with warned(f"no heat maps or masks: .*{message}"):
        page = report.write(folder, draw=True).read_text()
    assert f"To draw them, run cbam-keras report {folder};" in page
