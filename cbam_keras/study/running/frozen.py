"""Networks with frozen layers, which run once for each image.

What the base of a network returns, the features, trains its head.
"""

import contextlib
import dataclasses
import functools
import hashlib
import math
from typing import TypeGuard, cast

import keras
import numpy as np
from keras import ops
from numpy.lib.format import open_memmap, write_array_header_2_0

from cbam_keras import _checks, _files, _graph, _terminal
from cbam_keras.data import SPLITS, ImageData, Rows, digest
from cbam_keras.study.files import interrupts
from cbam_keras.study.files.folder import FEATURES, StudyFolder, features_lock
from cbam_keras.study.plans import networks
from cbam_keras.study.plans.recipes import Recipe
from cbam_keras.study.plans.study import Data, Run, Study, Variant

BATCH = 32
HASH = "blake2b"


@dataclasses.dataclass(eq=False)
class FrozenParts:
    """A network, and its trained part, `head`: itself without a `base`."""

    network: keras.Model
    head: keras.Model
    base: keras.Model | None = None
    # The name of its variant, if code of users has built it.
    owner: str | None = None
    # The features that its base has computed, or was held against.
    known: set[str] = dataclasses.field(default_factory=set)
    counts: _files.Json = dataclasses.field(default_factory=dict)
    # What the head starts with, and what each seed draws of it.
    starts: list[np.ndarray] = dataclasses.field(default_factory=list)
    drawn: list[networks.Drawn] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def digest(self) -> str:
        """A hash of the base and its weights."""
        base = cast(keras.Model, self.base)
        return digest(
            networks.fingerprint(base), self.owner, *base.get_weights()
        )

    def with_weights_of(self, trained: keras.Model) -> keras.Model:
        """Returns the network with the weights of what was trained of it."""
        if trained.name != self.head.name:
            trained = trained.get_layer(self.head.name)
        self.head.set_weights(trained.get_weights())
        return self.network


def cut(network: keras.Model) -> tuple[keras.Model, keras.Model] | None:
    """Returns the base and the head of a network, `None` without a base."""
    ends = len(network.inputs), len(network.outputs)
    if not _graph.is_graph(network) or ends != (1, 1):
        return None
    (image,), (output,) = network.inputs, network.outputs
    nodes = _graph.nodes(network)
    if any(
        _graph.is_graph(x.operation) and _is_trained(x.operation) for x in nodes
    ):
        image = keras.Input(image.shape[1:], dtype=image.dtype)
        (output,) = _graph.walk(network, [image], _call)
        nodes = _graph.nodes_between([image], [output])
    last_use = {
        id(x): i for i, node in enumerate(nodes) for x in node.input_tensors
    }
    last_use[id(output)] = len(nodes)
    alive, features, rest = {id(image)}, None, nodes
    for i, node in enumerate(nodes):
        if _is_trained(node.operation):
            break
        alive |= {id(x) for x in node.outputs}
        alive = {x for x in alive if last_use.get(x, -1) > i}
        if alive == {id(node.outputs[0])}:
            features, rest = node.outputs[0], nodes[i + 1 :]
    if features is None:
        return None
    base = keras.Model(image, features, name=f"{network.name}_base")
    if not base.weights:
        return None
    about = {"dtype": features.dtype, "name": "frozen"}
    inputs = keras.Input(features.shape[1:], **about)
    values = {id(features): inputs}
    _graph.run_nodes(rest, values, functools.partial(_call, ""))
    name = f"{network.name}_head"
    return base, keras.Model(inputs, values[id(output)], name=name)


def _call(path, operation, *args, **kwargs):
    return operation(*args, **kwargs)


def _is_trained(operation):
    """Returns whether training changes a layer, or runs it in another way."""
    if not isinstance(operation, keras.Layer):
        return False
    normalization = keras.layers.BatchNormalization
    return bool(operation.trainable_variables) or any(
        isinstance(layer, normalization) or _graph.random_states(layer)
        for layer in _graph.layers_within(operation)
        if layer.trainable
    )


@keras.saving.register_keras_serializable(package="cbam_keras")
class InInference(keras.layers.Wrapper):
    """Runs a layer in inference, also while the network is trained."""

    def call(self, inputs):
        # A functional model overrides what it calls a layer with.
        return self.layer(inputs, training=False)


