"""The trials of a search, coloured by their kind of attention."""

from cbam_keras.plotting.style import styles_of


def finished_trials(trials):
    """Returns the trials that are finished, or raises if there are none."""
    finished = [trial for trial in trials if trial.outcome == "finished"]
    if not finished:
        raise ValueError(
            "`trials` must hold at least one finished trial. Received: "
            f"{len(trials)} trials, none of them finished"
        )
    return finished


def attention_of(trial):
    """Returns the kind of attention of a trial, by which it is coloured."""
    return str(trial.values.get("attention", "a trial"))


def attention_styles(trials):
    """Returns a style for each kind of attention."""
    kinds = sorted({attention_of(trial) for trial in trials})
    return {
        kind: {**style, "linestyle": ""}
        for kind, style in styles_of(kinds).items()
    }


def draw_trials(axes, positions, trials, styles):
    """Draws the accuracy of each trial over a position on the x axis."""
    for kind, style in styles.items():
        points = [
            (x, 100 * trial.val_accuracy)
            for x, trial in zip(positions, trials, strict=True)
            if attention_of(trial) == kind
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                **style,
                markersize=6,
                alpha=0.8,
                label=kind,
            )
