"""The paper's comparisons on any data, over seeds: runs, numbers, tables."""

import csv
import functools
import json
import os
import shutil
import sys

import keras
import numpy as np
import pytest
from keras import layers
from training_checks import SHORT

from cbam_keras import _files, ablation, data, presets, training
from cbam_keras.ablation import runs
from cbam_keras.layers.factory import make_attention
from cbam_keras.models import by_name
from cbam_keras.training import Recipe

pytest.importorskip("matplotlib", reason="figures need matplotlib")
stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")
pytestmark = pytest.mark.usefixtures("few_digits")

SEEDS = (5, 0)


def tiny(attention, classes=10, filters=4):
    """Returns a network that compiles quickly."""
    inputs = keras.Input((28, 28, 1))
    x = layers.AveragePooling2D(7)(layers.Rescaling(1 / 255)(inputs))
    x = layers.Conv2D(filters, 1)(x)
    if attention is not None:
        x = make_attention(attention, name="attention")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, "softmax")(x))


@pytest.fixture(scope="module")
def ran(few_digits, tmp_path_factory):
    """Returns the results of Table 4, and the call that resumes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("ran"))
        patch.setitem(
            by_name.NETWORKS,
            "tiny",
            lambda images, attention: tiny(attention),
        )
        results = ablation.run("mnist5k", tables=[4], seeds=SEEDS, recipe=SHORT)
        call = {
            "images": "mnist5k",
            "tables": [4],
            "seeds": SEEDS,
            "recipe": SHORT,
            "output": results.output.resolve(),
        }
        yield results, call


def files(folder):
    """Returns what the runs wrote; their seconds would differ if repeated."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.glob("*/*/*")
    }


def written(folder):
    """Returns the bytes of all files."""
    return {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


# Which networks, and which attention.


def test_there_are_ten_networks_in_four_tables():
    assert len(ablation.ABLATIONS) == 10
    assert set(ablation.TABLES) == {1, 2, 3, 4}
    assert {n for names in ablation.TABLES.values() for n in names} == set(
        ablation.ABLATIONS
    )


@pytest.mark.parametrize("table", ablation.TABLES)
def test_tables_have_the_rows_of_the_presets(table):
    own = {ablation.ABLATIONS[name].name for name in ablation.TABLES[table]}
    expected = {
        row.name
        for row in {**presets.PRESETS, **presets.ABLATIONS}.values()
        if table in row.tables and row.network == "ResNet50"
    }
    # The channel gate alone, to which Table 2 adds spatial gates.
    extra = {"resnet50-channel-avg-max"} if table == 2 else set()
    assert own == expected | extra


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("se", "SqueezeExcite", {"reduction_ratio": 16}),
        ("channel-max", "ChannelAttention", {"pool_types": ("max",)}),
        ("channel-avg-max", "ChannelAttention", {"pool_types": ("avg", "max")}),
        (
            "spatial-conv-3",
            "CBAM",
            {"spatial_pool_types": ("conv",), "kernel_size": 3},
        ),
        (
            "spatial-conv-7",
            "CBAM",
            {"spatial_pool_types": ("conv",), "kernel_size": 7},
        ),
        ("spatial-avg-max-3", "CBAM", {"kernel_size": 3}),
        ("cbam", "CBAM", {"kernel_size": 7, "order": "channel_first"}),
        ("spatial-first", "CBAM", {"order": "spatial_first"}),
        ("parallel", "CBAM", {"order": "parallel"}),
    ],
)
def test_networks_carry_the_attention_of_their_name(name, kind, options):
    layer = make_attention(runs._attention(name, {"identity_init": True}))
    assert layer.identity_init
    assert type(layer).__name__ == kind
    config = {
        key: tuple(value) if isinstance(value, (list, tuple)) else value
        for key, value in layer.get_config().items()
    }
    assert config.items() >= options.items()
    if kind == "CBAM":
        # The authors' variant.
        assert layer.spatial_batch_norm


# What comes of a run.


def test_each_network_is_trained_once_per_seed(ran):
    results, _ = ran
    found = {
        str(path.relative_to(results.output.resolve()))
        for path in results.output.resolve().glob("*/*/*.keras")
    }
    assert found == {
        f"{name}/seed-{seed}/{name}.keras"
        for name in ("none", "se", "cbam")
        for seed in SEEDS
    }


def test_a_run_writes_below_runs(ran):
    results, _ = ran
    assert results.output.parts == ("runs", "ablate-mnist5k-tiny")


def test_rows_have_what_the_runs_wrote(ran):
    results, call = ran
    assert [row.attention for row in results.rows] == ["none", "SE", "CBAM"]
    assert results.test_images == 20
    for name, row in zip(("none", "se", "cbam"), results.rows, strict=True):
        runs = [
            json.loads(
                (
                    call["output"] / name / f"seed-{seed}/results.json"
                ).read_text()
            )
            for seed in SEEDS
        ]
        assert [found["settings"]["recipe"]["seed"] for found in runs] == [5, 0]
        accuracies = [found["runs"][0]["test_accuracy"] for found in runs]
        np.testing.assert_allclose(
            row.top1_errors, 100 - 100 * np.asarray(accuracies), atol=1e-4
        )


def test_seeds_differ_in_weights_and_share_the_test_images(ran):
    _, call = ran
    first, second = (
        json.loads(
            (call["output"] / f"none/seed-{seed}/results.json").read_text()
        )
        for seed in SEEDS
    )
    assert first["history"][0]["loss"] != second["history"][0]["loss"]


def test_parameters_and_macs_are_counted(ran):
    none, se, cbam = ran[0].rows
    # A 1x1 convolution of 4 filters with biases, and 10 classes.
    assert none.parameters == (1 + 1) * 4 + (4 + 1) * 10
    assert none.macs == 4 * 4 * 4 + 4 * 10
    # One hidden unit with its bias, and back.
    assert se.parameters - none.parameters == (4 + 1) + (1 + 1) * 4
    # The spatial kernel for two maps, without bias, and its normalization.
    assert cbam.parameters - se.parameters == 7 * 7 * 2 + 2


def test_the_same_call_trains_nothing_again(ran, capsys):
    results, call = ran
    before = files(call["output"])
    again = ablation.run(model="tiny", **call)
    assert again.rows == results.rows
    assert files(call["output"]) == before
    assert "parameters, from the start" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "trained", "tables"),
    [
        # SE and CBAM of seed 0 are there, the other two of Table 3 are not.
        ({"tables": [4, 3], "seeds": [0]}, 2, [3, 3, 3, 3, 4, 4, 4]),
        ({"seeds": [0, 1]}, 3, [4, 4, 4]),
    ],
    ids=["tables", "seeds"],
)
def test_what_is_added_alone_is_trained(
    ran, tmp_path, capsys, more, trained, tables
):
    results, call = ran
    shutil.copytree(call["output"], tmp_path / "more")
    before = files(tmp_path / "more")
    added = ablation.run(
        model="tiny", **{**call, "output": tmp_path / "more", **more}
    )
    assert capsys.readouterr().out.count("from the start") == trained
    assert files(tmp_path / "more").items() >= before.items()
    assert [row.table for row in added.rows] == tables
    # Seed 0 was the second.
    assert [row.top1_errors[0] for row in added.rows[-3:]] == [
        row.top1_errors[1] for row in results.rows
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"recipe": Recipe(epochs=3, batch_size=35)},
            "changed: recipe.epochs was 1, is 3",
        ),
        (
            {"images": "cluttered_mnist", "model": functools.partial(tiny)},
            "model was 'tiny', is 'custom'",
        ),
        ({"data_options": {"validation_fraction": 0.3}}, r"data\.5\.sizes"),
        ({"resume": False}, "unless the ablation in it is resumed"),
    ],
    ids=["recipe", "model", "data", "resume"],
)
def test_what_was_started_differently_is_refused(ran, change, message):
    _, call = ran
    before = written(call["output"])
    # Networks that the folder does not hold yet, so that any could begin.
    options = {"model": "tiny", **call, "tables": [1], **change}
    if change.get("model"):
        options["images"] = "mnist5k"
    with pytest.raises(ValueError, match=message):
        ablation.run(**options)
    assert written(call["output"]) == before


def test_a_changed_network_is_refused(ran, monkeypatch):
    _, call = ran
    monkeypatch.setitem(
        by_name.NETWORKS,
        "tiny",
        lambda images, attention: tiny(attention, filters=5),
    )
    with pytest.raises(ValueError, match="changed: networks.none was"):
        ablation.run(model="tiny", **call)


@pytest.mark.slow
# At the first and the second network's first epoch, and at the very end.
@pytest.mark.parametrize("moment", [4, 7, 12])
def test_a_killed_run_ends_as_if_it_had_not_been(
    ran, tmp_path, monkeypatch, moment
):
    results, call = ran
    call = {**call, "seeds": [0], "output": tmp_path / "run"}
    count, write = 0, _files.write_json

    def killed(path, value):
        nonlocal count
        count += 1
        if count == moment:
            raise KeyboardInterrupt
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(_files, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            ablation.run(model="tiny", **call)
    resumed = ablation.run(model="tiny", **call)
    assert [row.top1_errors[0] for row in resumed.rows] == [
        row.top1_errors[1] for row in results.rows
    ]
    for name in ("none", "se", "cbam"):
        assert _losses(tmp_path / "run", name) == pytest.approx(
            _losses(ran[1]["output"], name), abs=1e-6
        )


def _losses(output, name):
    with (output / name / "seed-0/history.csv").open() as file:
        return [float(row["val_loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_more_than_ten_classes_have_a_top_5_error(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 10)
    images = rng.integers(0, 256, (120, 28, 28, 1)).astype("uint8")

    def run():
        return ablation.run(
            (images, labels),
            model=lambda attention: tiny(attention, classes=12),
            tables=[4],
            seeds=1,
            recipe=SHORT,
            output=tmp_path / "run",
        )

    results = run()
    own = training.images_for((images, labels), SHORT)
    test = own.test
    if isinstance(test, keras.utils.PyDataset):
        test = [test[index] for index in range(len(test))]
    pixels, classes = (
        np.concatenate([np.asarray(batch[part]) for batch in test])
        for part in (0, 1)
    )
    model = keras.saving.load_model(tmp_path / "run/cbam/seed-0/cbam.keras")
    scores = model.predict(pixels, verbose=0)
    ranks = (scores > scores[np.arange(len(classes)), classes][:, None]).sum(1)
    row = results.rows[2]
    assert row.top5_errors == pytest.approx((100 * np.mean(ranks >= 5),))
    assert row.top1_errors == pytest.approx((100 * np.mean(ranks >= 1),))
    assert "top-5 error (%)" in str(results)
    assert results.rows[0].network == "custom"
    (tmp_path / "run/cbam/seed-0/top5.json").write_text("{")
    with pytest.warns(UserWarning, match=r"top5.json\" cannot be read"):
        assert run().rows == results.rows


# Starting again.


def test_overwriting_deletes_all_runs_before_the_first(
    ran, tmp_path, monkeypatch
):
    results, call = ran
    output = tmp_path / "run"
    shutil.copytree(call["output"], output)

    def train(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(KeyboardInterrupt):
        ablation.run(
            model="tiny",
            **{**call, "output": output, "seeds": [3]},
            overwrite=True,
        )
    assert [path.name for path in output.iterdir()] == ["results.json"]
    content = json.loads((output / "results.json").read_text())
    assert set(content["settings"]["data"]) == {"3"}
    assert "rows" not in content


@pytest.mark.parametrize("name", ["thesis.tex", "cbam/seed-0/thesis.tex"])
def test_an_ablation_with_other_files_is_not_overwritten(ran, tmp_path, name):
    _, call = ran
    output = tmp_path / "run"
    shutil.copytree(call["output"], output)
    (output / name).write_text("mine")
    before = written(output)
    with pytest.raises(ValueError, match=f"also holds {name}"):
        ablation.run(model="tiny", **{**call, "output": output}, overwrite=True)
    assert written(output) == before


def test_a_folder_in_use_is_refused(ran):
    _, call = ran
    with _files.locked(call["output"]):
        with pytest.raises(ValueError, match=f"by process {os.getpid()} on"):
            ablation.run(model="tiny", **call)


def test_the_output_folder_has_all_files(ran):
    results, call = ran
    own = {path.name for path in call["output"].iterdir() if path.is_file()}
    assert own == {
        "ablation.png",
        "results.json",
        "tables.csv",
        "tables.md",
    }
    for name, text in (
        ("md", results.markdown()),
        ("csv", results.csv()),
    ):
        written = (call["output"] / f"tables.{name}").read_text("utf-8")
        assert written.strip() == text.strip()
    content = json.loads((call["output"] / "results.json").read_text())
    assert content.items() >= json.loads(results.json()).items()


# Mistakes.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tables": [5]}, ValueError, "`tables` must be .*tables=.5."),
        ({"tables": []}, ValueError, "`tables` must be one or several"),
        ({"tables": [1, 1]}, ValueError, "each at most once"),
        ({"tables": [[1]]}, ValueError, "`tables` must be one or several"),
        ({"seeds": 0}, ValueError, "`seeds` must be a positive integer"),
        ({"seeds": 1.5}, ValueError, "`seeds` must be a positive integer"),
        ({"seeds": []}, ValueError, "`seeds` must be .*several different"),
        ({"seeds": [1, 1]}, ValueError, "`seeds` must be .*several different"),
        ({"seeds": [-1]}, ValueError, "`seeds` must be an integer from 0"),
        ({"model": "resnet20"}, ValueError, '`model` must be one of "tiny"'),
        ({"model": 3}, TypeError, "`model` must be the name of a network or"),
        (
            {"model": lambda attention: 3},
            TypeError,
            "must return a keras.Model",
        ),
        ({"recipe": "fast"}, ValueError, "`recipe` must be one of"),
        ({"resume": 1}, TypeError, "`resume` must be True or False"),
        ({"overwrite": 1}, TypeError, "`overwrite` must be True or False"),
        ({"output": 3}, TypeError, "`output` must be the path of a folder"),
        (
            {"data_options": {"seed": 1}},
            ValueError,
            "`seed` is an argument of the recipe",
        ),
        (
            {"data_options": {"valdation_fraction": 0.2}},
            ValueError,
            'Did you mean "validation_fraction"',
        ),
        ({"data_options": [1]}, TypeError, "`data_options` must be a mapping"),
        (
            {"model": lambda attention: tiny(attention, classes=7)},
            ValueError,
            "give 10 values",
        ),
    ],
)
def test_mistakes_are_refused_before_any_work(
    tmp_path, options, error, message
):
    call = {"model": tiny, "output": tmp_path / "run", **options}
    with pytest.raises(error, match=message):
        ablation.run("mnist5k", **call)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("notes.txt", "mine", "which holds other files"),
        ("results.json", "{", "results.json is damaged"),
        ("results.json", "[]", "results.json is damaged"),
        ("results.json", '{"kind": "training run"}', "which holds another run"),
    ],
    ids=["files", "half_written", "a_list", "another_run"],
)
def test_a_folder_with_something_else_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        ablation.run("mnist5k", model=tiny, output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == text


def test_without_scipy_several_seeds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ImportError, match=r'pip install "cbam_keras\[tune\]"'):
        ablation.run("mnist5k", model=tiny, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_that_are_loaded_already_are_refused(tmp_path):
    loaded = data.load("mnist5k")
    with pytest.raises(TypeError, match='must not be loaded yet.*"mnist5k"'):
        ablation.run(loaded, output=tmp_path / "run")