class FrozenNetworks:
    """Networks whose frozen layers run once an image, for all runs alike."""

    def __init__(self, folder: StudyFolder, *, keeps: bool = False):
        self.folder, self.keeps = folder, keeps
        self._features: dict[str, np.ndarray] = {}
        self._kept: dict[str, FrozenParts] = {}

    def parts(
        self, study: Study, variant: Variant, run: Run, data: Data
    ) -> FrozenParts:
        """Returns a network, built once for all seeds if it is of us."""
        recipe = study.recipe_for(variant, run)
        if kept := self._kept.get(variant.original):
            kept.head.set_weights(kept.starts)
            networks.draw_values(kept.drawn, recipe.seed)
            return kept
        network, drawn = networks.build_drawn(study, variant, run, data)
        both = cut(network) if recipe.frozen and not network.compiled else None
        base, head = both or (None, network)
        owner = (
            None if networks.is_of_package(variant.build) else variant.original
        )
        parts = FrozenParts(network, head, base, owner)
        parts.counts["parameters"] = networks.count_parameters(network, recipe)
        parts.counts["macs"] = networks.count_network_macs(network, data)
        trained = {id(weight) for weight in head.weights}
        if (
            # Callbacks of users may change a network for good.
            self.keeps
            and base is not None
            and _has_features(data, recipe)
            and networks.is_by_name(study, variant, network)
            # These are of the training images of a run.
            and data.standardization is data.targets is None
            and not _graph.random_states(network)
            and all(id(weight) in trained for weight, *_ in drawn)
        ):
            parts.starts, parts.drawn = head.get_weights(), drawn
            self._kept[variant.original] = parts
        return parts

    def trained(
        self, parts: FrozenParts, recipe: Recipe, data: Data, run: Run
    ) -> tuple[keras.Model, Data]:
        """Returns what is trained of a network, and the data for it."""
        base, head = parts.base, parts.head
        if base is None:
            return head, data
        if _has_features(data, recipe):
            # A network that is kept is compiled for each seed.
            head = keras.Model(head.input, head.output, name=head.name)
            return head, self._with_features(parts, data, run)
        image = keras.Input(base.input_shape[1:], dtype=base.inputs[0].dtype)
        outputs = head(InInference(base)(image))
        return keras.Model(image, outputs, name=parts.network.name), data

    def _with_features(self, parts, data, run):
        """Returns data with features in place of images."""
        places, is_shared = _places(data)
        about = data.name, data.fingerprint, data.input_shape
        drawn = None if is_shared else data.describe()
        key = digest(parts.digest, about, drawn)
        features = self._load(key, parts, data, places)
        if key not in parts.known:
            first = next(_run(parts.base, data, places))
            parts.known.add(key)
            most = 1e-4 * np.abs(first).max()
            if not np.allclose(features[: len(first)], first, 0, most):
                # Code may hold what neither weights nor configurations show.
                key = digest(key, run)
                features = self._load(key, parts, data, places, is_new=True)
        splits = {}
        for split, batches, rows in zip(SPLITS, data, places, strict=True):
            images, old = Rows(features, rows), batches.examples
            examples = dataclasses.replace(old, images=images, names=old.paths)
            splits[split] = dataclasses.replace(
                batches, examples=examples, channels_first=False
            )
        return dataclasses.replace(data, **splits)

    def _load(self, key, parts, data, places, is_new=False):
        """Returns features from their file, which is whole then."""
        if key in self._features and not is_new:
            return self._features[key]
        path = self.folder.path / f"{FEATURES}{key}.npy"
        while True:
            # Another process may be computing them.
            lock = features_lock(path, seconds=1)
            with contextlib.suppress(_files.InUse), lock:
                if is_new or not _is_whole(path):
                    # A killed process may have left some.
                    _files.delete_unfinished(path.parent, f"{path.name}*")
                    _compute(path, parts.base, data, places)
                    parts.known.add(key)
                self._features[key] = open_memmap(path, mode="r")
                return self._features[key]
            interrupts.raise_if_noted()


def _has_features(data: Data, recipe: Recipe) -> TypeGuard[ImageData]:
    """Returns whether frozen layers run once for each image."""
    return recipe.cache and isinstance(data, ImageData) and not data.augment


def _is_whole(path):
    """Returns whether features are as they were written."""
    with contextlib.suppress(OSError):
        if _hash_file(path).read_text() == _hash(path):
            return True
    if path.exists():
        text = "The features in it are computed again"
        _checks.warn(f'"{path}" has changed since it was written. {text}')
    return False


def _hash(path):
    with path.open("rb") as file:
        # It tells what was damaged, not what somebody has forged.
        return hashlib.file_digest(file, HASH).hexdigest()


def _hash_file(path):
    return path.with_name(f"{path.name}.{HASH}")


def _places(data):
    """Returns where the features of each split are, and if in each run."""
    parts = [batches.examples.places for batches in data]
    if not any(part is None for part in parts):
        every = np.sort(np.concatenate(parts))
        if np.array_equal(every, np.arange(len(every))):
            return parts, True
    ends = np.cumsum([len(batches.examples) for batches in data])
    return np.split(np.arange(ends[-1]), ends[:-1]), False


def _compute(path, base, data, places):
    """Writes the features of all images."""
    shape = (sum(map(len, places)), *base.output_shape[1:])
    _terminal.say(
        f"Frozen layers run once for each of {shape[0]:,} images: "
        f"{4e-9 * math.prod(shape):.2g} GB on disk; cache=False (--no-cache) "
        "needs none"
    )
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    parts, batches = _run(base, data, places), -(-shape[0] // BATCH)
    with _files.replacing(path) as beside:
        with beside.open("wb") as file:
            write_array_header_2_0(file, header)
            for part in _terminal.show_progress(parts, batches, "Features"):
                file.write(part.tobytes())
        with _files.replacing(_hash_file(path)) as hash_file:
            hash_file.write_text(_hash(beside))


def _run(base, data, places):
    """Yields the features of all images in batches, in the order of places."""
    order = np.argsort(np.concatenate(places))
    sizes = [len(part) for part in places]
    splits = np.repeat(range(len(sizes)), sizes)[order]
    rows = np.concatenate([np.arange(size) for size in sizes])[order]
    # One shape is compiled.
    pixels = np.zeros((BATCH, *data.input_shape), "float32")
    for start in range(0, len(order), BATCH):
        interrupts.raise_if_noted()
        some = splits[start : start + BATCH]
        for split, batches in enumerate(data):
            (found,) = np.nonzero(some == split)
            if len(found):
                pixels[found] = batches.read(rows[start + found])
        features = base.predict_on_batch(pixels)[: len(some)]
        yield ops.convert_to_numpy(features).astype("<f4", copy=False)
