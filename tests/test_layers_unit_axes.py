"""Layers of features with axes of one position, by oneDNN in a process."""

import os
import pathlib
import subprocess
import sys

import pytest
from fused_checks import skip_unless
from unit_axes_script import KINDS, SHAPES

skip_unless("tensorflow")
# All of them wait for one process.
pytestmark = pytest.mark.slow
SCRIPT = pathlib.Path(__file__).with_name("unit_axes_script.py")


@pytest.fixture(scope="module")
def differences():
    """Returns those that the process has computed until it ended."""
    done = subprocess.run(
        [sys.executable, SCRIPT],
        # TensorFlow uses it by itself only on a CPU with AVX-512.
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"},
        capture_output=True,
        text=True,
    )
    found = {}
    for line in done.stdout.splitlines():
        name, *shape, difference = line.split()
        key = name, tuple(map(int, shape))
        found.setdefault(key, []).append(float(difference))
    return found, f"exit status {done.returncode}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", [kind.__name__ for kind in KINDS])
def test_unit_axes_are_computed(name, shape, differences):
    found, end = differences
    # Where the process is killed, no later layer has a difference.
    assert (name, shape) in found, end
    assert max(found[name, shape]) < 1e-3
