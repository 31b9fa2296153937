"""Private functions of Keras and its backends, each with a fallback.

Where a name is gone, its function here returns the answer that is always right
and sometimes slower.
"""

import importlib
from collections.abc import Iterator
from typing import Any


def tape_may_record() -> bool:
    """Returns whether a `tf.GradientTape` could be recording.

    Fallback: `False`. Then a call without `training` takes TensorFlow's own
    gradients.
    """
    function = _find("tensorflow.python.eager.record", "could_possibly_record")
    return function is not None and function()


def xla_compiles(graph: Any) -> bool:
    """Returns whether XLA compiles what a TensorFlow graph is part of.

    Fallback: `True`. Then nothing is compiled that is not compiled anyway.
    """
    function = _find(
        "tensorflow.python.ops.control_flow_util", "GraphOrParentsInXlaContext"
    )
    return function is None or function(graph)


def is_branch(graph: Any) -> bool:
    """Returns whether a TensorFlow graph is traced within a `tf.cond`.

    Fallback: `True`. Then all calls take TensorFlow's own gradients.
    """
    branch_class = _find(
        "tensorflow.python.ops.control_flow_v2_func_graphs",
        "CondBranchFuncGraph",
    )
    if not hasattr(branch_class, "outer_graph"):
        return True
    return any(
        isinstance(outer, branch_class) for outer in with_outer_graphs(graph)
    )


def with_outer_graphs(graph: Any) -> Iterator[Any]:
    """Yields a graph of TensorFlow, and those that it is within.

    Fallback: the graph alone.
    """
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


def torch_transforms() -> bool:
    """Returns whether a `torch.func` transformation is running.

    Fallback: `True`. Then all calls take the formula.
    """
    function = _find("torch._C", "_are_functorch_transforms_active")
    return function is None or function()


def global_random_state() -> Any:
    """Returns the state from which layers draw without a generator.

    Fallback: `None`, as where no layer has drawn yet.
    """
    get_attribute = _find(
        "keras.src.backend.common.global_state", "get_global_attribute"
    )
    if get_attribute is None:
        return None
    return getattr(get_attribute("global_seed_generator"), "state", None)


def _find(module, name):
    """Returns an attribute of a module, or `None` if either is gone."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
