"""Source that is checked changes nothing outside of its process.

All attacks run in one process. Each leaves its victim unchanged, and the gate
beside it still has a row.
"""

import functools
import json
import os
import subprocess
import sys

import pytest

from cbam_keras.insertion import check_source
from cbam_keras.recognition.source import process, sandbox

pytest.importorskip("tensorflow")

# A gate that needs little time to be analyzed.
GATE = """
from keras import ops

def spatial_gate(x):
    return x * ops.sigmoid(ops.mean(x, axis=-1, keepdims=True))
"""
# Attacks on a file VICTIM, which are executed, as they stand in a file.
ATTACKS = {
    "decorator": """
import os
def register(path):
    os.remove(path)
    return lambda function: function
@register(VICTIM)
def helper():
    return 1
""",
    "default": "import os\ndef helper(a=os.remove(VICTIM)):\n    return a",
    "class_body": "import os\nclass Config:\n    os.remove(VICTIM)",
    "dump": "import numpy as np\nz = np.ones(3).dump(VICTIM)",
    "save": "import numpy as np\nz = np.save(VICTIM, np.ones(3))",
    "vectorize": """
import os, numpy as np
z = np.vectorize(os.remove)([VICTIM])
""",
    "write": "class A:\n    open(VICTIM, 'w').write('changed')",
    "truncate": "import os\nclass A:\n    os.truncate(VICTIM, 0)",
    "rename": "import os\nclass A:\n    os.rename(VICTIM, 'mine')",
    "link": "import os\nclass A:\n    os.symlink(VICTIM, 'link')\n"
    "    open('link', 'w').write('changed')",
    "chmod": "import os\nclass A:\n    os.chmod(VICTIM, 0)",
    "folder": """
import os
class A:
    folder, name = os.path.split(VICTIM)
    os.remove(name, dir_fd=os.open(folder, os.O_RDONLY))
""",
    "shell": "import os\nclass A:\n    os.system('rm ' + VICTIM)",
    "program": """
import subprocess
class A:
    subprocess.run(["rm", VICTIM])
""",
    "fork": """
import os
class A:
    if os.fork() == 0:
        os.execv('/bin/rm', ['rm', VICTIM])
""",
    "ctypes": """
import ctypes
class A:
    ctypes.CDLL(None).unlink(VICTIM.encode())
""",
    "shutil": """
import os, shutil
class A:
    shutil.rmtree(os.path.dirname(VICTIM))
""",
    "body": """
import os
def scale_images(x):
    os.remove(VICTIM)
    return x * 2
""",
    "constructor": """
import keras
class SEBlock(keras.layers.Layer):
    def __init__(self, log=VICTIM):
        super().__init__()
        open(log, "w").write("changed")
    def call(self, x):
        return x
""",
    "hook": """
import sys, os
class A:
    try:
        sys.addaudithook(lambda *args: None)
    except Exception:
        pass
    os.remove(VICTIM)
""",
    "train": """
import os, keras
def train():
    inputs = keras.Input((8, 8, 3))
    x = spatial_gate(keras.layers.Conv2D(32, 1)(inputs))
    model = keras.Model(inputs, x)
    model.compile("sgd", "mse")
    model.fit(VICTIM)
    model.save(VICTIM + ".keras")
    os.remove(VICTIM)
    return model
""",
    # These are written in C, where Python's hook sees nothing.
    "c_write_file": """
import tensorflow as tf
z = tf.io.write_file(VICTIM, "changed")
""",
    "c_remove": "import tensorflow as tf\nz = tf.io.gfile.remove(VICTIM)",
    "c_rename": "import tensorflow as tf\nz = tf.io.gfile.rename(VICTIM, 'x')",
    "c_h5py": "import h5py\nclass A:\n    h5py.File(VICTIM, 'w').close()",
}
SETTINGS = """
import keras
class A:
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    keras.config.set_epsilon(1.0)
    keras.config.set_dtype_policy("float64")
"""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A report on all attacks, and the folder of their victims."""
    folder = tmp_path_factory.mktemp("attacks")
    victims = tmp_path_factory.mktemp("victims")
    for name, attack in ATTACKS.items():
        # One folder for each, since some remove folders.
        victim = victims / name / "victim"
        victim.parent.mkdir()
        victim.write_text("unchanged")
        text = attack.replace("VICTIM", repr(str(victim)))
        (folder / f"{name}.py").write_text(text + GATE)
    (folder / "settings.py").write_text(SETTINGS + GATE)
    return check_source(folder), victims


@functools.cache
def lacks_landlock():
    """Returns what Landlock lacks, as a process says that it has locked."""
    command = (
        "import os, json, runpy; "
        f"lock = runpy.run_path({sandbox.__file__!r})['lock']; "
        "print(json.dumps(lock(os.getcwd())))"
    )
    run = subprocess.run([sys.executable, "-c", command], stdout=-1)
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_changes_nothing_and_its_gate_has_a_row(name, attacked):
    if name.startswith("c_") and lacks_landlock():
        pytest.skip(f"Landlock lacks here: {lacks_landlock()}")
    report, victims = attacked
    victim = victims / name / "victim"
    assert [*victim.parent.iterdir()] == [victim]
    assert victim.read_text() == "unchanged"
    assert victim.stat().st_mode & 0o400
    rows = [x for x in report.rows if x.file.endswith(f"/{name}.py")]
    (row,) = [x for x in rows if x.gate == "spatial_gate"]
    assert row.passed


def test_what_is_refused_is_the_reason_of_a_row(attacked):
    report, victims = attacked
    (row,) = [x for x in report.rows if x.gate == "SEBlock"]
    victim = str(victims / "constructor" / "victim")
    assert row.verdict == (
        f"not analyzed: PermissionError: open {victim!r} is not allowed in "
        "checked source"
    )


def test_a_function_that_trains_hands_over_its_model(attacked):
    report, _ = attacked
    (row,) = [x for x in report.rows if x.file.endswith("/train.py")]
    # Its call in that model was counted, and reaches an output.
    assert row.passed and "unused" not in row.verdict


def test_settings_of_one_file_are_not_those_of_the_next(attacked):
    report, _ = attacked
    gates = [x for x in report.rows if x.gate == "spatial_gate"]
    (changed,) = [x for x in gates if x.file.endswith("/settings.py")]
    others = {x.verdict for x in gates if x is not changed}
    # What changes the verdict in its own file changes no other.
    assert len(others) == 1 and changed.verdict not in others


def test_the_report_names_what_the_system_does_not_refuse(attacked):
    report, _ = attacked
    words = "This system does not refuse to code in C"
    assert (words in report.note) == bool(lacks_landlock())


def test_the_environment_is_what_is_needed():
    names = ["PATH", "HOME", "KERAS_HOME", "LC_ALL", "LD_LIBRARY_PATH"]
    secrets = [
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "CONDA_TOKEN",
        "SSH_AUTH_SOCK",
    ]
    assert all(map(process.KEPT.fullmatch, names))
    assert not any(map(process.KEPT.fullmatch, secrets))


@pytest.mark.parametrize(
    "event, args",
    [
        ("open", ("/elsewhere/file", "w", os.O_WRONLY)),
        ("open", ("inside/../../file", "w", os.O_WRONLY)),
        ("open", ("/", None, os.O_RDONLY)),
        ("os.remove", ("file", 7)),
        ("os.rename", ("file", "/elsewhere/file", -1, -1)),
        ("os.system", (b"true",)),
        ("subprocess.Popen", ("true", [], None, None)),
        ("socket.connect", (None, ("127.0.0.1", 9))),
        ("ctypes.dlsym", (None, "unlink")),
        ("sys.addaudithook", ()),
        ("resource.setrlimit", (0, (1, 1))),
        ("sqlite3.connect", ("file",)),
        ("an.event.of.tomorrow", ()),
    ],
)
def test_all_events_but_harmless_ones_are_refused(
    event, args, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    audit = sandbox._hook(str(tmp_path))
    with pytest.raises(PermissionError, match=f"{event} .*is not allowed"):
        audit(event, args)


@pytest.mark.parametrize(
    "event, args",
    [
        ("open", ("/elsewhere/file", "r", os.O_RDONLY)),
        ("open", ("file", "w", os.O_WRONLY | os.O_CREAT)),
        ("open", (3, "w", os.O_WRONLY)),
        ("open", (os.devnull, "w", os.O_WRONLY)),
        ("os.remove", ("file", -1)),
        ("os.mkdir", ("folder", 0o777, -1)),
        ("import", ("numpy", None, None, None, None)),
        ("os.listdir", ("/",)),
        ("pickle.find_class", ("numpy", "ndarray")),
    ],
)
def test_what_stays_in_the_process_is_allowed(
    event, args, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    sandbox._hook(str(tmp_path))(event, args)


@pytest.mark.parametrize(
    "status, words",
    [
        (3, "exits with status 3"),
        (-9, "killed by SIGKILL"),
    ],
)
def test_the_end_of_a_process_says_why(status, words):
    assert process._end_of(status) == words
