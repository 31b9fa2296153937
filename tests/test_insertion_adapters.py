"""`save_attention` and `load_attention`: many tasks on one frozen network."""

import json
import pathlib
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

from cbam_keras import insert_attention, layers, models
from cbam_keras.insertion import load_attention, save_attention

IMAGES = np.random.default_rng(0).random((4, 12, 12, 3)).astype("float32")
BACKBONE = {
    "depths": (1, 1),
    "widths": (8, 16),
    "block": "basic",
    "stem": "small",
    "input_shape": (12, 12, 3),
}


def build(classes=3, attention="cbam", seed=0):
    """Returns a frozen network with attention, and what of it is trained."""
    keras.utils.set_random_seed(seed)
    backbone = models.ResNet(**BACKBONE, include_top=False, pooling="avg")
    backbone.trainable = False
    network = insert_attention(backbone, attention)
    outputs = keras.layers.Dense(classes, name="answer")(network.output)
    return keras.Model(network.input, outputs)


def predict(model):
    return keras.ops.convert_to_numpy(model(IMAGES, training=False))


def values(model):
    return [keras.ops.convert_to_numpy(x).tobytes() for x in model.weights]


def train(model, seed):
    """Trains what is not frozen on a task of its own."""
    labels = np.random.default_rng(seed).integers(0, 3, len(IMAGES))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(IMAGES, labels, epochs=2, verbose=0)


def backbone_of(model):
    own = [layers.AttentionLayer, keras.layers.Dense]
    others = [x for x in model.layers if not isinstance(x, tuple(own))]
    return [
        keras.ops.convert_to_numpy(x).tobytes()
        for layer in others
        for x in layer.weights
    ]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A network, and by task the file of what it has learned and says."""
    model, found = build(), {}
    folder = tmp_path_factory.mktemp("tasks")
    before = backbone_of(model)
    for seed, task in enumerate(["birds", "cars"]):
        train(model, seed)
        save_attention(model, folder / f"{task}.weights.h5")
        found[task] = folder / f"{task}.weights.h5", predict(model)
    assert backbone_of(model) == before
    return model, found


@pytest.mark.every_backend
def test_tasks_are_swapped_to_the_bit(tasks):
    model, found = tasks
    before = backbone_of(model)
    assert not np.array_equal(found["birds"][1], found["cars"][1])
    for task in ("birds", "cars", "birds"):
        path, expected = found[task]
        load_attention(model, path)
        np.testing.assert_array_equal(predict(model), expected)
    assert backbone_of(model) == before


def test_tasks_are_swapped_in_another_process(tasks, tmp_path):
    model, found = tasks
    np.save(tmp_path / "images.npy", IMAGES)
    # A network that is built again has other names of layers.
    script = (
        "import sys, keras, numpy as np, test_insertion_adapters as t\n"
        "keras.layers.Dense(1), t.build(seed=5)\n"
        "model = t.build()\n"
        "for path in sys.argv[1:]:\n"
        "    t.load_attention(model, path)\n"
        "    np.save(path + '.npy', t.predict(model))\n"
    )
    paths = [str(path) for path, _ in found.values()]
    subprocess.run(
        [sys.executable, "-c", script, *paths],
        check=True,
        cwd=pathlib.Path(__file__).parent,
    )
    for path, expected in found.values():
        np.testing.assert_array_equal(np.load(f"{path}.npy"), expected)


def test_a_file_has_no_other_weights(tasks):
    model, found = tasks
    with h5py.File(found["birds"][0]) as file:
        stored = []
        file["layers"].visititems(
            lambda _, x: stored.append(x) if hasattr(x, "shape") else None
        )
        count = sum(x.size for x in stored)
    trained = [x for x in model.layers if isinstance(x, layers.AttentionLayer)]
    trained.append(model.get_layer("answer"))
    assert count == sum(layer.count_params() for layer in trained)


def test_without_head_the_classifier_may_be_another(tasks, tmp_path):
    model, _ = tasks
    path = tmp_path / "gates.weights.h5"
    save_attention(model, path, head=False)
    other = build(classes=7)
    load_attention(other, path)
    for layer in model.layers:
        if isinstance(layer, layers.AttentionLayer):
            assert values(layer) == values(other.get_layer(layer.name))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"seed": 1}, "7 of them differ, as stage1_block1_conv1/kernel"),
        ({"attention": "se"}, "'class': 'SqueezeExcite'"),
        ({"classes": 5}, r'layer "answer" has .*\[16, 3\].*\[16, 5\]'),
        (
            {"attention": layers.Attention("cbam", {"order": "parallel"})},
            "'order': 'parallel'",
        ),
    ],
)
def test_another_network_is_refused_and_stays(tasks, other, words):
    path = tasks[1]["birds"][0]
    model = build(**other)
    before = values(model)
    with pytest.raises(ValueError, match=words):
        load_attention(model, path)
    assert values(model) == before


def test_any_backbone_is_taken_if_asked(tasks):
    path = tasks[1]["birds"][0]
    model = build(seed=1)
    load_attention(model, path, backbone="any")
    assert backbone_of(model) == backbone_of(build(seed=1))


def side_by_side(order, **options):
    """Returns the sum of two gates' outputs, added in an order."""
    inputs = keras.Input((6, 6, 8))
    gates = {x: layers.CBAM(2, 3, name=x, **options)(inputs) for x in "ab"}
    x = keras.layers.Add()([gates[x] for x in order])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="answer")(x))


