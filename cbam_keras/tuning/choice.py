"""What is trained again, what is chosen, and the verdict of a search.

The highest accuracy of many trials is partly luck. So the best configurations
and the controls are trained again, with fresh seeds. One is chosen by its
validation accuracy over these, and judged by its test accuracy.
"""

from collections.abc import Sequence

from cbam_keras import study
from cbam_keras.tuning.space import PLAIN, name_of

# How many configurations are confirmed, besides the controls.
CANDIDATES = 2


def to_confirm(ranked: Sequence[study.Trial]) -> list[study.Trial]:
    """Returns the best trial of each control, then the best of the others."""
    different: dict[str, study.Trial] = {}
    for trial in ranked:
        # Hyperband tries the same values for different numbers of epochs.
        different.setdefault(name_of(trial.values), trial)
    trials = different.values()
    plain = [t for t in trials if t.values.get("attention") in PLAIN]
    se = [t for t in trials if t.values.get("attention") == "se"]
    others = [t for t in trials if t not in [*plain, *se]]
    return [*plain[:1], *se[:1], *others[:CANDIDATES]]


def choose(results: study.Ranking) -> tuple[study.Trial, str]:
    """Returns the best trial, and the name with which it was trained last."""
    if not results.confirmation:
        best = results.ranked[0]
        return best, best.variant
    row = _best(results.confirmation)
    best = next(x for x in results.trials if x.number == row.trial)
    return best, row.variant


def _best(confirmed):
    return max(confirmed, key=lambda row: row.validation)


def verdict(results: study.Ranking, unlearned: str) -> str:
    """Returns whether attention improves accuracy, in a sentence or two.

    `unlearned` says that no network has learned, or is empty.
    """
    trials, confirmed = results.trials, results.confirmation
    if not any("attention" in trial.values for trial in trials):
        return ""
    if not confirmed:
        return (
            "Nothing is confirmed: the highest accuracy of several trials is "
            "partly luck, and no evidence for or against attention. "
            "confirm=3 (--confirm 3) trains the best configurations and the "
            "controls again from fresh seeds, and compares them."
        )
    with_attention = [row for row in confirmed if row.attention not in PLAIN]
    if unlearned:
        text = unlearned
    elif not with_attention or len(with_attention) == len(confirmed):
        lacking = "without" if with_attention else "with"
        text = (
            f"No network {lacking} attention was confirmed, so whether "
            "attention improves accuracy here is not known."
        )
    else:
        row, kind = _best(confirmed), ""
        if row not in with_attention:
            kind = "no attention: "
            # SE is a control.
            others = [r for r in with_attention if r.attention != "se"]
            row = _best(others or with_attention)
        measure = results.measures[0].heading
        judged = study.judge(row.label, row, "none", results.confirmed_by)
        seen = study.describe_power([row], results.confirmed_by)
        low, high = row.interval or (0, 0)
        ending = f"; {seen}." if seen and low <= 0 <= high else "."
        text = f"Chosen by {measure}, {kind}{judged}{ending}"
    if len(trials) == 1:
        text += " Only one configuration was tried."
    return text
