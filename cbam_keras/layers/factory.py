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

MakeLayer = Callable[..., keras.layers.Layer]
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
# The names of different classes.
ATTENTION_KINDS = tuple(name for name in ATTENTION if name != "cbam-paper")
# The name of no attention.
BASELINE = "none"
# Kinds of attention on the skips of a U-Net begin with this.
SKIP = "skip-"
IDENTITY = {"identity_init": True}
# A name is our advice, a class is the formula: a layer that is given by name
# starts as the identity, or as said here, in place of its defaults. Small
# networks were more accurate with gates that start at one, and may amplify.
# Unless its logits are normalized, the spatial gate, whose weights all start at
# zero, saturates within a few steps of Adam.
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
        options: Mapping of arguments of the layer, before those that a name
            stands for. Defaults to none.
        stages: String, the stages of a network that get it, or `"top"`, see
            `insert_attention`. Only for functions that take `attention=`.
            Defaults to `"all"`.

    Raises:
        ValueError: If the name of a layer is unknown, or the form of
            `stages`; if it is called with other stages than `"all"`.
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
                "`attention` with `stages` must be given to a builder of "
                "cbam_keras.models or to insert_attention, as attention=; "
                f"`compare` takes `stages`. Received: a call of {self!r}"
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
        """What tables call it."""
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
        """The line of code, or nothing where no module has the layer."""
        text = repr(self)
        # Lambdas, local functions and other objects are written with it.
        return "" if "<" in text else text

    def __repr__(self) -> str:
        made = self._partial
        function = getattr(made.func, "__qualname__", repr(made.func))
        module = getattr(made.func, "__module__", "__main__")
        if module.startswith("cbam_keras."):
            is_at_root = made.func is not AttentionGate
            module = "cbam_keras" if is_at_root else "cbam_keras.layers"
        elif getattr(keras.layers, function, None) is made.func:
            module = "keras.layers"
        path = function if module == "__main__" else f"{module}.{function}"
        arguments = [repr(value) for value in made.args]
        if self.stages == ALL:
            arguments += [f"{name}={x!r}" for name, x in made.keywords.items()]
            return f"{path}({', '.join(arguments)})"
        if made.args:
            path = f"functools.partial({', '.join([path, *arguments])})"
        given = f"{path}, {made.keywords!r}, stages={self.stages!r}"
        return f"cbam_keras.layers.Attention({given})"

    def takes(self, option: str) -> bool:
        """Returns whether the layer has an argument of this name."""
        if option in inspect.signature(self._partial).parameters:
            return True
        kind = self.func
        is_ours = inspect.isclass(kind) and issubclass(kind, TrainableAttention)
        return is_ours and option in SHARED_ARGUMENTS

    def with_options(self, options: Mapping[str, object]) -> "Attention":
        """Returns it with those of these options that the layer takes."""
        taken = {name: x for name, x in options.items() if self.takes(name)}
        return dataclasses.replace(self, options={**self.options, **taken})


@_checks.named
def make_attention(
    attention: str | MakeLayer | None, name: str | None = None
) -> keras.layers.Layer | None:
    """Returns a new attention layer, or `None` for no attention.

    `"cbam"` is the layer that we recommend, `CBAM(**VARIANTS["recommended"])`,
    and `"cbam-paper"` is `CBAM()`. All other names except `"simam"` give layers
    that start as the identity.

    Args:
        attention: `None`, a name, an `Attention`, a layer class, a callable, or
            a layer. Names are `"cbam"`, `"cbam-paper"`, `"se"`, `"channel"`,
            `"spatial"`, `"eca"`, `"coordinate"`, `"simam"`, `"bam"`, `"scse"`,
            `"gc"`, `"triplet"`, and for skips `"gate"`. A callable takes
            `name=` and returns a new layer, e.g. `functools.partial(CBAM,
            kernel_size=3)`. A layer is copied without its weights.
        name: String, the layer's name. Defaults to `None`: Keras chooses it.

    Returns:
        A `keras.layers.Layer`, not yet built, or `None`.

    Raises:
        ValueError: If the name of an attention is unknown, or if a callable
            does not pass `name` on to its layer.
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
            f'with. Received: "{layer.name}", not "{name}", from {attention=}'
        )
    return layer


def attention_layers(
    attentions: Sequence[str | MakeLayer],
    defaults: Options | None = None,
    options: Options | None = None,
    has_masks: bool = False,
) -> dict[str, Attention | None]:
    """Returns each kind by its name, with the options that it takes.

    `defaults` are for layers given by name, `options` for all.
    """
    if isinstance(attentions, str):
        attentions = [attentions]
    kinds: list[str | MakeLayer] = []
    for kind in attentions:
        kinds += (BASELINE, *ATTENTION_KINDS) if kind == ALL else (kind,)
    options = options or {}
    is_formula = options.get("identity_init") is False
    layers: dict[str, Attention | None] = {}
    for kind in kinds:
        on_skips = is_on_skips(kind)
        if on_skips and not has_masks:
            raise ValueError(
                f'Names that begin with "{SKIP}" are attention on the skips of '
                f"a U-Net, for masks (--masks). Received: attention={kinds}"
            )
        asked = str(kind).removeprefix(SKIP) if on_skips else kind
        is_gate = on_skips and asked == "gate"
        attention = Attention("gate") if is_gate else _attention_of(asked)
        name = SKIP * on_skips + (attention.name if attention else BASELINE)
        # The user's own layers have their own defaults.
        if attention and isinstance(asked, str):
            if is_formula and not is_gate:
                attention = Attention(ATTENTION[asked])
            attention = attention.with_options(defaults or {})
        layers[name] = attention and attention.with_options(options)
        # Bad values, and stages of its own, raise here, before any work.
        make_attention(layers[name], name="gate")
    if not kinds or len(layers) != len(kinds):
        raise ValueError(
            "`attention` must be one or several different kinds. Received: "
            f"attention={kinds}"
        )
    used = {key for layer in layers.values() if layer for key in layer.options}
    unused = [key for key in options if key not in used]
    if unused:
        raise ValueError(
            f"`{unused[0]}` must be an argument of one of the attention "
            f"layers that are compared. Received: {unused[0]}="
            f"{options[unused[0]]!r}, attention={[*layers]}"
        )
    return layers


def is_on_skips(name: object) -> bool:
    """Returns whether it is the name of a kind for the skips of a U-Net."""
    return isinstance(name, str) and name.startswith(SKIP)


def _attention_of(asked):
    if isinstance(asked, Attention):
        return asked
    if isinstance(asked, str):
        _checks.one_of("attention", asked, [BASELINE, *ATTENTION, ALL])
        return None if asked == BASELINE else Attention(asked)
    return Attention(asked)
