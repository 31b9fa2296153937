"""The places in a model where attention can go, and those by default."""

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Iterator

import keras
from keras import layers

from cbam_keras import _checks, _graph
from cbam_keras.layers import ATTENTION, AttentionLayer, make_attention
from cbam_keras.layers.stages import TOP, in_stages
from cbam_keras.recognition.claims import place_kind
from cbam_keras.recognition.gates import is_expected

# Replaces an unknown height or width when places are chosen. Divisible by the
# stride of common networks.
SIZE = 256
# The data format by the axis that has the channels.
DATA_FORMATS = {1: "channels_first", -1: "channels_last"}


@dataclasses.dataclass(frozen=True, eq=False)
class _CandidatePlace:
    """An operation of a model, after which attention may go."""

    # The name, prefixed with the names of the models that contain it.
    path: str
    operation: keras.Operation
    # The outputs of each of its calls.
    outputs: list[list]
    # `None` if the channels of the outputs are neither first nor last.
    data_format: str | None
    # The number of positions along each axis.
    size: tuple[int, ...]

    @property
    def shape(self):
        """The shape of the output of the first call."""
        return tuple(self.outputs[0][0].shape)

    @property
    def takes_attention(self):
        """Whether each call returns one feature map of the same channels."""
        if self.data_format is None or any(
            len(call) != 1 or not _graph.is_feature_map(call[0])
            for call in self.outputs
        ):
            return False
        axis = 1 if self.data_format == "channels_first" else -1
        channels = {(len(x.shape), x.shape[axis]) for (x,) in self.outputs}
        return len(channels) == 1 and self.shape[axis] is not None


