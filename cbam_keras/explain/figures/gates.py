"""What the accuracy loses without each gate, as a figure."""

from typing import TYPE_CHECKING

from cbam_keras import _checks
from cbam_keras.explain.figures import style

if TYPE_CHECKING:
    from cbam_keras.explain.importance import GateImportance

MEASURES = {"accuracy": "accuracy", "probability": "probability of the class"}
REPLACED = {"constant": "the mean map in its place", "off": "no gate"}


def plot_gate_importance(
    importance: "GateImportance", *, measure: str = "accuracy"
) -> "style.Figure":
    """Draws what a model loses without each gate, with 95 % intervals.

    Args:
        importance: Result of `explain.gate_importance`.
        measure: `"accuracy"`, or `"probability"` of the true class, which tells
            more with few images. Defaults to `"accuracy"`.

    Returns:
        A `matplotlib.figure.Figure`. It has a row per gate, and one of all
        gates.

    Raises:
        ValueError: If `measure` is unknown.
        ImportError: If matplotlib is not installed.

    Example:
        >>> model = cbam_keras.models.ResNet(
        ...     (1, 1), block="basic", widths=(8, 16), stem="small",
        ...     input_shape=(16, 16, 1), classes=3, attention="se",
        ... )
        >>> images, labels = np.random.rand(3, 16, 16, 1), [0, 1, 2]
        >>> gates = cbam_keras.explain.gate_importance(model, images, labels)
        >>> figure = plot_gate_importance(gates)
    """
    _checks.one_of("measure", measure, MEASURES)
    rows = importance.rows
    figure = style.new_figure(
        8, 1.2 + 0.34 * len(rows), f"What the gates of {importance.model} do"
    )
    axes = figure.subplots()
    styles = style.styles_of(["cbam", "none"])
    for (key, label), look, shift in zip(
        REPLACED.items(), styles.values(), (-0.12, 0.12), strict=True
    ):
        changes = [getattr(row, key) for row in rows]
        axes.errorbar(
            [100 * getattr(x, measure) for x in changes],
            [place + shift for place in range(len(rows))],
            xerr=[100 * getattr(x, f"{measure}_error") for x in changes],
            label=label,
            capsize=2,
            **(look | {"linestyle": ""}),
        )
    axes.axvline(0, color="0.4", linewidth=1)
    axes.set_yticks(range(len(rows)), [row.gate for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"Change of the {MEASURES[measure]} in points")
    style.style_axes(axes, "x")
    style.add_legend(figure, [axes])
    return figure
