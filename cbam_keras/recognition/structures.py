"""The `cbam_keras` layers that weights of some shapes may belong to."""

import collections
import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from cbam_keras import layers
from cbam_keras.recognition.probes import Probes

# More assignments of weights of one shape are not tried.
MOST_ASSIGNMENTS = 8
SPATIAL_POOLS = [("avg", "max"), ("max", "avg"), ("avg",), ("max",)]


def structures(
    arrays: Sequence[keras.Variable], probes: Probes
) -> Iterator[tuple[type[layers.AttentionLayer], dict[str, Any]]]:
    """Yields layers that may have such weights, with arguments for these.

    Not all do: each is built, and its weights are compared by their shapes.
    """
    channels = probes.channels
    cores = collections.Counter(_core(x, channels) for x in arrays)
    if not cores:
        yield layers.SimAM, {"regularization": probes.regularization}
    # A product of factors of channels and positions may be CBAM or a half.
    if probes.is_product:
        mlps = list(_mlps(cores, channels))
        convolutions = list(_convolutions(arrays, cores, probes))
        for mlp in mlps:
            yield layers.ChannelAttention, mlp
        for convolution in convolutions:
            yield layers.SpatialAttention, convolution
        for mlp, convolution in itertools.product(mlps, convolutions):
            yield layers.CBAM, mlp | of_half("spatial", convolution)
    # Scales of quantized layers have no axes.
    for size, *others in filter(None, cores):
        if others == [1, 1]:
            yield layers.EfficientChannelAttention, {"kernel_size": size}
        if others == [size, 2, 1]:
            yield layers.TripletAttention, {"kernel_size": size}
    for width in {x[1] for x in cores if len(x) == 2 and x[0] == channels}:
        ratio = {"reduction_ratio": channels // width}
        yield layers.SCSE, ratio
        yield layers.GlobalContext, ratio
        fixed = {"reduction_ratio": channels, "min_hidden_units": width}
        is_default = width == max(8, channels // 32)
        yield layers.CoordinateAttention, {} if is_default else fixed
        for x in cores:
            # A convolution of BAM from the reduced channels to as many.
            if len(x) > 2 and x[-2:] == (width, width):
                yield layers.BAM, {**ratio, "kernel_size": x[0]}


def _mlps(cores, channels):
    """Yields arguments of MLPs from all channels to all, by their shapes."""
    for core in cores:
        is_first = len(core) == 2 and core[0] == channels
        if not is_first or core[::-1] not in cores:
            continue
        width = core[1]
        has_biases = cores[(width,)] + cores[(channels,)] > 0
        for use_bias in {False, has_biases}:
            yield {
                "reduction_ratio": channels // width,
                # A number that no ratio gives.
                "hidden_units": width if channels % width else None,
                "use_bias": use_bias,
            }


def _convolutions(arrays, cores, probes):
    """Yields arguments of convolutions of pooled channels to one map."""
    rank = len(probes.shape) - 2
    # Sides and numbers of pools.
    windows = {
        (x.shape[0], x.shape[-2])
        for x in arrays
        if x.ndim == rank + 2 and x.shape[-1] == 1
    }
    options = [*itertools.product((False, True), repeat=2)]
    for (size, count), pools in itertools.product(windows, SPATIAL_POOLS):
        if len(pools) != count:
            continue
        for use_bias, batch_norm in options:
            # Weights of one number: a bias, and four of normalization.
            if use_bias + 4 * batch_norm <= cores[(1,)]:
                yield {
                    "kernel_size": size,
                    "pool_types": pools,
                    "use_bias": use_bias,
                    "batch_norm": batch_norm,
                }


def of_half(half: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments of a gate of CBAM as CBAM takes them.

    Those that CBAM has for one half alone, such as `channel_pool_types`, get
    the name of the half; all others, such as `combine`, keep theirs.
    """
    names = inspect.signature(layers.CBAM).parameters
    prefixed = {f"{half}_{name}": value for name, value in options.items()}
    return {
        name if name in names else name.removeprefix(f"{half}_"): value
        for name, value in prefixed.items()
    }


def _core(array, channels):
    """Returns a shape without the window of a 1x1 convolution.

    Nor with that of a larger one between all channels and another number,
    which no layer of ours has: on features at one position, it is its center.
    """
    shape = tuple(array.shape)
    last = shape[-2:]
    has_other_number = len({1, *last}) == 3
    if channels in last and has_other_number:
        return last
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def assignments(
    layer: layers.AttentionLayer, probes: Probes
) -> Iterator[list[keras.Variable | None]]:
    """Yields the weights of a part in orders that a layer of ours may have."""
    if isinstance(layer, layers.TripletAttention):
        return _assignments_of_planes(layer, probes)
    return _assignments_in_order(layer, probes)


def _assignments_in_order(layer, probes):
    """Yields for each weight of a layer a variable of its shape.

    The order of weights of one shape is kept at first. Biases that are missing
    are `None`. Nothing is yielded where a variable would be left, or a weight
    other than a bias would get none.
    """
    theirs = collections.defaultdict(list)
    for x in probes.cut.variables:
        theirs[_core(x, probes.channels)].append(x)
    # The indices of weights of one shape.
    groups = collections.defaultdict(list)
    for index, variable in enumerate(layer.weights):
        groups[_core(variable, probes.channels)].append(index)
    if theirs.keys() - groups.keys():
        return
    orders = []
    for core, group in groups.items():
        num_missing = len(group) - len(theirs[core])
        biases = [i for i in group if layer.weights[i].name.endswith("bias")]
        if not 0 <= num_missing <= len(biases):
            return
        several = _orders_of_group(group, theirs[core], biases, num_missing)
        orders.append(list(itertools.islice(several, MOST_ASSIGNMENTS)))
    several = itertools.product(*orders)
    for choice in itertools.islice(several, MOST_ASSIGNMENTS):
        placed = collections.ChainMap(*choice)
        yield [placed[i] for i in range(len(layer.weights))]


def _orders_of_group(group, variables, biases, num_missing):
    """Yields variables of one shape by indices of weights of that shape."""
    for missing in itertools.combinations(biases, num_missing):
        rest = [i for i in group if i not in missing]
        for order in itertools.permutations(variables):
            placed = dict(zip(rest, order, strict=True))
            yield dict.fromkeys(missing) | placed


def _assignments_of_planes(layer, probes):
    """Yields the same for triplet attention, whose gates have any order.

    Each gate has a kernel and four weights of normalization, which stay
    together. The three kernels come first.
    """
    for sources in itertools.islice(_assignments_in_order(layer, probes), 1):
        norms = [sources[start : start + 4] for start in (3, 7, 11)]
        gates = [*zip(sources, norms, strict=False)]
        for order in itertools.permutations(gates):
            kernels = [kernel for kernel, _ in order]
            yield [*kernels, *(x for _, norm in order for x in norm)]