class CandidatePlaces:
    """All operations of a model, as places where attention may go."""

    def __init__(self, model):
        self.name = model.name
        self.model = model
        shapes = [
            (x.shape[0], *(size or SIZE for size in x.shape[1:]))
            for x in model.inputs
        ]
        self.graph = _graph.trace(model, shapes)
        # The outputs of operations in that graph.
        self.traced = collections.defaultdict(list)
        for step in self.graph.steps:
            # A wrapper gives what is unfolded after its model.
            operation = getattr(step.operation, "wrapper", step.operation)
            self.traced[id(operation)] += step.outputs
        self.places = {}
        self.users = collections.defaultdict(list)
        # The tensors that an outer model has for the outputs of a nested one,
        # by the ids of these outputs.
        self.outer = collections.defaultdict(list)
        self._add(model)

    def _add(self, model, prefix=""):
        """Adds the operations of a model, then those of the models in it."""
        nested = {}
        for node in _graph.nodes(model):
            operation = node.operation
            path = prefix + operation.name
            # The operation that gives the output of a nested model.
            last = operation
            while _graph.is_graph(last):
                last = _graph.origin(last.outputs[0]).operation
            traced = self.traced[id(last)]
            axes = {self.graph.channel_axis(x) for x in traced}
            data_format = None
            if len(axes) == 1:
                data_format = DATA_FORMATS.get(axes.pop())
            size = self.graph.sizes(traced[-1]) if traced else ()
            place = _CandidatePlace(path, operation, [], data_format, size)
            place = self.places.setdefault(id(operation), place)
            place.outputs.append(node.outputs)
            for x in node.input_tensors:
                self.users[id(x)].append(place)
            inner = _graph.inner_model(operation)
            if inner is not None:
                nested[path] = inner
            if inner is operation:
                for x, y in zip(inner.outputs, node.outputs, strict=True):
                    self.outer[id(x)].append(y)
        for path, inner in nested.items():
            self._add(inner, f"{path}/")

    def default(self):
        """Returns the places for `after=None`.

        In a residual network these are the ends of its branches, otherwise the
        last layer at each resolution.
        """
        repeated = self._repeated()
        steps = list(_ResidualNetwork(self.graph, repeated).branch_ends())
        if not steps:
            steps = _graph.last_at_each_resolution(self.graph, repeated)
        steps.sort(key=self.graph.order.__getitem__)
        places = dict.fromkeys(self.places[id(x.operation)] for x in steps)
        return self._without_attention(places)

    def top(self):
        """Returns the place after the last feature map, or after several.

        Backbones that share nothing have one each.
        """
        repeated = self._repeated()
        steps = _graph.last_feature_maps(self.graph, repeated)
        later = [self.graph.descendants(x.outputs[0]) for x in steps]
        if any(x.convolves for x in itertools.chain(*later)):
            # The last maps of small images may have one position, and then
            # count as no map: larger images show where they are.
            shapes = [self._enlarged(x) for x in self.graph.inputs]
            graph = _graph.trace(self.model, shapes)
            steps = _graph.last_feature_maps(graph, repeated)
        places = [self.places[id(x.operation)] for x in steps]
        return places if all(x.takes_attention for x in places) else []

    def _enlarged(self, x):
        """Returns the shape of an input, with no side below `SIZE`."""
        rank = len(x.shape)
        no_sides = {0, self.graph.channel_axis(x)}
        # An axis has two numbers, from the front and from the end.
        return [
            size if no_sides & {axis, axis - rank} else max(size, SIZE)
            for axis, size in enumerate(x.shape)
        ]

    def _repeated(self):
        """Returns the ids of weightless operations with several calls.

        If a whole network shares an activation layer, all places after it would
        share one attention layer.
        """
        return {
            id(place.operation)
            for place in self.places.values()
            if len(place.outputs) > 1
            and not getattr(place.operation, "variables", ())
        }

    def _without_attention(self, ends):
        """Returns the places that take attention, or raises if one has it."""
        places = [place for place in ends if place.takes_attention]
        attention = [
            place
            for place in places
            if isinstance(place.operation, AttentionLayer)
        ]
        is_wrapped = any(step.convolves for step in self.graph.wrappers)
        if attention or is_wrapped or not places:
            problem = "has no convolution that gives a feature map"
            if is_wrapped:
                problem = "has convolutions in a wrapped model"
            elif attention:
                problem = f'already has attention, e.g. "{attention[0].path}"'
            raise ValueError(
                "`after` must name layers after which attention is inserted "
                f'in model "{self.name}". Received: after=None, and the model '
                f"{problem}. {self._possible()}"
            )
        return places

    def matching(self, after):
        """Returns the places that `after` selects, all fit for attention."""
        if isinstance(after, str | re.Pattern):
            places = self._named(after) or self._searched(after)
        elif callable(after) and not isinstance(after, layers.Layer):
            places = [
                place
                for place in self.places.values()
                if isinstance(place.operation, layers.Layer)
                and after(place.operation)
            ]
        else:
            places = self._listed(after)
        if not places:
            self._refuse(after, "which finds none")
        for place in places:
            if not place.takes_attention:
                shapes = ", ".join(
                    str(tuple(x.shape)) for call in place.outputs for x in call
                )
                self._refuse(
                    after,
                    f'which finds "{place.path}" with output of shape '
                    f"{shapes}, not a feature map with its channels first or "
                    "last",
                )
        return list(dict.fromkeys(places))

    def gates(self, instead_of):
        """Returns the places of gates, by kind or class, name or pattern.

        A third-party layer counts as a gate if its class is named after
        attention.
        """
        gates = {
            place: place_kind(type(layer)) or type(layer).__name__
            for place in self.places.values()
            for layer in [place.operation]
            if place.takes_attention
            and (isinstance(layer, AttentionLayer) or is_expected(layer))
        }
        is_one = isinstance(instead_of, str | re.Pattern)
        names = {instead_of} if is_one else {*instead_of}
        selected = [
            place
            for place, kind in gates.items()
            if {kind, place.path, place.operation.name} & names
        ]
        if is_one and not selected:
            pattern = re.compile(instead_of)
            selected = [x for x in gates if pattern.search(x.path)]
        if not selected:
            listed = [f'"{x.path}" ({kind})' for x, kind in gates.items()]
            raise ValueError(
                "`instead_of` must be an attention type, a name or a regular "
                f'expression of attention in model "{self.name}" (found: '
                f"{_checks.first_few(listed, 20) or 'none'}). Received: "
                f"instead_of={instead_of!r}"
            )
        return selected

    def in_stages(self, places, attention, stages, top=()):
        """Returns the places in stages, with the attention for each.

        They are numbered by resolution, finest first. Sizes that differ only
        by a border, such as 149 and 147, are one. `top` are the places for
        the stage of that name.
        """
        sizes = sorted({x.size for x in places}, key=math.prod, reverse=True)
        if len({len(size) for size in sizes}) > 1:
            # Resolutions that cannot be compared are one stage.
            sizes = []
        numbers: dict[tuple, int] = {}
        number = 0
        for before, size in itertools.pairwise([(), *sizes]):
            if not before or _graph.is_coarser(size, before):
                number += 1
            numbers[size] = number
        available = list(range(1, number + 1)) or [1]
        if top:
            available.append(TOP)
        attentions = in_stages(attention, stages, available)
        if attentions.get(TOP) is not None:
            return dict.fromkeys(self._without_attention(top), attentions[TOP])
        kinds = {
            place: attentions[numbers.get(place.size, 1)] for place in places
        }
        return {
            place: kind for place, kind in kinds.items() if kind is not None
        }

    def users_named(self, places, into):
        """Returns the ids of the operations of the names in `into`.

        One of them must take the output of each place.
        """
        names = [into] if isinstance(into, str) else into
        targets = {place for name in names for place in self._named(name)}
        for place in places:
            users = [x for (y,) in place.outputs for x in self._users(y)]
            if targets.isdisjoint(users):
                paths = dict.fromkeys(f'"{x.path}"' for x in users)
                raise ValueError(
                    "`into` must name a layer that takes the output of each "
                    f"layer of `after`. Received: into={into!r}, and "
                    f'"{place.path}" leads into '
                    f"{_checks.first_few([*paths]) or 'no layer'}"
                )
            paths = dict.fromkeys(x.path for x in users if x in targets)
            if len({path.rpartition("/")[0] for path in paths}) > 1:
                # The attention layer would be in both models, and Keras cannot
                # save that.
                listed = [f'"{path}"' for path in paths]
                raise ValueError(
                    "`into` must name layers of one model for each layer of "
                    f'`after`. Received: into={into!r}, and "{place.path}" '
                    f"leads into {_checks.first_few(listed)}"
                )
        return {id(place.operation) for place in targets}

    def _users(self, tensor):
        """Returns the places that take a tensor, in models around it too."""
        outer = [x for y in self.outer[id(tensor)] for x in self._users(y)]
        return self.users[id(tensor)] + outer

    def attention(self, place, attention, identity, name):
        """Returns the built attention layer of this name for a place."""
        if isinstance(attention, str) and not identity:
            # The layer that a name stands for starts as the identity, the class
            # of that name does not.
            attention = ATTENTION.get(attention, attention)
        layer = make_attention(attention, name=name)
        config = layer.get_config()
        # Arguments that are changed by making the layer again.
        changes = {}
        if identity and not config.get("identity_init"):
            if "identity_init" not in config:
                raise ValueError(
                    "`identity=True` needs attention layers with an argument "
                    f"`identity_init`. Received: attention={attention!r}, which"
                    f" gives a {type(layer).__name__}. Pass identity=False to "
                    "let it change the predictions"
                )
            changes["identity_init"] = True
        if config.get("data_format", place.data_format) != place.data_format:
            changes["data_format"] = place.data_format
        if layer.dtype_policy == keras.config.dtype_policy():
            # The default of a new layer, not chosen by the user.
            changes["dtype"] = _policy(place)
        if changes:
            layer = type(layer).from_config({**config, **changes})
        # Keras builds layers that have no `build` of their own by calling them.
        if type(layer).build is not layers.Layer.build:
            layer.build(place.shape)
        features = keras.KerasTensor(place.shape, layer.compute_dtype)
        outputs = keras.tree.flatten(layer.compute_output_spec(features))
        shapes = [tuple(x.shape) for x in outputs]
        if shapes != [place.shape]:
            raise ValueError(
                "`attention` must give layers that keep the shape. Received: "
                f"attention={attention!r}, whose {type(layer).__name__} turns "
                f'{place.shape} after layer "{place.path}" into '
                f"{_checks.first_few(shapes)}"
            )
        return layer

    def _named(self, name):
        """Returns the places of a path or, if there are none, of a name."""
        places = self.places.values()
        of_path = [place for place in places if place.path == name]
        of_name = [place for place in places if place.operation.name == name]
        return of_path or of_name

    def _listed(self, after):
        """Returns the places of a sequence of names, one for each."""
        listed = []
        for name in after if isinstance(after, Iterable) else [after]:
            places = self._named(name)
            if len(places) != 1:
                paths = ", ".join(f'"{place.path}"' for place in places)
                problem = f"may be {paths}" if places else "finds none"
                self._refuse(after, f"of which {name!r} {problem}")
            listed += places
        return listed

    def _searched(self, pattern):
        """Returns the places whose name or path matches an expression."""
        expression = re.compile(pattern)
        return [
            place
            for place in self.places.values()
            if expression.search(place.operation.name)
            or expression.search(place.path)
        ]

    def _refuse(self, after, problem):
        """Raises, since `after` selects no place or an unsuitable one."""
        raise ValueError(
            "`after` must find layers with one feature map, (B, H, W, C) with "
            f'known C, in model "{self.name}". Received: after={after!r}, '
            f"{problem}. {self._possible()}"
        )

    def _possible(self):
        """Returns a sentence on the layers that can take attention."""
        paths = [
            f'"{place.path}"'
            for place in self.places.values()
            if place.takes_attention
        ]
        hint = self.graph.unreached()
        if hint:
            hint += ". "
        if not paths:
            return f"{hint}Attention needs feature maps, (B, H, W, C)"
        # The last ones: attention is more likely wanted at deep features.
        listed = ", ".join(paths[-20:])
        if len(paths) > 20:
            listed = f"..., {listed}"
        return f"{hint}Layers that can take attention ({len(paths)}): {listed}"


