"""`check_source`: definitions of source, executed and checked."""

import dataclasses
import json

import pytest

from cbam_keras.cli import command, main
from cbam_keras.insertion import check_source
from cbam_keras.recognition import formats, source
from cbam_keras.recognition.reports import (
    CheckedGate,
    CheckReport,
    not_analyzed,
)
from cbam_keras.recognition.source import process

pytest.importorskip("tensorflow")

# Own forms: CBAM of functions in the style of Keras 2, with old paths.
HALVES = """
from keras import backend as K
from keras.engine.topology import Layer
from keras.layers.core import Activation, Dense
from tensorflow.keras.layers import *
from tensorflow.python.keras.layers import Reshape


def pool_gate(features, ratio=8):
    channels = K.int_shape(features)[-1]
    one, two = Dense(channels // ratio, "relu"), Dense(channels)
    mean = two(one(GlobalAveragePooling2D()(features)))
    most = two(one(GlobalMaxPooling2D()(features)))
    factors = Activation("sigmoid")(Add()([mean, most]))
    return Multiply()([features, Reshape((1, 1, channels))(factors)])


def place_gate(features):
    mean = K.mean(features, axis=-1, keepdims=True)
    maps = K.concatenate([mean, K.max(features, axis=-1, keepdims=True)])
    conv = Conv2D(1, 7, padding="same", activation="sigmoid", use_bias=False)
    return Multiply()([features, conv(maps)])
"""
NETWORK = """

def build(input_shape, classes=3):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(32, 3, activation="relu")(inputs)
    {}
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes)(x))
"""
BY_ROW = "matches no cbam_keras layer: one factor per row"
SQUEEZE = """
import keras
from keras import layers


def se_block(x, ratio=8):
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Dense(x.shape[-1] // ratio, activation="relu")(y)
    return x * layers.Dense(x.shape[-1], activation="sigmoid")(y)
"""
EFFECTS = (
    SQUEEZE
    + """
import os
import pathlib
import numpy as np
import package_of_nobody
import argparse

config = argparse.ArgumentParser().parse_args()
marker = open(MARKER, "w")
saved = np.save(MARKER, np.ones(3))
RATIO, shape = 4 * 2, np.zeros((1, 1)).shape
if True:
    pathlib.Path(MARKER).touch()
for RATIO_OF_LOOP in [8]:
    pathlib.Path(MARKER).touch()

class Gate(layers.Layer):
    pathlib.Path("relative").touch()
    (listed,) = os.listdir()

    def call(self, x):
        return x * keras.ops.sigmoid(x)

def se_of_config(x):
    return se_block(x, config.ratio)

def se_of_package(x):
    return x * package_of_nobody.factors(x)

def se_of_loop(x):
    return se_block(x, RATIO_OF_LOOP)

def se_of_old_keras(x):
    return x * layers.merge(x)

def se_of_options(x, options):
    return x * options

def se_of_ratio(x, reduction, name):
    return se_block(x, RATIO)

@package_of_nobody.decorate
def se_decorated(x):
    return x * x
"""
)
OF_AXIS_1 = """
import keras
from keras import ops
from keras.layers import Dense

def se_block(x):
    y = Dense(x.shape[1] // 4, "relu")(ops.mean(x, axis=(2, 3)))
    return x * Dense(x.shape[1], "sigmoid")(y)[:, :, None, None]
"""
FILES = {
    "halves.py": HALVES,
    "whole.py": """
from halves import place_gate, pool_gate

import keras

def cbam_block(x):
    return place_gate(pool_gate(x))


def cbam(x):
    return pool_gate(x)


def eca_block(x):
    return pool_gate(x)
""",
    "used.py": SQUEEZE + NETWORK.format("se_block(x); x = se_block(x)"),
    "lost.py": SQUEEZE + NETWORK.format("x = x"),
    "inline.py": "import keras"
    + NETWORK.format(
        """y = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = x * keras.layers.Dense(32, "sigmoid")(y)"""
    ),
    "effects.py": EFFECTS,
    "exits.py": """
import keras, os
class SEBlock(keras.layers.Layer):
    os._exit(0)
""",
    "asks.py": """
import keras
class SEBlock(keras.layers.Layer):
    input()
""",
    "raises.py": """
import keras
class SEBlock(keras.layers.Layer):
    raise SystemExit(1)
""",
    "syntax.py": "import keras\ndef se_block(x):\n    print 'x'",
    "forms.py": """
import tensorflow as tf
from tensorflow.keras import layers

def eca_block(x):
    y = tf.reduce_mean(x, axis=[1, 2], keepdims=True)
    y = tf.reshape(y, [tf.shape(y)[0], tf.shape(y)[-1], 1])
    y = layers.Conv1D(1, 3, padding="same", use_bias=False)(y)
    y = tf.reshape(y, [tf.shape(x)[0], 1, 1, tf.shape(x)[-1]])
    return x * tf.sigmoid(y)

def eca_mixed(x):
    y = layers.Reshape((1, 32))(layers.GlobalAveragePooling2D()(x))
    return x * layers.Conv1D(32, 3, padding="same", activation="sigmoid")(y)

def SEBlock(input_filters, ratio=0.25):
    def block(inputs):
        y = layers.GlobalAveragePooling2D(keepdims=True)(inputs)
        y = layers.Dense(input_filters * ratio, activation="relu")(y)
        y = layers.Dense(input_filters, activation="sigmoid")(y)
        return layers.multiply([inputs, y])

    return block

def attention_gate(x, g, inter_channels):
    y = layers.add([layers.Conv2D(inter_channels, 1)(z) for z in (x, g)])
    y = layers.Conv2D(1, 1, activation="sigmoid")(tf.nn.relu(y))
    return layers.multiply([x, y])
""",
    "fragment.py": """
def se_block(x):
    y = Dense(4, "relu")(GlobalAveragePooling2D()(x))
    return multiply([x, Dense(32, "sigmoid")(y)])
""",
    "sequential.py": """
import keras
from keras import ops
from keras.layers import *

def cbam_block(x, ratio=8):
    mlp = keras.Sequential([Dense(32 // ratio, "relu"), Dense(32)])
    s = mlp(ops.max(x, (1, 2), keepdims=True))
    x = x * ops.sigmoid(s + mlp(ops.mean(x, (1, 2), keepdims=True)))
    y = [f(x, 3, keepdims=True) for f in (ops.mean, ops.max)]
    y = Conv2D(1, 7, padding="same")(ops.concatenate(y, 3))
    return x * ops.sigmoid(y)

def train(data):
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, cbam_block(Conv2D(32, 1)(inputs)))
    history = model.fit(data)
    return history
""",
    "shapes.py": """
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras.layers import *

def AttnGatingBlock(x, g, inter_shape):
    small = Conv2D(inter_shape, 2, strides=2, padding="same")(x)
    steps = small.shape[1] // g.shape[1]
    g = Conv2D(inter_shape, 1)(g)
    g = Conv2DTranspose(inter_shape, 3, strides=steps, padding="same")(g)
    factors = Conv2D(1, 1, activation="sigmoid")(tf.nn.relu(g + small))
    sides = x.shape[1] // factors.shape[1], x.shape[2] // factors.shape[2]
    return multiply([x, UpSampling2D(sides)(factors)])

def attention_gate(g, s, num_filters):
    y = Conv2D(num_filters, 1)(g) + Conv2D(num_filters, 1)(s)
    return Conv2D(1, 1, activation="sigmoid")(tf.nn.relu(y)) * s

def _squeeze(inputs, hidden_channel, ratio, block_id):
    y = GlobalAveragePooling2D(keepdims=True)(inputs)
    y = Dense(32 // ratio, activation="relu")(y)
    return multiply([inputs, Dense(hidden_channel, "sigmoid")(y)])

def SEBlock(x: keras.Model):
    y = GlobalAveragePooling2D(keepdims=True)(x)
    return x * Dense(32, "sigmoid")(Dense(4, "relu")(y))

class Network:
    def __init__(self, shape, unusual):
        self.shape = shape

    def se_block(self, inputs):
        return SEBlock(inputs)
""",
    "places.py": """
import keras
from keras.layers import *

if keras.__version__:
    def eca_block(x):
        return x * Dense(32, "sigmoid")(x)

def network():
    def cbam_block(x):
        return x * Dense(32, "sigmoid")(x)
    return [cbam_block]

class SEBlock(Layer):
    def __init__(self):
        super().__init__()
        def call(self, x):
            return x

class ECALayer(Layer):
    def forward(self, x):
        return x

def test_cbam():
    keras.Input(cbam_block)

def load_cbam(path):
    return open(path)
""",
    "axis_1.py": OF_AXIS_1,
    "axis_1_set.py": OF_AXIS_1
    + 'keras.config.set_image_data_format("channels_first")',
    "added.py": """
from halves import place_gate, pool_gate

def cbam(x):
    return x + place_gate(pool_gate(x))
""",
    "mlp_for_each.py": """
from keras.layers import *

def channel_attention(x):
    pools = GlobalAveragePooling2D()(x), GlobalMaxPooling2D()(x)
    logits = [Dense(32)(Dense(4, "relu")(pool)) for pool in pools]
    return multiply([x, Activation("sigmoid")(add(logits))])
""",
    "plain.py": "import keras\ndef block(x):\n    return x",
    "of_torch.py": "import torch\nclass SE(torch.nn.Module):\n    pass",
    "first.py": """
import tensorflow as tf
def se_block(x):
    return x * tf.get_variable("x")
""",
    "legacy.py": """
from tf_keras import layers
class SEBlock(layers.Layer):
    pass
""",
    ".hidden/gate.py": SQUEEZE,
    "site-packages/gate.py": SQUEEZE,
    "own/pyvenv.cfg": "",
    "own/gate.py": SQUEEZE,
}
CELLS = [
    "%pip install keras\n!ls\nimport keras",
    "%%bash\nrm -r *",
    "this is no Python",
    "def se_block(x):\n    return x",
    "%%time\n" + SQUEEZE,
]


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Reports of all forms, of one function of a module, and of a file.

    One process checks them all.
    """
    begun: list[tuple] = []
    folder = tmp_path_factory.mktemp("forms")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("MARKER", repr(str(folder / "marker"))))
    cells = [{"cell_type": "code", "source": x} for x in CELLS]
    (folder / "forms.ipynb").write_text(json.dumps({"cells": cells}))
    module = folder / "package" / "module.py"
    module.parent.mkdir()
    module.write_text(FILES["used.py"])
    before = {*folder.rglob("*")}
    paths = [str(folder), "package.module:build", "whole.py"]
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        reports = source.check_paths(paths, lambda *x: begun.append(x))
    assert {*folder.rglob("*")} == before
    numbers = [*range(1, len(begun) + 1)]
    assert [number for _, number, _ in begun] == numbers
    return dict(zip(paths, reports, strict=True)), folder


@pytest.fixture(scope="module")
def report(reports):
    """The report of all forms."""
    (report, *_), folder = reports[0].values(), reports[1]
    assert report.place == str(folder)
    return report


def find(report, file, name=""):
    """The only row of a file, or that of a name."""
    rows = [x for x in report.rows if x.file.endswith(f"/{file}")]
    (row,) = [x for x in rows if name in ("", x.gate)]
    return row


def test_gates_of_source_are_held_against_their_names(report):
    whole = find(report, "whole.py", "cbam_block")
    assert whole.passed and whole.verdict.startswith("CBAM(reduction_ratio=8")
    half = find(report, "whole.py", "cbam")
    assert (half.called, half.agrees, half.passed) == ("cbam", False, False)
    assert half.verdict == "named CBAM, but computes only its channel attention"
    other = find(report, "whole.py", "eca_block")
    assert other.verdict.endswith("computes the channel attention of CBAM")
    lines = [find(report, "whole.py", x).line for x in ("cbam_block", "cbam")]
    assert lines == [6, 10]


def test_old_paths_and_functions_are_those_of_keras_3(report):
    halves = [find(report, "halves.py", x) for x in ("pool_gate", "place_gate")]
    assert [x.kind for x in halves] == ["channel", "spatial"]


def test_calls_that_do_not_reach_an_output_are_counted(report):
    used = find(report, "used.py")
    assert not used.passed
    words = (
        "called 2 times, 1 reach an output; SqueezeExcite(reduction_ratio=8)"
    )
    assert words in used.verdict
    lost = find(report, "lost.py")
    assert "called 0 times, no attention in this model" in lost.verdict
    assert not lost.passed


@pytest.mark.parametrize(
    "file, name, state, words",
    [
        ("fragment.py", "", "passed", "SqueezeExcite(reduction_ratio=8)"),
        ("forms.py", "eca_block", "passed", "EfficientChannelAttention("),
        ("forms.py", "SEBlock", "passed", "SqueezeExcite(reduction_ratio=4)"),
        ("forms.py", "attention_gate", "passed", BY_ROW),
    ],
)
def test_usual_forms_are_called(report, file, name, state, words):
    row = find(report, file, name)
    assert row.state == state and row.verdict.startswith(words)


def test_factors_that_mix_images_are_wrong(report):
    (row,) = [x for x in report.rows if x.gate.startswith("eca_mixed")]
    assert row.state == "faulty" and "mixes the images" in row.verdict


def test_channels_are_last_unless_the_file_sets_another_format(report):
    row = find(report, "axis_1.py")
    assert row.state == "faulty"
    assert row.verdict.startswith("takes axis 1 for the channels")
    row = find(report, "axis_1_set.py")
    assert row.passed and "data_format='channels_first'" in row.verdict


def test_an_input_that_is_added_to_the_gated_features_is_said(report):
    row = find(report, "added.py")
    assert row.passed and "CBAM(reduction_ratio=8)" in row.verdict
    assert "its input is added" in row.verdict


def test_faults_of_a_half_of_cbam_fail_the_file(report):
    row = find(report, "mlp_for_each.py")
    assert row.state == "misnamed"
    assert row.verdict.endswith("separate weights for each pool")


def test_gates_without_a_definition_are_those_of_models(report):
    row = find(report, "inline.py")
    assert row.gate.startswith("build/") and row.line == 3


@pytest.mark.parametrize(
    ("file", "name", "reason"),
    [
        ("effects.py", "se_of_config", "needs `config`"),
        ("effects.py", "se_of_loop", "needs `RATIO_OF_LOOP`"),
        ("effects.py", "se_of_package", "package_of_nobody is missing"),
        ("effects.py", "se_decorated", "package_of_nobody is missing"),
        ("effects.py", "se_of_old_keras", "needs Keras 2's `layers.merge`"),
        ("effects.py", "se_of_options", "needs `options`"),
        (
            "exits.py",
            "exits.py",
            "exits with status 0",
        ),
        ("asks.py", "SEBlock", "EOFError: EOF when reading a line"),
        ("raises.py", "SEBlock", "SystemExit: 1"),
        ("first.py", "se_block", "TensorFlow 1, which Keras 3 does not run"),
        (
            "legacy.py",
            "SEBlock",
            "`tf_keras`; install Keras 3, and import `keras`",
        ),
        ("syntax.py", "syntax.py", "SyntaxError: Missing parentheses in call"),
    ],
)
def test_what_is_not_looked_into_says_why(report, file, name, reason):
    row = find(report, file, name)
    assert row.verdict.startswith(f"not analyzed: {reason}")
    assert (row.passed, row.agrees) == (False, None)


def test_definitions_run_with_usual_arguments_and_without_effects(report):
    # The fixture compares the folder; `listed` is what the class body saw.
    assert find(report, "effects.py", "se_of_ratio").passed
    assert find(report, "effects.py", "Gate").line == 26


def test_cells_of_notebooks_are_in_order_without_magics(report):
    row = find(report, "forms.ipynb")
    assert row.passed and row.verdict.startswith("SqueezeExcite(")
    assert row.line == 13
    assert row.note == "replaces the definition in line 5"


def test_files_without_a_gate_are_counted(report):
    names = {x.file.rpartition("/")[2] for x in report.rows}
    assert names == {*FILES, "forms.ipynb", "module.py"} - {
        "plain.py",
        "of_torch.py",
        ".hidden/gate.py",
        "site-packages/gate.py",
        "own/gate.py",
        "own/pyvenv.cfg",
    }
    assert report.note == (
        "No attention in 1 file. 1 file uses PyTorch, not Keras: "
        "`load_torch_weights` reads checkpoints, and examples/one_file/cbam.py "
        "is CBAM to compare with."
    )
    assert report.verdict.endswith(report.note)
    assert f"{report.place}/used.py" in str(report)
    assert not report.passed


def test_no_process_starts_where_no_file_is_keras(tmp_path, monkeypatch):
    monkeypatch.setattr(process.subprocess, "Popen", None)
    (tmp_path / "gate.py").write_text("import torch")
    report = check_source(tmp_path / "gate.py")
    assert not report.passed and not report.rows
    assert "/gate.py. 1 file uses PyTorch, not Keras: " in report.verdict


@pytest.mark.parametrize("name", ["missing.py", "no:name", "model.keras", "."])
def test_paths_without_source_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="`path` must be a file of Python"):
        check_source(name)


@pytest.fixture
def run_command(reports, monkeypatch, capsys):
    """Returns a function that runs `check` on what was checked already."""
    by_path, _ = reports
    monkeypatch.setattr(
        command, "check_paths", lambda paths, tell: [by_path[x] for x in paths]
    )

    def run(*arguments):
        paths = ["package.module:build", "whole.py"]
        status = main(["check", *paths, *arguments])
        return status, capsys.readouterr().out

    return run


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]])
def test_command_checks_one_function_of_a_module(option, run_command):
    status, output = run_command(*option)
    assert status == 1
    found = json.loads(output)
    assert found["passed"] is False
    assert {(x["file"], x["gate"]) for x in found["gates"]} == {
        ("package/module.py", "se_block"),
        ("whole.py", "cbam_block"),
        ("whole.py", "cbam"),
        ("whole.py", "eca_block"),
        ("halves.py", "pool_gate"),
        ("halves.py", "place_gate"),
    }
    fields = {x.name for x in dataclasses.fields(CheckedGate)} | {"passed"}
    assert {*found["gates"][0]} == fields
    cbam = next(x for x in found["gates"] if x["gate"] == "cbam")
    assert (cbam["state"], cbam["line"]) == ("misnamed", 10)


def test_command_annotates_lines_for_github(run_command):
    status, output = run_command("--format", "github")
    assert status == 1
    line = next(x for x in output.splitlines() if "line=10," in x)
    assert line.startswith(
        "::error file=whole.py,line=10,title=cbam%3A misnamed::"
        "named CBAM, but computes only its channel attention; replace it with"
    )
    # What passed is not annotated.
    assert "halves.py" not in output


def test_the_table_ends_with_a_next_step(run_command):
    _, output = run_command()
    assert "Next: change what the verdict names." in output


def test_annotations_have_one_line_of_escaped_characters():
    row = not_analyzed("a,b", "50%\nof: it", "C:file.py", 3)
    assert formats.as_annotations([CheckReport((row,))]) == (
        "::warning file=C%3Afile.py,line=3,title=a%2Cb%3A not analyzed::"
        "not analyzed: 50%25%0Aof: it"
    )
    nothing = formats.as_annotations([CheckReport((), "here")])
    assert nothing == "::error::No attention in here."


def test_mentioning_a_sequential_is_not_building_a_network(report):
    row = find(report, "sequential.py")
    assert row.gate == "cbam_block" and row.state == "passed"
    assert row.verdict.startswith("CBAM(reduction_ratio=8")


@pytest.mark.parametrize(
    "name, words",
    [
        ("AttnGatingBlock", f"{BY_ROW} and column"),
        ("attention_gate", f"{BY_ROW} and column"),
        ("_squeeze", "SqueezeExcite(reduction_ratio=8)"),
        ("SEBlock", "SqueezeExcite(reduction_ratio=8)"),
        ("se_block", "SqueezeExcite(reduction_ratio=8)"),
    ],
)
def test_any_signature_and_methods_have_a_row(report, name, words):
    row = find(report, "shapes.py", name)
    assert row.state == "passed" and row.verdict.startswith(words)


@pytest.mark.parametrize(
    "name, state, verdict",
    [
        (
            "eca_block",
            "not analyzed",
            "not analyzed: it is inside an `if`",
        ),
        (
            "cbam_block",
            "not analyzed",
            "not analyzed: it is inside `network`",
        ),
        (
            "SEBlock",
            "faulty",
            "computes nothing: its `call` is inside `__init__`",
        ),
        (
            "ECALayer",
            "faulty",
            "computes nothing: Keras calls `call`, not `forward`",
        ),
    ],
)
def test_nothing_called_attention_is_passed_over(report, name, state, verdict):
    row = find(report, "places.py", name)
    assert (row.state, row.verdict) == (state, verdict)


def test_what_tests_or_loads_attention_is_none(report):
    gates = {x.gate for x in report.rows if x.file.endswith("/places.py")}
    assert gates == {"eca_block", "cbam_block", "SEBlock", "ECALayer"}


@pytest.mark.exhaustive
def test_what_never_ends_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "SECONDS", 8)
    loop = "import keras\nclass SEBlock(keras.layers.Layer):\n    {}"
    (tmp_path / "loops.py").write_text(loop.format("while True: pass"))
    (tmp_path / "used.py").write_text(FILES["used.py"])
    report = check_source(tmp_path)
    reason = "not analyzed: needs more than 8 s of CPU time"
    assert find(report, "loops.py").verdict == reason
    assert "called 2 times" in find(report, "used.py").verdict
