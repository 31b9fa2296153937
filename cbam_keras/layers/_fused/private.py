"""Private functions of Keras and its backends.

Where a name is gone, its function here returns the answer that is always right
and sometimes slower: by it, calls take other gradients or the formula.
"""

import importlib
from collections.abc import Iterator
from typing import Any


def tape_may_record() -> bool:
    """Returns whether a `tf.GradientTape` could be recording, or `False`."""
    function = _find("tensorflow.python.eager.record", "could_possibly_record")
    return function is not None and function()


def xla_compiles(graph: Any) -> bool:
    """Returns whether XLA compiles what a graph is part of, or `True`."""
    module = "tensorflow.python.ops.control_flow_util"
    function = _find(module, "GraphOrParentsInXlaContext")
    return function is None or function(graph)


def is_branch(graph: Any) -> bool:
    """Returns whether a graph is traced within a `tf.cond`, or `True`."""
    module = "tensorflow.python.ops.control_flow_v2_func_graphs"
    branch = _find(module, "CondBranchFuncGraph")
    if not hasattr(branch, "outer_graph"):
        return True
    return any(isinstance(x, branch) for x in with_outer_graphs(graph))


def with_outer_graphs(graph: Any) -> Iterator[Any]:
    """Yields a graph of TensorFlow, and those that it is within."""
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


def torch_transforms() -> bool:
    """Returns whether a `torch.func` transformation is running, or `True`."""
    function = _find("torch._C", "_are_functorch_transforms_active")
    return function is None or function()


def global_random_state() -> Any:
    """Returns the state from which layers draw without a generator, if any."""
    module = "keras.src.backend.common.global_state"
    find = _find(module, "get_global_attribute")
    return getattr(find and find("global_seed_generator"), "state", None)


def _find(module, name):
    """Returns an attribute of a module, or `None` if either is gone."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
