"""Training on masks: the task, the plan, the command and its report."""

import functools
import pathlib
from unittest import mock

import keras
import networks
import numpy as np
import pretended
import pytest
from folder_checks import at_files, epochs, leave, weights
from PIL import Image, ImageDraw

from cbam_keras import cli, comparison, data, study
from cbam_keras.explain import figures
from cbam_keras.models import losses
from cbam_keras.study import Segmentation

pandas = pytest.importorskip("pandas")
metrics = pytest.importorskip("sklearn.metrics")
pytest.importorskip("matplotlib", reason="figures need matplotlib")

IMAGES = np.arange(720).reshape(12, 5, 4, 3).astype("uint8")
MASKS = IMAGES[..., 0] > 99
LOADED = data.load_masks(IMAGES, MASKS, batch_size=4)
task = functools.partial(Segmentation, IMAGES, MASKS)
planned = functools.partial(comparison.plan, task=task(), model="unet-tiny")


@functools.cache
def pixelwise(units, activation):
    """Returns a network of one convolution, of random weights."""
    scale = keras.layers.Rescaling(1 / 50, -2.5)
    head = keras.layers.Conv2D(units, 1, activation=activation)
    return keras.Sequential([keras.Input((5, 4, 3)), scale, head])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Returns a folder of 30 shapes on noise, and of their masks."""
    root, rng = tmp_path_factory.mktemp("drawn"), np.random.default_rng(0)
    for number in range(30):
        noise = rng.integers(0, 160, (24, 32, 3)).astype("uint8")
        x, y, *sides = rng.integers((0, 0, 9, 9), (18, 12, 14, 12)).tolist()
        for name, canvas, fill in (
            ("images", Image.fromarray(noise), "orange"),
            ("masks", Image.new("L", (32, 24)), 255),
        ):
            draw = ImageDraw.Draw(canvas)
            shape = draw.ellipse if number % 2 else draw.rectangle
            shape((x, y, x + sides[0], y + sides[1]), fill)
            (root / name).mkdir(exist_ok=True)
            canvas.save(root / f"{name}/{number}.png")
    return root


def train(drawn, output, options):
    line = f"train --data {drawn}/images --masks {drawn}/masks --epochs 2 "
    line += f"--attention skip-gate --seeds 1 --output {drawn}/{output} "
    with pytest.MonkeyPatch.context() as patch:
        networks.replace_tiny(patch.setitem, (1, 1), "strided")
        return cli.main([*line.split(), "--no-report", *options.split()])


@pytest.fixture(scope="module")
def run(drawn):
    """Pretends to train; a kill in the last epoch leaves another folder."""

    def act(count, source):
        if count == 4:
            leave(drawn / "run", source, drawn / "killed")

    with pytest.MonkeyPatch.context() as patch, at_files(drawn / "run", act):
        pretended.install(patch)
        assert train(drawn, "run", "--class-weight balanced") == 0
    return drawn / "run"


@pytest.mark.parametrize(
    ("units", "activation", "scale"), [(2, "softmax", 0.25), (1, None, 1)]
)
def test_the_loss_of_a_recipe_is_that_of_pixels(units, activation, scale):
    model = pixelwise(units, activation)
    recipe = study.Recipe(loss="focal", class_weight="balanced")
    loss, _ = task().loss_and_metrics(model, recipe, LOADED)
    images, masks = LOADED.test[0]
    rates = study.class_weights(LOADED, recipe)
    p = model.predict(images)[..., -1]
    p = p if activation else 1 / (1 + np.exp(-p))
    p, weights = np.where(masks, p, 1 - p), np.where(masks, rates[1], rates[0])
    focal = -scale * (1 - p) ** 2 * np.log(p)
    expected = np.average(focal, weights=weights)
    found = float(loss(masks, model.predict(images)))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.exhaustive
def test_shapes_are_learned_by_the_default_recipe(drawn, tmp_path):
    both = drawn / "images", drawn / "masks"
    described = planned(["none"], task=Segmentation(*both, measure="iou"))
    assert study.run(described, tmp_path).rows[0].mean > 0.8


def test_a_killed_run_ends_as_an_unbroken_one(run, drawn, quick):
    with epochs() as trained:
        assert train(drawn, "killed", "--class-weight balanced") == 0
    assert trained == [1]
    assert weights(drawn / "killed") == weights(run)
    # Classes are weighted by their pixels.
    loaded = data.load_masks(drawn / "images", drawn / "masks")
    counts = np.bincount(loaded.train[0][1].ravel())
    file = run / "skip-gate-seed0/skip-gate-seed0.keras"
    found = keras.saving.load_model(file).loss.class_weight
    assert [*found] == pytest.approx(counts.sum() / (2 * counts))


def test_a_report_has_classes_and_predictions(run, drawn):
    plot = mock.Mock(wraps=figures.plot_masks)
    with mock.patch.object(figures, "plot_masks", plot):
        assert cli.main(["report", str(run)]) == 0
    assert (run / "explain/predictions.png").exists()
    page = (run / "report.html").read_text()
    known = "most probable class of each pixel", "A plan fixed in advance"
    for text in ("IoU by class", ">foreground<", "wrong pixels are", *known):
        assert text in page
    (_, masks, own, _), options = plot.call_args
    files = [drawn / "masks" / pathlib.Path(x).name for x in options["labels"]]
    expected = [np.array(Image.open(x)) // 255 for x in files]
    np.testing.assert_array_equal(masks, expected)
    wrong = (own["skip-gate"] != masks).sum(axis=(1, 2))
    assert (np.diff(wrong) <= 0).all()


@pytest.mark.filterwarnings("ignore:No training image has a pixel of")
@pytest.mark.filterwarnings("ignore:Masks have no pixel of class 1")
@pytest.mark.parametrize("seed", range(10))
def test_scores_are_those_of_scikit_learn(seed):
    """Classes may be absent from masks, predictions or both."""
    units = (1, 1, 2, 3, 3)[seed % 5]
    activation = ("sigmoid", None, "softmax", "softmax", None)[seed % 5]
    classes, rng = max(units, 2), np.random.default_rng(seed)
    images = rng.integers(0, 256, (10, 5, 4, 3)).astype("uint8")
    masks = rng.choice([*range(1 + seed % classes), 9], images.shape[:3])
    names = ["sea", "land", "sky"][:classes]
    options = {"class_names": names, "ignore_index": 9, "batch_size": 1}
    loaded = data.load_masks(images, masks, **options)
    model = pixelwise(units, activation)
    found = Segmentation(loaded).evaluate(model, loaded)
    images, masks = map(np.concatenate, zip(*loaded.test, strict=True))
    outputs = keras.ops.convert_to_numpy(model(images))
    threshold = 0.5 if activation else 0
    own = outputs.argmax(-1) if units > 1 else outputs[..., 0] > threshold
    pair = masks[masks != 255], own[masks != 255].astype(int)
    present = np.union1d(*pair)
    scores = metrics.jaccard_score(*pair, average=None, labels=present)
    expected = {f"iou_{names[i]}": scores[n] for n, i in enumerate(present)}
    expected["test_miou"] = scores.mean()
    if classes == 2:
        expected["test_iou"] = metrics.jaccard_score(*pair, zero_division=0)
        expected["test_dice"] = metrics.f1_score(*pair, zero_division=0)
    assert found == pytest.approx(expected)
    for score in losses.SCORES[: 3 if classes == 2 else 1]:
        metric = losses.PixelIoU(classes, score, from_logits=activation is None)
        metric.update_state(masks[:1], outputs[:1])
        metric.update_state(masks[1:], outputs[1:])
        value = float(metric.result())
        assert value == pytest.approx(expected[f"test_{score}"])


def test_each_fold_tests_the_epoch_of_the_best_miou(tmp_path, quick):
    def numbers(model, *key):
        return 1.0, 0.9 if key[-1] == 1 else 0.5

    quick.setattr(pretended, "numbers", numbers)
    variant = study.Variant("pixelwise", lambda _: pixelwise(1, "sigmoid"))
    recipe = study.Recipe(epochs=9, batch_size=4, patience=2)
    described = study.Study(task(), [variant], recipe=recipe, folds=3)
    runs = study.run(described, tmp_path).runs
    assert [(x.best_epoch, x.epochs) for x in runs] == 3 * [(2, 4)]
    assert [x.metrics["val_miou"] for x in runs] == 3 * [0.9]


def test_a_plan_places_attention_in_the_decoder_and_on_skips():
    images = mock.Mock(input_shape=(32, 32, 3), output_shape=(32, 32, 2))
    found = {}
    kinds = ["none", "cbam", "skip-gate"]
    for variant in planned(kinds, stages=["all", "last"]).variants:
        with networks.without_values():
            layers = variant.build(images).layers
        names = [x.name.removeprefix("decoder_stage") for x in layers]
        found[variant.name] = [x for x in names if x.endswith("attention")]
    assert found == {
        "none": [],
        "cbam": ["1_attention", "2_attention", "3_attention"],
        "cbam-last": ["3_attention"],
        # The last block has no skip.
        "skip-gate": ["1_skip_attention", "2_skip_attention"],
        "skip-gate-last": ["2_skip_attention"],
    }


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: task(measure="auc"), ValueError, 'one of "miou", "iou"'),
        (
            lambda: task(batch_size=2),
            TypeError,
            "no argument `batch_siz",
        ),
        (
            lambda: Segmentation(LOADED, MASKS),
            ValueError,
            "`masks` beside them",
        ),
        (
            lambda: task().check(pixelwise(1, "softmax"), LOADED),
            ValueError,
            r"5, 4, 1\)",
        ),
        (
            lambda: task().check(pixelwise(2, "sigmoid"), LOADED),
            ValueError,
            "a softmax or",
        ),
        (
            lambda: task().check(pixelwise(3, None), LOADED),
            ValueError,
            r"5, 4, 3\)",
        ),
        (
            lambda: comparison.plan(["skip-se"]),
            ValueError,
            "on the skips of a U-Net",
        ),
        (
            lambda: planned(["skip-se"], stages="4"),
            ValueError,
            "attention: 1, 2, 3. Rec",
        ),
        (
            lambda: planned(["none"], data="mnist5k"),
            ValueError,
            "be left out with `task`",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_dry_run_knows_what_masks_mean(drawn, capsys):
    (drawn / "colors.txt").write_text("sea:0,0,0\nland:255,255,255\n")
    given = "--measure dice --dry-run --json --model tiny"
    estimate = mock.Mock(wraps=study.estimate)
    with mock.patch.object(study, "estimate", estimate):
        train(drawn, "x", f"--colors {drawn}/colors.txt {given}")
        names = "--class-names a b --ignore-index 9 --images {name}.png"
        given += f" --data {drawn} --masks masks/{{name}}.png"
        train(drawn, "x", f"{names} {given}")
    colors, names = (x.args[0].task for x in estimate.call_args_list)
    assert [*colors.source.masks.colors] == ["sea", "land"]
    assert names.source.masks.class_names == ["a", "b"]
    assert names.source.masks.images == "{name}.png"
    assert names.source.masks.folder == "masks/{name}.png"
    assert names.source.masks.ignore_index == 9
    assert names.measure == "test_dice"
    assert '"epochs": 2, "trainings": 1}' in capsys.readouterr().out
    assert not (drawn / "x").exists()
    assert cli.main(["train", "--measure", "iou"]) == 2
    assert cli.main(["train", "--colors", str(drawn)]) == 2
    assert cli.main(["train", "--masks", "a", "--download"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert '`measure` must be one of "test_accuracy"' in first
    assert "`colors` must be left out without `masks`" in second
    assert "`download` must be left out with `masks`" in third
