"""Inserting attention into a trained network, and removing it again."""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable

import keras

from cbam_keras import _checks, _graph, _terminal
from cbam_keras.insertion.adoption import adopt
from cbam_keras.insertion.candidates import CandidatePlaces
from cbam_keras.insertion.copying import copy_with, warn_of_lost_settings
from cbam_keras.layers import ATTENTION
from cbam_keras.layers.stages import ALL, TOP, check_stages


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer after which attention is inserted.

    Attributes:
        layer: String, the name of the layer, prefixed with the names of
            nested models: `"backbone/conv5_block3_3_bn"`.
        shape: Tuple, the shape of its output, `(B, H, W, C)`, with `None` for
            unknown sizes.
        attention: String, the name of the attention layer.
        parameters: Integer, the trainable parameters it adds.
    """

    layer: str
    shape: tuple[int | None, ...]
    attention: str
    parameters: int


class Places(tuple[Place, ...]):
    """Result of a dry run: a tuple of `Place` that shows as a table."""

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self):
        rows = [
            {
                "after": place.layer,
                "shape": str(place.shape),
                "added parameters": f"{place.parameters:,}",
            }
            for place in self
        ]
        layers = _checks.count(len(self), "attention layer")
        parameters = sum(place.parameters for place in self)
        title = f"{layers}, {parameters:,} added parameters"
        return _terminal.Table(title, rows)


@_checks.named
def insert_attention(
    model: keras.Model,
    attention: str | Callable[..., keras.layers.Layer] = "cbam",
    after: str
    | Iterable[str]
    | Callable[[keras.layers.Layer], bool]
    | None = None,
    identity: bool = True,
    *,
    stages: str = "all",
    into: str | Iterable[str] | None = None,
    instead_of: str | Iterable[str] | None = None,
    dry_run: bool = False,
) -> keras.Model | Places:
    """Inserts attention into a trained network and keeps its predictions.

    Returns a new functional model; the given model is not modified. The weights
    are copied, layers keep their names and `trainable`, and attention layers
    are named after the layer they follow, with `_attention` appended.

    Every layer, of nested models too, is cloned from its config and keeps its
    name, dtype and `trainable`; all variables are copied by name and verified.
    Attention layers take the data format and precision of the layer they
    follow, and are trainable even if that layer is frozen.

    With `identity=True`, the new model has the predictions of the old one: bit
    for bit in eager execution, and up to rounding (at most a few 1e-6 of the
    largest output) if a compiler fuses operations differently.

    Args:
        model: Functional or Sequential `keras.Model`, or a subclassed model
            that was called and whose `call` takes symbolic inputs. A
            `keras.Sequential` must be built.
        attention: A name, class or layer, see `layers.make_attention`. Defaults
            to `"cbam"`.
        after: The layers that attention follows: a regular expression, a list
            of names, or a function of a layer. The expression is searched in
            names (`re.search`); the function returns a boolean. A string that
            equals the name of a layer selects only that layer. Layers of nested
            models are named `"backbone/conv1"`, or `"conv1"` if that is
            unambiguous.
            Defaults to `None`, which means the end of each residual branch
            (before the addition, stochastic depth and layer scale) or, without
            residual branches, the last layer at each resolution.
        identity: Boolean, whether the new layers initially return their input
            (`identity_init=True`). If `False`, a name stands for its class
            with default arguments. Defaults to `True`.
        stages: String, which resolutions have attention, from 1, the finest:
            `"all"`, `"first"`, `"last"`, `"last 2"`, or numbers such as
            `"1,3"`, of the places that `after` selects; or `"top"`, one layer
            after the last feature map that all outputs share before pooling or
            flattening; backbones that share nothing have one each. Defaults to
            `"all"`.
        into: Name or list of names: attention goes only on the connections from
            the layers of `after` to these layers, such as skip connections.
            They must take the output of each layer of `after`, or of the nested
            model that it is in. Defaults to `None`, which means all
            connections.
        instead_of: Attention modules to replace: a type such as `"se"`, a name,
            a regular expression, or several. They are `cbam_keras` layers,
            modules that `adopt` recognizes (as in EfficientNet), or layers of a
            class named after attention, such as `MyCBAM`. Even with
            `identity=True` predictions change, since these modules are gone, so
            fine-tune the network. It excludes `after` and `into`. Defaults to
            `None`.
        dry_run: Boolean. If `True`, returns the places without building a
            model. Defaults to `False`.

    Returns:
        A functional `keras.Model`, not compiled; or, with `dry_run`, a tuple
        of `Place` that prints as a table.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the graph of the model is not known, if `after` selects
            no layer or one whose output is not a feature map, if `instead_of`
            finds no module or is used with `after` or `into`, if the network
            lacks one of `stages`, if no layer of `after` is connected to one of
            `into`, if a name is taken, if the default places already have
            attention or would be in a subclassed model in `TimeDistributed`,
            if a layer cannot be cloned from its config, or if `identity=True`
            and the attention layer has no `identity_init`.

    Example:
        >>> old = keras.applications.MobileNetV2(
        ...     weights=None, input_shape=(32, 32, 3), classes=10
        ... )
        >>> new = insert_attention(old)
        >>> x = np.random.rand(2, 32, 32, 3)
        >>> bool(keras.ops.all(new(x) == old(x)))
        True
    """
    # `"gate"` is for U-Nets. The error of that layer says how to use it.
    if isinstance(attention, str) and attention != "gate":
        _checks.one_of("attention", attention, ATTENTION)
    original = model
    model = _graph.with_graph("model", model)
    _checks.boolean("identity", identity)
    if attention is None:
        raise ValueError(
            "`attention` must not be None. Received: attention=None. Pass what "
            'to insert, such as "cbam"'
        )
    if instead_of is not None:
        if after is not None or into is not None:
            raise ValueError(
                "`instead_of` says where attention goes, so `after` and `into` "
                f"must be None. Received: instead_of={instead_of!r}, "
                f"after={after!r}, into={into!r}"
            )
        model, _ = adopt(model)
    candidates = CandidatePlaces(model)
    top = []
    if instead_of is not None:
        places = candidates.gates(instead_of)
    elif after is not None:
        places = candidates.matching(after)
    else:
        top = candidates.top()
        own_stages = getattr(attention, "stages", ALL)
        is_at_top = TOP in (check_stages(stages), own_stages)
        # Other places may have attention already.
        places = [] if top and is_at_top else candidates.default()
    attentions = candidates.in_stages(places, attention, stages, top)
    places = list(attentions)
    users = None if into is None else candidates.users_named(places, into)
    # A layer that replaces attention also gets its name.
    ending = "_attention" if instead_of is None else ""
    attention_layers = {
        id(place.operation): candidates.attention(
            place, kind, identity, f"{place.operation.name}{ending}"
        )
        for place, kind in attentions.items()
    }
    if dry_run:
        return Places(
            Place(
                place.path,
                place.shape,
                layer.name,
                sum(math.prod(x.shape) for x in layer.trainable_weights),
            )
            for place, layer in zip(
                places, attention_layers.values(), strict=True
            )
        )
    if instead_of is None:
        result = copy_with(model, attention_layers, users)
    else:
        replaced = {key: [layer] for key, layer in attention_layers.items()}
        result = copy_with(model, {}, replaced=replaced)
    warn_of_lost_settings(original)
    return result


@_checks.named
def remove_attention(
    model: keras.Model, gates: Collection[str] | None = None
) -> keras.Model:
    """Removes attention: returns a new model without it.

    All other layers keep their weights; the given model is not modified. It
    removes what `insert_attention` inserted, trained or not.

    Args:
        model: Functional or Sequential `keras.Model` with attention layers of
            `cbam_keras`. Also a subclassed model whose `call` takes symbolic
            inputs.
        gates: Names of layers, such as `"stage1_block1_attention"`. Defaults to
            `None`, which means all.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ValueError: If the model has no such attention layers, if its graph is
            not known, or if an attention layer cannot be removed: it is inside
            a layer that is not a model, its map is an output, or it takes a
            gating signal.
        TypeError: If `model` is not a model.

    Example:
        >>> model = cbam_keras.models.ResNet18(attention="cbam", classes=10)
        >>> plain = remove_attention(model)
        >>> plain.count_params()
        11191242
    """
    model = _graph.with_graph("model", model)
    layers = {
        name: layer for layer, name in _graph.gates_by_name(model, None).items()
    }
    names = [*layers] if gates is None else gates
    if isinstance(names, str):
        names = [names]
    graph = _graph.Graph(model, model.inputs)
    for name in names:
        if name not in layers:
            raise ValueError(
                "`gates` must name attention layers of the model: "
                f"{_checks.first_few([*layers])}. Received: {name!r}"
            )
        reason = _why_it_stays(graph, layers[name])
        if reason is not None:
            raise ValueError(
                "`gates` must be layers of the model whose attention maps are "
                f'not used elsewhere. Received: gate "{name}": {reason}'
            )
    removed: dict[int, list] = {id(layers[name]): [] for name in names}
    return copy_with(model, {}, None, removed)


def _why_it_stays(graph, layer):
    """Returns why a layer cannot be taken out, or `None` if it can."""
    calls = [step for step in graph.steps if step.operation is layer]
    if not calls:
        return "its layer is inside another layer"
    if any(len(step.outputs) > 1 for step in calls):
        return "its map is an output of its layer"
    # A mask is passed as another argument, so it is not counted here.
    args, kwargs = calls[0].arguments
    if len(keras.tree.flatten(args or kwargs["inputs"])) > 1:
        return "it takes a gating signal, and transforms the features"
    return None


@_checks.named
def freeze_batch_norm(model: keras.Model) -> int:
    """Freezes the batch normalization of a trained network for fine-tuning.

    Compile the model afterwards. If you later set `trainable` of the whole
    model, call this function again.

    Frozen layers normalize with their moving averages, which do not change.
    Layers of nested models are frozen too. The normalization of attention
    layers stays trainable, since the averages of inserted layers are not
    trained yet.

    Args:
        model: A `keras.Model`, which is changed in place.

    Returns:
        Integer, the number of frozen layers.

    Example:
        >>> model = keras.applications.MobileNetV2(weights=None)
        >>> freeze_batch_norm(model)
        52
    """
    _graph.require_model("model", model)
    in_attention = {
        layer
        for gate in _graph.gate_paths(model)
        for layer in _graph.layers_within(gate)
    }
    frozen = [
        layer
        for layer in _graph.layers_within(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer not in in_attention
    ]
    for layer in frozen:
        layer.trainable = False
    return len(frozen)
