"""What backends keep private may vanish: results stay, only speed goes."""

import ast
import functools
import importlib
import inspect
import pathlib
import types

import keras
import numpy as np
import pytest
from layer_checks import (
    MODES,
    assert_all_close,
    assert_equals_reference,
    built,
    fused_calls,
    output,
    random_input,
    single_operations,
    to_numpy,
)

import cbam_keras
from cbam_keras import CBAM, _fused
from cbam_keras._fused import private

pytestmark = pytest.mark.every_backend

BACKEND = keras.backend.backend()
SHAPE = (2, 6, 4, 16)
# The functions, the module and name that each looks up, and its fallback.
TABLE = {
    "tensorflow": [
        (
            "tape_may_record",
            "tensorflow.python.eager.record",
            "could_possibly_record",
            False,
        ),
        (
            "xla_compiles",
            "tensorflow.python.ops.control_flow_util",
            "GraphOrParentsInXlaContext",
            True,
        ),
        (
            "is_branch",
            "tensorflow.python.ops.control_flow_v2_func_graphs",
            "CondBranchFuncGraph",
            True,
        ),
    ],
    "torch": [
        (
            "torch_transforms",
            "torch._C",
            "_are_functorch_transforms_active",
            True,
        )
    ],
}
LOOKUPS = TABLE.get(BACKEND, [])
IDS = [function for function, *_ in LOOKUPS]


def test_every_private_name_is_in_the_table():
    functions = {
        name
        for name, _ in inspect.getmembers(private, inspect.isfunction)
        if not name.startswith("_")
    }
    assert functions == {
        function for rows in TABLE.values() for function, *_ in rows
    }


def block(monkeypatch, module, name, how):
    """Lets a module, or one of its attributes, be missing for `private`."""

    def import_module(path):
        if path != module:
            return importlib.import_module(path)
        if how == "module":
            raise ImportError(path)
        return types.SimpleNamespace()

    monkeypatch.setattr(
        private,
        "importlib",
        types.SimpleNamespace(import_module=import_module),
    )


@pytest.mark.parametrize("function, module, name, fallback", LOOKUPS, ids=IDS)
def test_names_exist_in_this_version(function, module, name, fallback):
    # If not, the layers are right but slow: look for the new name.
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("how", ["module", "name"])
@pytest.mark.parametrize("function, module, name, fallback", LOOKUPS, ids=IDS)
def test_fallbacks_are_the_safe_answers(
    function, module, name, fallback, how, monkeypatch
):
    block(monkeypatch, module, name, how)
    call = getattr(private, function)
    arguments = [None] * len(inspect.signature(call).parameters)
    assert call(*arguments) is fallback


@pytest.mark.parametrize("training", [True, None])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ["channel_first", "parallel"])
@pytest.mark.parametrize("function, module, name, fallback", LOOKUPS, ids=IDS)
def test_results_stay_where_a_private_name_is_gone(
    function, module, name, fallback, order, mode, training, monkeypatch
):
    block(monkeypatch, module, name, "name")
    layer = built(CBAM(4, 3, order=order), SHAPE)
    assert_equals_reference(
        layer,
        random_input(SHAPE),
        random_input(SHAPE, seed=5),
        # Sums in another order.
        tolerance=1e-5,
        mode=mode,
        training=training,
    )
    x = random_input(SHAPE)
    found = output(layer, x)
    with single_operations():
        np.testing.assert_allclose(found, output(layer, x), atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="is about its branches")
@pytest.mark.parametrize("function, module, name, fallback", LOOKUPS, ids=IDS)
def test_branches_give_gradients_where_a_private_name_is_gone(
    function, module, name, fallback, monkeypatch
):
    import tensorflow as tf

    block(monkeypatch, module, name, "name")
    layer = built(CBAM(4, 3), SHAPE)
    call = functools.partial(layer, training=True)

    @tf.function
    def gradient(x, taken):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cond(taken, lambda: call(x), lambda: x)
        return tape.gradient(y, x)

    x = tf.constant(random_input(SHAPE))
    found = gradient(x, tf.constant(True))
    with single_operations(), tf.GradientTape() as tape:
        tape.watch(x)
        y = call(x)
    expected = tape.gradient(y, x)
    assert_all_close([to_numpy(found)], [to_numpy(expected)], 1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="is about its transformations")
def test_transformations_take_the_formula_where_a_private_name_is_gone(
    monkeypatch,
):
    import torch

    _, module, name, _ = LOOKUPS[0]
    block(monkeypatch, module, name, "name")
    layer = built(CBAM(4, 3), SHAPE)
    x = torch.tensor(random_input(SHAPE))

    def total(x):
        return (layer(x, training=True) ** 2).sum()

    with fused_calls() as calls:
        found = torch.func.grad(total)(x)
    assert not calls
    monkeypatch.undo()
    expected = torch.func.grad(total)(x)
    assert_all_close([to_numpy(found)], [to_numpy(expected)], 1e-6)


LIBRARIES = {"keras", "tf", "tensorflow", "torch", "jax", "jnp", "ops"}
PRIVATE = ("keras.src", "tensorflow.python", "jax._src", "torch._")


def private_names(path):
    """Returns what of a library's private parts a file names."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if dotted.split(".")[0] in LIBRARIES and node.attr[0] == "_":
                found.append("torch._")
    return [name for name in found if name.startswith(PRIVATE)]


FILES = sorted(
    path
    for folder in (_fused, cbam_keras.layers)
    for path in pathlib.Path(folder.__file__).parent.glob("*.py")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_private_names_stand_in_one_file(path):
    found = private_names(path)
    assert bool(found) is (path.stem == "private"), found
