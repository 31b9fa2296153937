"""Fine-tuning in two stages: what each trains, and that it resumes exactly."""

import keras
import numpy as np
import pytest
from folder_checks import at_files, killed_at, weights
from keras import layers
from training_checks import numbers

from cbam_keras import study, training
from cbam_keras.study.plans import networks

pytestmark = pytest.mark.usefixtures("brighter_digits", "eagerly")

RECIPE = training.Recipe(
    epochs=2, batch_size=41, learning_rate=0.05, frozen_epochs=2
)


@keras.saving.register_keras_serializable(package="fine_tuning")
class Block(layers.Layer):
    """A pretrained block, whose configuration does not say what is frozen."""

    def __init__(self, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(2, 7, 7)
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build(self.conv.compute_output_shape(shape))

    def call(self, inputs, training=None):
        return self.norm(self.conv(inputs), training=training)


def network(data=None, frozen=("conv", "norm"), new=True):
    """Returns a classifier of 30 new parameters over a block of 104."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            Block(),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax", trainable=new),
        ]
    )
    for name in frozen:
        getattr(model.layers[1], name).trainable = False
    return model


class Task(study.Classification):
    """Notes the recipes that networks are compiled by."""

    def __init__(self):
        super().__init__("mnist5k")
        self.compiled = []

    def compile(self, model, recipe, data):
        self.compiled.append(recipe)
        super().compile(model, recipe, data)


def planned(build=network, recipe=RECIPE):
    return study.Study(Task(), [study.Variant("net", build)], recipe=recipe)


@pytest.fixture(scope="module")
def whole(brighter_digits, eagerly, tmp_path_factory):
    """Returns an unbroken run, and its network after each epoch."""
    folder, task, after = tmp_path_factory.mktemp("whole"), planned(), []

    def note(count, source):
        if "epoch-" in source.name:
            model = keras.saving.load_model(source, compile=False)
            block = model.layers[1]
            moving = block.norm.moving_mean, block.norm.moving_variance
            parts = (block.conv.kernel, model.layers[-1].kernel, *moving)
            after.append([keras.ops.convert_to_numpy(part) for part in parts])

    with at_files(folder, note):
        return study.run(task, folder), task.task.compiled, after


def test_the_first_stage_trains_new_layers_and_the_second_all(whole):
    results, compiled, after = whole
    # The network of the best epoch is compiled again, to be measured.
    compiled = compiled[:2]
    assert [(s.epochs, s.frozen_epochs) for s in compiled] == [(2, 0), (2, 0)]
    assert [s.learning_rate for s in compiled] == pytest.approx([0.05, 0.005])
    assert [row["epoch"] for row in results.history] == [1, 2, 3, 4]
    model = study.build_seeded(network, RECIPE)
    networks.draw_values(networks.find_drawn(model), RECIPE.seed)
    first = model.layers[1].conv.kernel
    conv, new, mean, variance = zip(*after, strict=True)
    conv = [keras.ops.convert_to_numpy(first), *conv]
    moved = [(a != b).any() for a, b in zip(conv[:-1], conv[1:], strict=True)]
    assert moved == [False, False, True, True]
    moved = [(a != b).any() for a, b in zip(new[:-1], new[1:], strict=True)]
    assert moved == [True, True, True]
    assert not np.any(mean)
    assert np.all(np.array(variance) == 1)


def test_parameters_are_those_of_the_whole_network(whole):
    # 2 x 7 x 7 + 2 of the convolution, two pairs of the normalization.
    assert whole[0].outcomes[0].parameters == 100 + 4 + 30
    found = study.estimate(planned())
    assert (found.epochs, found.costs[0].parameters) == (4, 134)


@pytest.mark.slow
def test_a_run_killed_in_each_stage_and_between_ends_as_unbroken(
    whole, tmp_path
):
    for epoch in (2, 3, 4):
        with killed_at(f"-epoch-{epoch}.keras", tmp_path):
            study.run(planned(), tmp_path)
    results = study.run(planned(), tmp_path)
    assert numbers(results) == numbers(whole[0])
    assert weights(tmp_path) == weights(whole[0].output)


def test_a_network_that_comes_compiled_resumes_as_it_was(tmp_path):
    def compiled(data):
        model = network(frozen=())
        model.compile(
            keras.optimizers.SGD(0.125, momentum=0.5),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        return model

    class Task(study.Classification):
        def compile(self, model, recipe, data):
            if not model.compiled:
                super().compile(model, recipe, data)

    task = Task("mnist5k")
    one_stage = training.Recipe(epochs=2, batch_size=41)
    own = study.Study(task, [study.Variant("net", compiled)], recipe=one_stage)
    whole = study.run(own, tmp_path / "whole")
    with killed_at("-epoch-2.keras", tmp_path):
        study.run(own, tmp_path / "killed")
    again = study.run(own, tmp_path / "killed")
    assert numbers(again) == numbers(whole)
    assert weights(again.output) == weights(whole.output)


@pytest.mark.parametrize(
    ("options", "count"),
    [({"frozen": ()}, "6 of 6"), ({"new": False}, "0 of 6")],
    ids=["nothing_frozen", "nothing_trained"],
)
def test_a_first_stage_trains_a_part(options, count, tmp_path):
    planned_badly = planned(lambda data: network(**options))
    with pytest.raises(ValueError, match=rf"frozen_epochs=2, .*{count}"):
        study.run(planned_badly, tmp_path)
    assert not list(tmp_path.rglob("*.keras"))
