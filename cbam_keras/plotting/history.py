"""Loss and accuracy over the epochs."""

from collections.abc import Sequence
from typing import Any

from cbam_keras import _checks
from cbam_keras.plotting.style import (
    add_legend,
    covered,
    new_figure,
    style_axes,
    styles_of,
)


def plot_history(rows: Sequence[dict[str, Any]], title: str = "") -> Any:
    """Draws loss and accuracy over the epochs, a colour per network.

    Where lines of several networks coincide, the lower ones are wider.

    Args:
        rows: Sequence of dictionaries, one per network and epoch, with the
            keys `"network"`, `"epoch"` (from 1), `"loss"`, `"accuracy"`,
            `"val_loss"` and `"val_accuracy"` (in [0, 1]).
        title: String, written over the figure. Defaults to `""`.

    Returns:
        A `matplotlib.figure.Figure`: training with thin lines, validation
        with bold lines and markers.

    Raises:
        ValueError: If there are no rows.
        ImportError: If matplotlib is not installed.

    Example:
        >>> row = {"network": "cbam", "epoch": 1, "loss": 1.0,
        ...        "accuracy": 0.5, "val_loss": 1.1, "val_accuracy": 0.4}
        >>> figure = plot_history([row])
    """
    if not rows:
        raise ValueError(
            "`rows` must hold at least one epoch. Received: rows=[]"
        )
    figure = new_figure(10, 4.2, title)
    ticker = _checks.require("matplotlib.ticker", extra="plot")
    networks = list(dict.fromkeys(row["network"] for row in rows))
    panels = zip(
        figure.subplots(1, 2),
        ("loss", "accuracy"),
        ("Loss", "Accuracy (%)"),
        strict=True,
    )
    styles = styles_of(networks)
    for axes, key, label in panels:
        draw_splits(axes, rows, styles, key)
        axes.set_xlabel("Epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        style_axes(axes, "both")
    add_legend(figure, [axes], columns=3)
    return figure


def draw_splits(axes, rows, styles, key):
    """Draws a line per network and split."""
    scale = 100 if key == "accuracy" else 1
    own = {
        name: [row for row in rows if row["network"] == name] for name in styles
    }
    lines = {
        split: [[scale * row[prefix + key] for row in x] for x in own.values()]
        for split, prefix in (("validation", "val_"), ("training", ""))
    }
    below = {split: covered(values) for split, values in lines.items()}
    for index, (network, style) in enumerate(styles.items()):
        epochs = [row["epoch"] for row in own[network]]
        wider = below["validation"][index]
        axes.plot(
            epochs,
            lines["validation"][index],
            **style,
            linewidth=2 + 3 * wider,
            markersize=5 + 4 * wider,
            label=f"{network}, validation",
        )
        axes.plot(
            epochs,
            lines["training"][index],
            **{**style, "marker": ""},
            linewidth=1 + 3 * below["training"][index],
            alpha=0.6,
            label=f"{network}, training",
        )
