"""Results, images and maps to draw, and what is read back from figures."""

from types import SimpleNamespace

import numpy as np

KEYS = ("loss", "accuracy", "val_loss", "val_accuracy")


def rows_of(network, *epochs):
    """Returns an epoch of a history for each four numbers."""
    return [
        {
            "network": network,
            "epoch": number,
            **dict(zip(KEYS, values, strict=True)),
        }
        for number, values in enumerate(epochs, 1)
    ]


ROWS = [
    *rows_of("none", (2.3, 0.1, 2.2, 0.12), (2.0, 0.2, 2.1, 0.18)),
    *rows_of("cbam", (1.9, 0.3, 1.8, 0.35), (1.0, 0.6, 1.5, 0.5)),
]


def trial(number, accuracy, outcome="finished", cost=(1000, 50000), **values):
    return SimpleNamespace(
        number=number,
        values=values,
        outcome=outcome,
        val_accuracy=accuracy,
        parameters=cost[0],
        macs=cost[1],
    )


CBAM = {"attention": "cbam", "reduction_ratio": 16, "kernel_size": 7}
SMALL = {"attention": "cbam", "reduction_ratio": 8, "kernel_size": 3}
TRIALS = [
    trial(0, 0.80, attention="none", learning_rate=0.001),
    trial(1, 0.90, **CBAM, order="parallel", learning_rate=0.02),
    trial(2, 0.94, **CBAM, order="channel_first", learning_rate=0.01),
    trial(3, 0.70, **SMALL, order="parallel", learning_rate=0.003),
    trial(4, 0.85, attention="se", reduction_ratio=8, learning_rate=0.01),
    trial(5, None, "diverged", attention="se", reduction_ratio=32),
]


def ablated(*rows):
    """Returns the results of an ablation."""
    return SimpleNamespace(
        rows=[
            SimpleNamespace(
                table=table,
                attention=attention,
                top1_error=float(np.mean(errors)),
                top1_errors=errors,
                interval=interval,
            )
            for table, attention, errors, interval in rows
        ]
    )


ABLATED = ablated(
    (1, "none", (9.0, 8.0), None),
    (1, "channel (avg & max)", (7.0, 8.0), (-7.35, 5.35)),
    (4, "none", (9.0, 8.0), None),
    (4, "SE", (7.0, 7.5), (-4.0, 1.5)),
    (4, "CBAM", (6.5, 5.5), (-2.5, -2.5)),
)

B, H, W = 2, 6, 9
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (B, H, W, 3), dtype="uint8")
HEAT = {name: RNG.random((B, H, W)) for name in ("baseline", "SE", "CBAM")}
CHANNEL, SPATIAL = RNG.random((B, 16)), RNG.random((B, 2, 3))
MAPS = {
    "stage1_attention": (CHANNEL, SPATIAL),
    "stage2_attention": (CHANNEL[:, :7], SPATIAL[:, :1, :1]),
}
SIGNALS, SIGNAL_HEAT = RNG.normal(size=(B, 9, 3)), RNG.random((B, 9))
VOLUMES, VOLUME_HEAT = RNG.normal(size=(B, 11, H, 5)), RNG.random((B, 11, H, 5))


def points(axes):
    """Returns the points of each kind of attention, by its label."""
    return {
        line.get_label(): line.get_xydata()
        for line in axes.get_lines()
        if line.get_label() not in ("mean", "Pareto front")
    }


def panels(figure):
    """Returns the axes that show images, row after row."""
    shown = [axes for axes in figure.axes if axes.images]
    return sorted(shown, key=lambda a: (-round(a.bbox.y1), a.bbox.x0))


def below(figure):
    return [axes.get_xlabel() for axes in panels(figure)]


def names(figure):
    """Returns the names over panels, as they were before broken to lines."""
    return [axes.get_title().replace("\n", "") for axes in panels(figure)]
