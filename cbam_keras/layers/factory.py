"""`make_attention`: a layer from a name, class, callable or template."""

import contextlib
import inspect
from collections.abc import Callable

import keras

from cbam_keras import _checks
from cbam_keras.layers.cbam import CBAM
from cbam_keras.layers.channel_attention import ChannelAttention
from cbam_keras.layers.spatial_attention import SpatialAttention
from cbam_keras.layers.squeeze_excite import SqueezeExcite

# A layer class, template or function.
MakeLayer = Callable[..., keras.layers.Layer]
ATTENTION = {
    "cbam": CBAM,
    "se": SqueezeExcite,
    "channel": ChannelAttention,
    "spatial": SpatialAttention,
}


def make_attention(
    attention: str | MakeLayer | None, name: str | None = None
) -> keras.layers.Layer | None:
    """Returns a new attention layer, or `None` for no attention.

    Args:
        attention: `None`; one of `"cbam"`, `"se"`, `"channel"`, `"spatial"`;
            a layer class; a callable that takes `name=` and returns a new
            layer, as `functools.partial(CBAM, kernel_size=3)`; or a layer
            used as a template, which is copied without its weights.
        name: String, the name of the layer. `None` lets Keras choose.
            Defaults to `None`.

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
        _checks.one_of("attention", attention, (None, *ATTENTION))
        return ATTENTION[attention](name=name)
    if isinstance(attention, keras.layers.Layer):
        config = attention.get_config()
        config.pop("name", None)
        if name is not None:
            config["name"] = name
        with _refusal_explained(type(attention)):
            return type(attention).from_config(config)
    layer = attention
    if callable(attention):
        with _refusal_explained(getattr(attention, "func", attention)):
            layer = attention(name=name)
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            "`attention` must be None, a name, a layer class, a layer, or a "
            "callable that takes `name` and returns a layer. Received: "
            f"attention={attention!r}, which gives {layer!r}"
        )
    if name is not None and layer.name != name:
        raise ValueError(
            "An `attention` that is callable must give its layer the name "
            f'it is called with. Received: a layer named "{layer.name}" in '
            f'place of "{name}" from attention={attention!r}'
        )
    return layer


@contextlib.contextmanager
def _refusal_explained(kind):
    """Says what is missing in a class that does not take Keras' arguments."""
    try:
        yield
    except TypeError as error:
        if not inspect.isclass(kind):
            # What takes other arguments says so itself.
            raise
        arguments = inspect.signature(kind).parameters.values()
        if any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
            raise
        raise TypeError(
            "`attention` must be a layer whose `__init__` takes **kwargs, the "
            "`name`, `dtype` and `trainable` of Keras. Received: the class "
            f"{kind.__name__}{inspect.signature(kind)}. Add **kwargs to its "
            "`__init__`, and pass them to `super().__init__(**kwargs)`"
        ) from error