def test_weights_go_by_names_not_by_order(tmp_path):
    model, other = side_by_side("ab"), side_by_side("ba")
    save_attention(model, tmp_path / "two.weights.h5")
    load_attention(other, tmp_path / "two.weights.h5")
    for name in "ab":
        assert values(other.get_layer(name)) == values(model.get_layer(name))


@keras.saving.register_keras_serializable()
class Block(keras.layers.Layer):
    """A user's layer with gates of one name."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.gates = [layers.CBAM(2, 3, name="gate") for _ in range(3)]

    def call(self, inputs):
        for gate in self.gates:
            inputs = gate(inputs)
        return inputs


def test_gates_of_one_name_are_all_saved(tmp_path):
    def build_blocks():
        return keras.Sequential([keras.Input((6, 6, 8)), Block(name="block")])

    model, other = build_blocks(), build_blocks()
    save_attention(model, tmp_path / "blocks.weights.h5", head=False)
    load_attention(other, tmp_path / "blocks.weights.h5")
    assert values(other) == values(model)


def test_other_options_are_refused(tmp_path):
    def build_bam(rate):
        inputs = keras.Input((12, 12, 32))
        x = layers.BAM(dilation_rate=rate, name="gate")(inputs)
        return keras.Model(inputs, x)

    save_attention(build_bam(2), tmp_path / "bam.weights.h5", head=False)
    with pytest.raises(ValueError, match="{'dilation_rate': 2}; .*: 4}"):
        load_attention(build_bam(4), tmp_path / "bam.weights.h5")


def test_flipped_bits_of_weights_are_found(tasks, tmp_path):
    model, found = tasks
    before, path = values(model), tmp_path / "flipped.weights.h5"
    with h5py.File(found["birds"][0]) as file:
        kernel = file["layers/dense/vars/0"]
        place, size = kernel.id.get_offset(), kernel.nbytes
    for byte in range(place, place + size, 17):
        content = bytearray(found["birds"][0].read_bytes())
        content[byte] ^= 64
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or of another kind"):
            load_attention(model, path)
    assert values(model) == before


def test_damaged_files_change_nothing(tasks, tmp_path):
    model, found = tasks
    load_attention(model, found["cars"][0])
    before, content = values(model), found["birds"][0].read_bytes()
    torn = tmp_path / "torn.weights.h5"
    torn.write_bytes(content[: len(content) // 2])
    part = tmp_path / "part.weights.h5"
    part.write_bytes(content)
    with h5py.File(part, "a") as file:
        content = json.loads(bytes(file["cbam_keras"][()]))
        # Files of 0.4.0 have no digests.
        del content["weights"], file["cbam_keras"]
        file["cbam_keras"] = np.void(json.dumps(content).encode())
        # The last layer that is loaded.
        del file["layers/dense/vars/1"]
    whole = tmp_path / "whole.weights.h5"
    model.save_weights(whole)
    for path in (torn, part, whole):
        with pytest.raises(ValueError, match="complete file written by"):
            load_attention(model, path)
        assert values(model) == before
    with pytest.raises(FileNotFoundError):
        load_attention(model, tmp_path / "none.weights.h5")


def test_wrong_arguments_are_refused_before_writing(tasks, tmp_path):
    model, _ = tasks
    with pytest.raises(ValueError, match=r'must end in "\.weights\.h5"'):
        save_attention(model, tmp_path / "birds.h5")
    with pytest.raises(TypeError, match="`path` must be the path"):
        save_attention(model, 3)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="must have attention layers"):
        save_attention(plain, tmp_path / "birds.weights.h5")
    assert not [*tmp_path.iterdir()]


def test_nothing_is_lost_where_writing_fails(tasks, tmp_path, monkeypatch):
    model, found = tasks
    path = tmp_path / "birds.weights.h5"
    path.write_bytes(found["birds"][0].read_bytes())

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.File, "__setitem__", fail)
    with pytest.raises(OSError, match="No space"):
        save_attention(model, path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == found["birds"][0].read_bytes()
