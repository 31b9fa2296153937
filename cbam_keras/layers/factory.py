"""`make_attention` and `Attention`: layers from what `attention=` takes."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence

import keras

from cbam_keras import _checks
from cbam_keras._checks import Options
from cbam_keras.layers.attention_gate import AttentionGate
from cbam_keras.layers.attention_layer import (
    SHARED_ARGUMENTS,
    TrainableAttention,
)
from cbam_keras.layers.bam import BAM
from cbam_keras.layers.cbam import CBAM, VARIANTS
from cbam_keras.layers.channel_attention import ChannelAttention
from cbam_keras.layers.coordinate_attention import CoordinateAttention
from cbam_keras.layers.efficient_channel_attention import (
    EfficientChannelAttention,
)
from cbam_keras.layers.global_context import GlobalContext
from cbam_keras.layers.scse import SCSE
from cbam_keras.layers.simam import SimAM
from cbam_keras.layers.spatial_attention import SpatialAttention
from cbam_keras.layers.squeeze_excite import SqueezeExcite
from cbam_keras.layers.stages import ALL, check_stages
from cbam_keras.layers.triplet_attention import TripletAttention

# A layer class, or a function that returns a layer.
MakeLayer = Callable[..., keras.layers.Layer]
# The layer class that each name stands for.
ATTENTION = {
    "cbam": CBAM,
    "cbam-paper": CBAM,
    "se": SqueezeExcite,
    "channel": ChannelAttention,
    "spatial": SpatialAttention,
    "eca": EfficientChannelAttention,
    "coordinate": CoordinateAttention,
    "simam": SimAM,
    "bam": BAM,
    "scse": SCSE,
    "gc": GlobalContext,
    "triplet": TripletAttention,
}
# Skips have a gate of their own, which takes two tensors.
LAYERS_BY_NAME = {**ATTENTION, "gate": AttentionGate}
# One name for each layer class.
ATTENTION_KINDS = tuple(name for name in ATTENTION if name != "cbam-paper")
# The name of a network without attention.
BASELINE = "none"
# The names of attention on the skips of a U-Net begin with this.
SKIP = "skip-"
IDENTITY = {"identity_init": True}
# A name is our advice, a class is the formula: a layer that is given by name
# starts as the identity, or as said here, in place of its defaults. Small
# networks were more accurate with gates that start at one, and may amplify,
# than with the two gates of the paper, which start near 0.5 each and so scale
# the features by a quarter. The many weights of the spatial gate, which all
# start at zero, saturate it within a few steps of Adam, unless its logits are
# normalized.
RECOMMENDED: dict[str, Mapping[str, object]] = {
    "cbam": VARIANTS["recommended"],
    "cbam-paper": VARIANTS["paper"],
    "spatial": {**IDENTITY, "batch_norm": True, "batch_norm_momentum": 0.9},
    # They cannot be the identity.
    "simam": {},
    "gate": {},
}


@_checks.named_arguments
@dataclasses.dataclass(frozen=True, repr=False)
class Attention:
    """An attention layer with its arguments, as a value.

    `attention=` takes it like a layer class.

    Its `repr` is the line of code that makes the layer.

    Args:
        layer: Name, layer class or callable, as for `make_attention`. Defaults
            to `"cbam"`.
        options: Mapping of arguments of the layer, which override those that a
            name stands for. Defaults to none.
        stages: String, the stages of a network that get it, or `"top"`, see
            `insert_attention`. Only for functions that take `attention=`: a
            single layer has no stage. Defaults to `"all"`.

    Raises:
        ValueError: If the name of the layer or the form of `stages` is unknown,
            or if an `Attention` with `stages` other than `"all"` is called.
        TypeError: If `layer` is none of the above.

    Example:
        >>> attention = Attention("se", {"reduction_ratio": 4})
        >>> attention
        cbam_keras.SqueezeExcite(identity_init=True, reduction_ratio=4)
        >>> attention(name="gate").reduction_ratio
        4
    """

    layer: str | MakeLayer = "cbam"
    # Dictionaries have no hash.
    options: Mapping[str, object] = dataclasses.field(
        default_factory=dict, hash=False
    )
    stages: str = ALL

    def __post_init__(self) -> None:
        _checks.convert(self, stages=check_stages(self.stages))
        if isinstance(self.layer, str):
            _checks.one_of("layer", self.layer, LAYERS_BY_NAME)
        elif not callable(self.layer) or isinstance(
            self.layer, keras.layers.Layer
        ):
            raise TypeError(
                "`layer` must be a name, a layer class, or a callable that "
                f"takes `name` and returns a layer. Received: {self.layer!r}"
            )

    def __call__(self, name: str | None = None) -> keras.layers.Layer:
        """Returns a new layer."""
        if self.stages != ALL:
            raise ValueError(
                "`attention` with `stages` must be passed to a builder of "
                "cbam_keras.models or to insert_attention, which know the "
                f"stages of their network. Received: a call of {self!r}. To "
                "`compare`, pass `stages` itself"
            )
        return self._partial(name=name)

    @property
    def arguments(self) -> dict[str, object]:
        """The options, with those that a name stands for."""
        if not isinstance(self.layer, str):
            return dict(self.options)
        return {**RECOMMENDED.get(self.layer, IDENTITY), **self.options}

    @property
    def _partial(self):
        layer = self.layer
        if isinstance(layer, str):
            layer = LAYERS_BY_NAME[layer]
        # A partial of a `functools.partial` is one partial of both.
        return functools.partial(layer, **self.arguments)

    @property
    def func(self) -> Callable:
        """The class or function that makes the layer."""
        return self._partial.func

    @property
    def keywords(self) -> dict[str, object]:
        """The arguments, with the keywords of a `functools.partial`."""
        return self._partial.keywords

    @property
    def name(self) -> str:
        """The name of this attention in tables."""
        name = self.layer
        if not isinstance(name, str):
            name = getattr(self.func, "__name__", "custom").strip("<>")
        if self.stages == ALL:
            return name
        stages = self.stages.replace(" ", "-")
        stage = "stage-" if stages[0].isdigit() else ""
        return f"{name}-{stage}{stages}"

    @property
    def code(self) -> str:
        """The line of code, or `""` if the layer cannot be imported."""
        text = repr(self)
        # The text of lambdas, local functions and other objects contains "<".
        return "" if "<" in text else text

    def __repr__(self) -> str:
        function = self.func
        name = getattr(function, "__qualname__", repr(function))
        module = getattr(function, "__module__", "__main__")
        # What users import it from.
        if module.startswith("cbam_keras."):
            is_at_root = function is not AttentionGate
            module = "cbam_keras" if is_at_root else "cbam_keras.layers"
        elif getattr(keras.layers, name, None) is function:
            module = "keras.layers"
        path = name if module == "__main__" else f"{module}.{name}"
        arguments = [repr(value) for value in self._partial.args]
        if self.stages == ALL:
            arguments += [f"{key}={x!r}" for key, x in self.keywords.items()]
            return f"{path}({', '.join(arguments)})"
        if arguments:
            path = f"functools.partial({', '.join([path, *arguments])})"
        return (
            f"cbam_keras.layers.Attention({path}, {self.keywords!r}, "
            f"stages={self.stages!r})"
        )

    def takes(self, option: str) -> bool:
        """Returns whether the layer has an argument of this name.

        Args:
            option: String, the name of the argument.
        """
        if option in inspect.signature(self._partial).parameters:
            return True
        # Our layers with weights take these by `**kwargs`.
        is_trainable = inspect.isclass(self.func) and issubclass(
            self.func, TrainableAttention
        )
        return is_trainable and option in SHARED_ARGUMENTS

    def with_options(self, options: Mapping[str, object]) -> "Attention":
        """Returns a copy with those of the options that the layer takes.

        Args:
            options: Mapping of keyword arguments. Others are left out.
        """
        options_taken = {
            name: value for name, value in options.items() if self.takes(name)
        }
        return dataclasses.replace(
            self, options={**self.options, **options_taken}
        )


@_checks.named
def make_attention(
    attention: str | MakeLayer | None, name: str | None = None
) -> keras.layers.Layer | None:
    """Returns a new attention layer, or `None` if `attention` is `None`.

    `"cbam"` is the layer that we recommend, `CBAM(**VARIANTS["recommended"])`,
    and `"cbam-paper"` is `CBAM()`. All other names except `"simam"` and
    `"gate"` give layers that start as the identity.

    Args:
        attention: `None`, a name, an `Attention`, a layer class, a callable, or
            a layer. Names are `"cbam"`, `"cbam-paper"`, `"se"`, `"channel"`,
            `"spatial"`, `"eca"`, `"coordinate"`, `"simam"`, `"bam"`, `"scse"`,
            `"gc"`, `"triplet"`, and for skips `"gate"`. A callable takes
            `name=` and returns a new layer, e.g. `functools.partial(CBAM,
            kernel_size=3)`. A layer is a template, which is copied without its
            weights.
        name: String, the name of the layer. `None` lets Keras choose. Defaults
            to `None`.

    Returns:
        A `keras.layers.Layer`, not yet built, or `None`.

    Raises:
        ValueError: If a name is unknown, or if a callable does not pass `name`
            on to its layer.
        TypeError: If `attention` is none of the above, or of a class whose
            `__init__` takes no `**kwargs`.

    Example:
        >>> make_attention("se", name="gate").name
        'gate'
        >>> make_attention(CBAM(reduction_ratio=8)).reduction_ratio
        8
    """
    if attention is None:
        return None
    if isinstance(attention, str):
        _checks.one_of("attention", attention, (None, *LAYERS_BY_NAME))
        return Attention(attention)(name)
    if isinstance(attention, keras.layers.Layer):
        config = attention.get_config()
        config.pop("name", None)
        if name is not None:
            config["name"] = name
        return type(attention).from_config(config)
    layer = attention(name=name) if callable(attention) else attention
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            "`attention` must be None, a name, a layer class, a layer, or a "
            "callable that takes `name` and returns a layer. Received: "
            f"attention={attention!r}, which gives {_checks.shown(layer)}"
        )
    if name is not None and layer.name != name:
        raise ValueError(
            "A callable `attention` must give its layer the name it is called "
            f'with. Received: a layer named "{layer.name}" in place of '
            f'"{name}" from attention={attention!r}'
        )
    return layer


def attention_layers(
    attentions: Sequence[str | MakeLayer],
    defaults: Options | None = None,
    options: Options | None = None,
    has_masks: bool = False,
) -> dict[str, Attention | None]:
    """Returns the attention types to compare, each by its name in tables.

    Args:
        attentions: One attention type or several: names, also `"none"` and
            `"all"`, or anything else that `Attention` takes as its `layer`.
        defaults: Mapping of arguments of the layers that are given by name.
            `None` means none.
        options: Mapping of arguments of all layers. `None` means none.
        has_masks: Boolean, whether the networks predict masks. Then names that
            begin with `"skip-"` are attention on the skip connections.

    Returns:
        Dictionary of an `Attention`, or `None` for `"none"`, by name, each with
        those of the options that its layer takes.

    Raises:
        ValueError: If a name is unknown or given twice, or if one of the
            options is an argument of no layer.
    """
    if isinstance(attentions, str):
        attentions = [attentions]
    attention_types: list[str | MakeLayer] = []
    for attention_type in attentions:
        if attention_type == ALL:
            attention_types += [BASELINE, *ATTENTION_KINDS]
        else:
            attention_types.append(attention_type)
    layers: dict[str, Attention | None] = {}
    for attention_type in attention_types:
        if is_on_skips(attention_type) and not has_masks:
            raise ValueError(
                f'Names that begin with "{SKIP}" are attention on the skips of '
                "a U-Net, for masks (--masks). Received: "
                f"attention={attention_types}"
            )
        name, attention = _named_attention(
            attention_type, defaults or {}, options or {}
        )
        layers[name] = attention
        # Bad values, and an `Attention` with stages, raise here, before any
        # work.
        make_attention(attention, name="gate")
    if not layers or len(layers) != len(attention_types):
        raise ValueError(
            "`attention` must be one or several different kinds. Received: "
            f"attention={attention_types}"
        )
    options_of_layers = {
        option
        for attention in layers.values()
        if attention is not None
        for option in attention.options
    }
    for option, value in (options or {}).items():
        if option not in options_of_layers:
            raise ValueError(
                f"`{option}` must be an argument of one of the attention "
                f"layers that are compared. Received: {option}={value!r}, "
                f"attention={[*layers]}"
            )
    return layers


def is_on_skips(name: object) -> bool:
    """Returns whether it is the name of attention on the skips of a U-Net."""
    return isinstance(name, str) and name.startswith(SKIP)


def _named_attention(attention_type, defaults, options):
    """Returns the name of an attention type, and its layer with options."""
    prefix = SKIP if is_on_skips(attention_type) else ""
    layer = attention_type
    if prefix:
        layer = attention_type.removeprefix(SKIP)
    # Only skip connections can have the gate that takes two tensors.
    is_gate = prefix == SKIP and layer == "gate"
    attention = Attention("gate") if is_gate else _to_attention(layer)
    if attention is None:
        return f"{prefix}{BASELINE}", None
    name = f"{prefix}{attention.name}"
    # The user's own layers have their own defaults.
    if isinstance(layer, str):
        if options.get("identity_init") is False and not is_gate:
            # `identity_init=False` asks for the formula, not for what we
            # recommend.
            attention = Attention(ATTENTION[layer])
        attention = attention.with_options(defaults)
    return name, attention.with_options(options)


def _to_attention(layer):
    """Returns an `Attention`, or `None` for `"none"`."""
    if isinstance(layer, Attention):
        return layer
    if isinstance(layer, str):
        _checks.one_of("attention", layer, [BASELINE, *ATTENTION, ALL])
        return None if layer == BASELINE else Attention(layer)
    return Attention(layer)
