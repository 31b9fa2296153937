"""What is typed first and is not there: the answer names what is."""

import inspect
from inspect import Parameter

import keras
import numpy as np
import pytest
from keras import ops
from networks import resnet
from test_docs import PUBLIC

from _cbam_keras_command.options import nearest
from _cbam_keras_command.parser import build_parser
from cbam_keras import (
    cli,
    data,
    insert_attention,
    layers,
    models,
    study,
    training,
    tuning,
)
from cbam_keras.study import comparison


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda: training.Recipe(epoch=3), '`epoch`. Did you mean "epochs"?'),
        (lambda: models.ResNet18(num_classes=3), "Write classes=3"),
        (lambda: models.MobileNet(clases=3), 'Did you mean "classes"?'),
        (lambda: tuning.CBAMHyperModel(ratio=4), "Write reduction_ratio=4"),
    ],
)
def test_an_unknown_argument_names_the_nearest(call, answer):
    with pytest.raises(TypeError, match="There is no argument") as caught:
        call()
    assert answer in str(caught.value)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda: comparison.plan(model="MobilNetV2"), "MobileNetV2"),
        (lambda: insert_attention(models.ResNet18(), "CBAM"), "cbam"),
    ],
)
def test_an_unknown_name_of_many_names_the_nearest(call, answer):
    with pytest.raises(ValueError, match=f'Did you mean "{answer}"'):
        call()


def test_none_is_suggested_as_it_is_written():
    with pytest.raises(ValueError, match=r"Did you mean None\?$"):
        layers.make_attention("none")


def test_few_names_are_their_own_answer():
    assert nearest("cat", ["car"] * 20) == nearest("zzz", "abcdefghijkl") == ""
    with pytest.raises(ValueError, match="Received") as caught:
        training.Recipe(optimizer="sdg")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("train --atention cbam", "--attention"),
        ("train --no-chache", "--no-cache"),
        ("train --attention CBAM", "cbam"),
        ("train --model resnet81", "resnet18"),
    ],
)
def test_the_command_names_the_nearest(words, answer, capsys):
    with pytest.raises(SystemExit):
        cli.main(words.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f'. Did you mean "{answer}"? (see --help)')


def test_the_folder_of_one_class_asks_for_its_parent(tmp_path):
    for name in ("cat", "dog", "empty"):
        (tmp_path / name).mkdir()
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        keras.utils.save_img(tmp_path / name, np.zeros((4, 4, 3)))
    parent = r"\. Pass its parent, which has 2 folders of images$"
    with pytest.raises(ValueError, match=parent):
        data.load(tmp_path / "cat")


def test_accuracy_is_the_test_accuracy():
    task = study.Classification("mnist5k", measure="accuracy")
    assert task.measures[0].key == "test_accuracy"
    scores = np.eye(2)[[0, 1, 1]]
    given = study.results_of({"a": scores}, [0, 1, 0], measure="accuracy")
    assert given.rows[0].mean == pytest.approx(2 / 3)
    assert build_parser().parse_args(["train", "--measure", "accuracy"])


def test_a_network_without_attention_has_none_to_replace():
    words = r"of attention in model \"resnet18\" \(found: none\). Received"
    network = resnet(name="resnet18")
    with pytest.raises(ValueError, match=words):
        insert_attention(network, instead_of="se")


def test_a_pasted_lambda_of_keras_3_gives_its_weights(tmp_path):
    def build():
        image = keras.Input((4, 4, 2))
        mean = keras.layers.Lambda(lambda x: ops.mean(x, -1, keepdims=True))
        x = keras.layers.Conv2D(1, 3)(mean(image))
        return keras.Model(image, x)

    old, file = build(), tmp_path / "old.keras"
    old.save(file)
    # As the page says, which then has the code build the network.
    with pytest.raises(NotImplementedError, match="infer the shape of the Lam"):
        keras.saving.load_model(file, safe_mode=False)
    new = build()
    new.load_weights(file)
    assert np.array_equal(*(x.get_weights()[0] for x in (old, new)))


def test_a_dense_model_is_told_what_attention_needs():
    dense = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match="needs feature maps") as caught:
        insert_attention(dense)
    assert "(0)" not in str(caught.value)


# `load` and others make these, and users do not.
RETURNED = ["Run"] + [
    name for name, value in PUBLIC.items() if "Args:" not in value.__doc__
]


# What must be given for the others to be looked at.
REQUIRED = {
    "build_preset": {"name": "resnet18"},
    "UNet": {"encoder": None},
    "Classification": {"data": "mnist5k"},
    "Regression": {"data": (np.zeros((4, 3)), np.zeros(4))},
}


@pytest.mark.parametrize("name", [x for x in PUBLIC if x not in RETURNED])
def test_a_misspelled_argument_of_each_call_names_the_nearest(name):
    kinds = Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY
    parameters = inspect.signature(PUBLIC[name]).parameters.values()
    names = [x.name for x in parameters if x.kind in kinds]
    longest = max(names, key=len)
    misspelled = longest[:-2] + longest[-1]
    required = REQUIRED.get(name, {})
    with pytest.raises((TypeError, ValueError)) as caught:
        PUBLIC[name](**required, **{misspelled: None})
    notes = getattr(caught.value, "__notes__", [])
    text = "\n".join([str(caught.value), *notes])
    assert f'Did you mean "{longest}"?' in text and misspelled in text
