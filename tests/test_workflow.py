"""From end to end: data through every command, a network until it is seen."""

import json

import keras
import networks
import numpy as np
import pytest
from data_checks import arrays, builder, mock_files, write_folder
from keras import layers

import cbam_keras
from cbam_keras import ablation, cli, data, explain, plotting, training, tuning
from cbam_keras.models import by_name

pytestmark = [
    pytest.mark.slow,
    # Of what TensorFlow Datasets itself uses.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
FEW = ["--epochs", "1", "--batch-size", "8", "--image-size", "16"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Puts a network of a few hundred parameters in place of "tiny"."""
    networks.replace_tiny(monkeypatch.setitem)


def _from_a_folder(folder):
    """A set of TensorFlow Datasets, written from a folder of images."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs TFDS")
    for seed, split in enumerate(("train", "test")):
        write_folder(folder / "raw" / "pets" / split, 12, seed=seed)
    read = tfds.folder_dataset.ImageFolder(str(folder / "raw" / "pets"))
    tfds.dataset_builders.store_as_tfds_dataset(
        name="pets",
        version="1.0.0",
        data_dir=folder / "prepared",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            }
        ),
        split_datasets={
            split: read.as_dataset(split=split).map(
                lambda row: {"image": row["image"], "label": row["label"]}
            )
            for split in ("train", "test")
        },
    )
    return ["--data", "pets", "--data-dir", str(folder / "prepared")]


def _generated(folder):
    """A set of TensorFlow Datasets, by a builder that generates it."""
    pytest.importorskip("tensorflow_datasets", reason="needs TFDS")
    rng = np.random.default_rng(0)
    examples = [
        {
            "image": rng.integers(0, 256, (20, 16, 3)).astype("uint8"),
            "label": number % 2,
        }
        for number in range(40)
    ]
    builder("insects", {"train": examples}, folder)
    return ["--data", "insects", "--data-dir", str(folder)]


def test_a_set_on_disk_goes_through_every_command(tmp_path, capsys):
    given = [*_from_a_folder(tmp_path), *FEW]
    runs = {
        "train": ["--attention", "none", "--attention", "cbam"],
        "tune": ["--max-trials", "2", "--confirm", "1"],
        "ablate": ["--seeds", "1", "--tables", "4"],
    }
    for command, options in runs.items():
        output = tmp_path / "runs" / command
        status = cli.main([command, *given, *options, "--output", str(output)])
        assert status == 0, capsys.readouterr().err
    reported = json.loads((tmp_path / "runs/train/results.json").read_text())
    assert [run["network"] for run in reported["runs"]] == ["none", "cbam"]
    best = keras.saving.load_model(tmp_path / "runs/tune/best.keras")
    assert best.input_shape == (None, 16, 16, 3)
    assert best.output_shape == (None, 2)
    for command in runs:
        page = (tmp_path / "runs" / command / "report.html").read_text()
        assert "Not in this report" not in page
    table = (tmp_path / "runs/ablate/tables.md").read_text()
    assert "CBAM" in table


def test_a_set_of_ones_own_builder_is_trained_on(tmp_path, capsys):
    given = [*_generated(tmp_path), *FEW, "--attention", "none", "--no-report"]
    output = tmp_path / "run"
    status = cli.main(["train", *given, "--output", str(output)])
    assert status == 0, capsys.readouterr().err
    reported = json.loads((output / "results.json").read_text())
    assert [run["network"] for run in reported["runs"]] == ["none"]


def test_a_set_that_needs_the_network_trains_on_made_up_images(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs TFDS")
    splits = {"train": 40, "test": 10}
    mock_files("cifar10", tmp_path, splits)
    with tfds.testing.mock_data(
        num_examples=40,
        data_dir=tmp_path,
        policy=tfds.testing.MockPolicy.USE_FILES,
    ):
        images = data.load("cifar10", data_dir=tmp_path, batch_size=8)
    assert images.image_shape == (32, 32, 3)
    results = training.train(
        {"none": lambda: by_name.NETWORKS["tiny"](images, None)},
        images,
        training.Recipe(epochs=1),
        output=tmp_path / "run",
    )
    assert results.runs[0].best_epoch == 1


def _build(attention):
    features = [layers.Conv2D(4, 3, activation="relu")]
    if attention is not None:
        features.append(attention(name="gate"))
    return keras.Sequential(
        [
            keras.Input((12, 10, 3)),
            layers.Rescaling(1 / 255),
            *features,
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ]
    )


@pytest.mark.every_backend
def test_arrays_go_through_training_search_and_ablation(tmp_path):
    given = arrays(per_class=10)
    recipe = training.Recipe(epochs=1, batch_size=16)
    images = data.load(given, batch_size=16)
    trained = training.train(
        _build(None), images, recipe, output=tmp_path / "train"
    )
    assert len(trained.runs) == 1
    searched = tuning.search(
        tuning.CBAMHyperModel(model=_build),
        images,
        recipe,
        max_trials=3,
        output=tmp_path / "tune",
    )
    kinds = [trial.values["attention"] for trial in searched.trials]
    assert kinds == ["none", "se", "cbam"]
    assert searched.best.outcome == "finished"
    rows = ablation.run(
        given,
        model=_build,
        tables=(4,),
        seeds=2,
        recipe=recipe,
        output=tmp_path / "ablate",
    ).rows
    assert [len(row.top1_errors) for row in rows] == [2, 2, 2]


def _pretrained():
    """A network of Keras' own, with a head that it was trained with."""
    inputs = keras.Input((32, 32, 3), name="photo")
    backbone = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    outputs = layers.Dense(3, activation="softmax")(backbone(x))
    return keras.Model(inputs, outputs, name="pretrained")


@pytest.mark.every_backend
def test_attention_is_inserted_trained_saved_loaded_and_seen(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), "uint8")
    labels = np.arange(8) % 3
    old = _pretrained()
    old.save("old.keras")
    model = cbam_keras.insert_attention(old, after="block_6_project_BN")
    model.compile("sgd", "sparse_categorical_crossentropy")
    log = model.fit(
        images.astype("float32"),
        labels,
        verbose=0,
        callbacks=[cbam_keras.AttentionMonitor()],
    ).history
    model.save("new.keras")
    loaded = keras.saving.load_model("new.keras", compile=False)
    (name,) = explain.attention_maps(loaded, images)
    for found, expected in zip(
        explain.attention_maps(loaded, images)[name],
        explain.attention_maps(model, images)[name],
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert f"{name}/channel_mean" in log
    heat = explain.grad_cam(loaded, images, labels, "block_6_expand")
    figure = plotting.plot_grad_cam(images, heat)
    assert len(figure.axes) == 2 * 8 + 1

    (tmp_path / "photos").mkdir()
    for number, image in enumerate(images):
        file = f"photos/{number}.png"
        keras.utils.save_img(file, image, scale=False)
    cli.main(
        ["explain", "old.keras", "new.keras", "photos", "--output", "seen"]
        + ["--class", "1", "--layer", "block_6_expand"]
    )
    seen = np.load("seen/arrays.npz")
    np.testing.assert_allclose(
        seen["new/heat_maps"],
        explain.grad_cam(loaded, images, 1, "block_6_expand"),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        seen["new/probabilities"],
        explain.class_probabilities(model, images),
        atol=1e-5,
    )
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == [
        "arrays.npz",
        "attention-new.png",
        "explain.json",
        "grad_cam.png",
        "report.html",
    ]
