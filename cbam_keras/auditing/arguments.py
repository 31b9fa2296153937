"""Checks of the constructor's arguments: what they say is what is done."""

from typing import Any

from cbam_keras.auditing.makers import Maker, changeable, copied
from cbam_keras.auditing.results import Findings
from cbam_keras.auditing.subject import Subject, same


def check_arguments(maker: Maker, subject: Subject, found: Findings) -> None:
    """Adds arguments that do nothing, or not what they say."""
    own = changeable(subject.layer)
    try:
        copied(subject.layer)
    except Exception:
        own = {}

    def make_own(channels, **changes):
        return copied(subject.layer, **changes)

    ways = [(maker.make, maker.arguments)]
    if maker.instance is None:
        # A function around the class may fix arguments of the class.
        outside = {k: v for k, v in own.items() if k not in maker.arguments}
        ways.append((make_own, outside))
    every = {**own, **maker.arguments}
    if _sets_width(every, found):
        every = {k: v for k, v in every.items() if not is_ratio(k)}
    for make, arguments in ways:
        for name, value in arguments.items():
            if name not in every:
                continue
            others = _others(name, value)
            if others and not _has_effect(make, name, others, subject):
                found.departures.append(
                    f"The argument `{name}` does nothing: weights and outputs "
                    f"with {name}={others[0]!r} are those with "
                    f"{name}={value!r}."
                )
    _check_values(every, subject.shape[-1], found)


def rounded(channels: int, ratio: float) -> dict[str, int]:
    """Returns the hidden widths that `C / r` may mean, by what is done."""
    quotient = channels / ratio
    return {
        "truncated": int(quotient),
        "rounded": int(quotient + 0.5),
        "rounded up": -int(-quotient // 1),
    }


def _others(name, value):
    """Returns other values to try for an argument, the likeliest first."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or "seed" in name or value <= 0:
        return []
    if isinstance(value, float):
        # Others, as epsilon and momentum, change too little to be seen.
        return [2 * value, value / 2] if is_ratio(name) else []
    if "kernel" in name:
        return [value + 2, max(1, value - 2)]
    return [value // 2 or 2, 2 * value, value + 1]


def _sets_width(arguments, found):
    """Returns whether an argument gives the hidden width itself."""
    hidden = found.facts.get("hidden_units")
    return hidden is not None and any(
        type(value) is int and value == hidden
        for name, value in arguments.items()
        if not is_ratio(name) and "kernel" not in name
    )


def is_ratio(name: str) -> bool:
    """Returns whether an argument is a reduction ratio, by its name."""
    return "ratio" in name or "reduction" in name or name == "r"


def _has_effect(make, name, others, subject):
    """Returns whether a layer with another argument is another layer."""
    for other in others:
        try:
            changed = Subject(
                make(subject.shape[-1], **{name: other}), subject.shape
            )
            shapes = [tuple(weight.shape) for weight in changed.weights]
            if shapes != [tuple(weight.shape) for weight in subject.weights]:
                return True
            values = subject.values(biases=True)
            if not same(
                changed.output(changed.x, values),
                subject.output(subject.x, values),
            ):
                return True
        except Exception:
            # It has the effect that this value does not fit these features.
            return True
    return False


def _check_values(arguments: dict[str, Any], channels, found):
    hidden = found.facts.get("hidden_units")
    window = found.facts.get("window")
    for name, value in arguments.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or value <= 0:
            continue
        if is_ratio(name) and hidden is not None:
            # Less than 1 is the fraction itself.
            ratio = value if value >= 1 else 1 / value
            widths = rounded(channels, ratio).values()
            if hidden not in widths and hidden != max(1, *widths):
                found.departures.append(
                    f"With {name}={value!r} the hidden layer has {hidden} "
                    f"units for {channels} channels, in place of "
                    f"{max(1, round(channels / ratio))}."
                )
        if name == "kernel_size" and window not in (None, (value, value)):
            found.departures.append(
                f"With kernel_size={value} the window of the spatial gate is "
                f"{window[0]} x {window[1]}."
            )
