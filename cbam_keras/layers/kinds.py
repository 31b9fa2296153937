"""`attention_layers`: kinds of attention to compare, each by its name."""

from collections.abc import Sequence

from cbam_keras import _checks
from cbam_keras._checks import Options
from cbam_keras.layers.factory import (
    ATTENTION,
    KINDS,
    Attention,
    MakeLayer,
    make_attention,
)
from cbam_keras.layers.stages import ALL

BASELINE = "none"
# Kinds of attention on the skips of a U-Net begin with this.
SKIP = "skip-"
# The one kind that only skips have.
GATE = "gate"


def attention_layers(
    attentions: Sequence[str | MakeLayer],
    defaults: Options | None = None,
    options: Options | None = None,
    has_masks: bool = False,
) -> dict[str, Attention | None]:
    """Returns each kind by its name, with the options that it gets.

    `defaults` are for layers given by name, `options` for all, as far as they
    take them.
    """
    if isinstance(attentions, str):
        attentions = [attentions]
    kinds: list[str | MakeLayer] = []
    for kind in attentions:
        kinds += (BASELINE, *KINDS) if kind == ALL else (kind,)
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
        is_gate = on_skips and asked == GATE
        attention = Attention(GATE) if is_gate else _attention_of(asked)
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