def _policy(place):
    """Returns the name of the dtype policy for the output of a place."""
    policy = getattr(place.operation, "dtype_policy", None)
    dtype = place.outputs[0][0].dtype
    # Attention layers cannot take the policies of quantized layers.
    if (
        isinstance(policy, keras.dtype_policies.DTypePolicy)
        and policy.quantization_mode is None
        and policy.compute_dtype == dtype
    ):
        return policy.name
    return f"mixed_{dtype}" if dtype in ("float16", "bfloat16") else dtype


class _ResidualNetwork:
    """A graph, asked where its residual branches end."""

    def __init__(self, graph, repeated):
        self.graph = graph
        self.repeated = repeated
        self.outputs = {id(x) for x in graph.outputs}

    def branch_ends(self) -> Iterator[_graph.Step]:
        """Yields the last step of each residual branch."""
        for step in self.graph.steps:
            if step.kind not in _graph.ADDITIONS or len(step.inputs) < 2:
                continue
            users = self.graph.users(step.outputs[0])
            if users and all(user.kind == "Concatenate" for user in users):
                # A sum within a cell, e.g. of NASNet, not the end of a block.
                continue
            region = self._region(step)
            if region is not None and not self._descends(step, region):
                yield from self._branches(step, region)

    def _region(self, addition):
        """Returns the steps between an addition and its last common input.

        The result is `None` if these are not a block with one entry and one
        exit.
        """
        front = {id(x): x for x in addition.inputs}
        region = set()
        while len(front) > 1:
            makers = map(self.graph.maker, front.values())
            step = max(makers, key=self.graph.order.__getitem__)
            if step is None:
                # The branches join only at inputs of the model.
                return None
            region.add(step)
            for x in step.outputs:
                front.pop(id(x), None)
            front.update((id(x), x) for x in step.inputs)
        for step in region:
            for x in step.outputs:
                outside = {*self.graph.users(x)} - region - {addition}
                if outside or id(x) in self.outputs:
                    return None
        return region

    def _descends(self, addition, region):
        """Returns whether a region has convolutions at a lower resolution.

        Then it is not a block but the levels below a lateral connection, as
        in a feature pyramid or an hourglass network.
        """
        full = self.graph.sizes(addition.outputs[0])
        sizes = [
            self.graph.sizes(step.outputs[0])
            for step in region
            if step.convolves
        ]
        return any(
            len(size) == len(full)
            and max(size, default=1) > 1
            and _graph.is_coarser(size, full)
            for size in sizes
        )

    def _branches(self, addition, region):
        """Yields the ends of the branches, which are not the shortcut."""
        # The inputs of the addition, with the convolutions on the way there.
        sides = [
            (x, sum(y.convolves for y in self.graph.ancestors(x) & region))
            for x in addition.inputs
        ]
        fewest = min(count for _, count in sides)
        branches = [x for x, count in sides if count > fewest]
        # The shortcut is the input of the block or a projection of it.
        if fewest > 1 or len(branches) != len(sides) - 1:
            return
        for x in branches:
            step = self.graph.maker(x)
            # The end is before any stochastic depth and layer scale.
            while len(step.inputs) == 1 and (
                id(step.operation) in self.repeated or _graph.only_adjusts(step)
            ):
                step = self.graph.maker(step.inputs[0])
            if _graph.is_feature_map(step.outputs[0]):
                yield step
