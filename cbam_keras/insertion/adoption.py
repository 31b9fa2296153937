"""`adopt`: converts third-party attention."""

import contextlib
import dataclasses

import keras

from cbam_keras import _checks, _graph
from cbam_keras.insertion.copying import copy_with, warn_of_lost_settings
from cbam_keras.recognition.gates import gates_of, noise_for
from cbam_keras.recognition.matching import layer_for
from cbam_keras.recognition.reports import CheckReport, row_of
from cbam_keras.recognition.runs import difference_of


@dataclasses.dataclass(frozen=True)
class AdoptReport(CheckReport):
    """Report of `adopt`; prints as a table, like `CheckReport`.

    Attributes:
        rows: Tuple of `CheckedGate`, one per third-party module, in the
            order of execution.
        difference: Float, the largest difference between the predictions of
            both models on the given or random images, relative to the
            largest prediction.
    """

    difference: float = 0.0

    @property
    def verdict(self) -> str:
        """What changed."""
        if not self.rows:
            return "No third-party attention was found."
        adopted = sum(row.adopted for row in self.rows)
        modules = _checks.count(len(self.rows), "attention module")
        text = f"{adopted} of {modules} adopted."
        if adopted:
            text += f" Predictions differ by at most {self.difference:.1g} of "
            text += "the largest prediction."
        return text


@_checks.named
def adopt(
    model: keras.Model, images: object = None
) -> tuple[keras.Model, AdoptReport]:
    """Converts third-party attention to `cbam_keras` layers, with its weights.

    A module that `check` finds equivalent to a `cbam_keras` layer, in training
    too, is replaced by it, with regularizers and constraints. Modules are kept
    if they have dropout, are inside your own layer, or share factors or weights
    with other layers. The given model is not modified.

    Args:
        model: Functional or Sequential `keras.Model`, or a subclassed model
            that was called and whose `call` takes symbolic inputs. Models of
            `tf_keras` are refused.
        images: Array of images, or other inputs of the model, on which both
            models are compared. Defaults to `None`, for random images.

    Returns:
        Tuple of the new `keras.Model`, or the given one if nothing is adopted,
        and an `AdoptReport`. The model is compiled like the given one, with a
        new optimizer.

    Raises:
        TypeError: If `model` is not a model.
        ValueError: If the graph of the model is not known, or if a layer cannot
            be cloned from its config.

    Example:
        >>> model = keras.applications.MobileNetV3Small(
        ...     weights=None, input_shape=(64, 64, 3)
        ... )
        >>> model, report = adopt(model)
        >>> report.rows[0].kind
        'se'
    """
    graph = _graph.with_graph("model", model)
    rows = []
    # By the id of the product of a module: its features, and our layer that
    # takes them instead.
    instead = {}
    # Our layers, by the variables of their modules: a module that is called at
    # several places becomes one layer.
    new_layers = {}
    for gate in gates_of(graph, images):
        cut = gate.cut
        if cut.is_ours:
            continue
        row = row_of(gate)
        rows.append(row)
        if not row.adopted or not gate.match:
            continue
        key = row.equals, *map(id, cut.variables or [cut])
        if key not in new_layers:
            dtype = cut.source.dtype
            if dtype in ("float16", "bfloat16"):
                dtype = f"mixed_{dtype}"
            name = cut.path.rpartition("/")[-1]
            new_layers[key] = layer_for(
                cut, gate.match, {"name": name, "dtype": dtype}
            )
        instead[id(cut.product)] = (cut.source, new_layers[key])
    if not instead:
        return model, AdoptReport(tuple(rows))
    adopted = copy_with(graph, {}, instead=instead)
    config = model.get_compile_config()
    if config:
        # Keras cannot restore a loss of the user that is not registered.
        with contextlib.suppress(TypeError, ValueError):
            adopted.compile_from_config(config)
    warn_of_lost_settings(model, adopted.compiled)
    difference = _difference(graph, adopted, images)
    return adopted, AdoptReport(tuple(rows), difference=difference)


def _difference(model, adopted, images):
    """Returns the largest difference between the predictions of both models."""
    images = noise_for(model) if images is None else images
    before, after = (
        keras.tree.flatten(_graph.run_model(x, images))
        for x in (model, adopted)
    )
    return max(
        difference_of(_graph.to_float32(x), _graph.to_float32(y))
        for x, y in zip(before, after, strict=True)
    )
