"""Trials of a search, coloured by their kind of attention."""

from cbam_keras.plotting.style import STYLES


def _finished(trials):
    finished = [trial for trial in trials if trial.outcome == "finished"]
    if not finished:
        raise ValueError(
            "`trials` must hold at least one finished trial. Received: "
            f"{len(trials)} trials, none of them finished"
        )
    return finished


def arm(trial):
    """Returns what tells the colours of trials apart."""
    return str(trial.values.get("attention", "a trial"))


def arm_styles(trials):
    """Returns a style for each kind of attention."""
    arms = sorted({arm(trial) for trial in trials})
    return {
        name: {**STYLES[index % len(STYLES)], "linestyle": ""}
        for index, name in enumerate(arms)
    }


def draw_arms(axes, places, trials, styles):
    """Draws a point per trial, a colour and marker per kind of attention."""
    for name, style in styles.items():
        own = [
            (place, 100 * trial.val_accuracy)
            for place, trial in zip(places, trials, strict=True)
            if arm(trial) == name
        ]
        if own:
            axes.plot(
                *zip(*own, strict=True),
                **style,
                markersize=6,
                alpha=0.8,
                label=name,
            )
