"""What can be said of an attention module, and what follows from it."""

import dataclasses
import enum


class State(enum.StrEnum):
    """How an attention module stands, in the order of the last line."""

    SOUND = "sound"
    MISNAMED = "not as called"
    WRONG = "wrong"
    NOT_ANALYZED = "not analyzed"
    # It scales features and is called nothing: it decides nothing.
    NO_ATTENTION = "no attention"

    @property
    def is_passed(self) -> bool:
        """Whether a report with it may pass."""
        return self in (State.SOUND, State.NO_ATTENTION)


# What the last line counts.
COUNTED = tuple(state for state in State if state != State.NO_ATTENTION)


class Finding(enum.Enum):
    """One thing that can be said of a module: its state, and its sentence."""

    EQUAL = State.SOUND, "{ours}"
    NEAREST = (
        State.SOUND,
        "nearest of ours: {ours}; first difference: {difference}",
    )
    ADDS = State.SOUND, "adds, does not multiply"
    NO_FACTORS = State.SOUND, "does not multiply features by factors"
    SOFTMAX = (
        State.SOUND,
        "features shrink to 1/{probes.softmax} (softmax over positions)",
    )
    WINDOW = (
        State.SOUND,
        "pools over windows of {probes.window}, not over all positions",
    )
    UNLIKE = (
        State.SOUND,
        "unlike ours: factors by {probes.axes}, "
        "{probes.range[0]:.2f} to {probes.range[1]:.2f}",
    )
    UNNAMED_PRODUCT = (
        State.NO_ATTENTION,
        "scales features, no attention: {what}",
    )

    HALF = State.MISNAMED, "called {claim}, is its {half} half"
    OTHER = State.MISNAMED, "called {claim}, is {module}"
    NONE = State.MISNAMED, "called {claim}, is none: {what}"
    CHANGED = State.MISNAMED, "called {claim}; not the paper's: {what}"

    RANDOM = (
        State.WRONG,
        "differs from call to call: new weights, or randomness at inference",
    )
    UNTRACKED = (
        State.WRONG,
        "weights of {probes.untracked} arrays are not tracked: not saved, not "
        "trained",
    )
    IDENTITY = State.WRONG, "does nothing: returns its input"
    MIXES_IMAGES = State.WRONG, "mixes the images of a batch"
    CONSTANT = (
        State.WRONG,
        "constant: factors {probes.range[0]:.2f} to {probes.range[1]:.2f}, "
        "whatever the features",
    )
    NO_GRADIENT = (
        State.WRONG,
        "weights of {probes.without_gradient} arrays get no gradient",
    )
    ONE_FACTOR = (
        State.WRONG,
        "one factor for each image, not for each channel or position",
    )
    CANNOT_CLOSE = (
        State.WRONG,
        "cannot close: factors from {probes.limits[0]:.2f} to "
        "{probes.limits[1]:.2f}",
    )
    CANNOT_OPEN = (
        State.WRONG,
        "cannot open: factors from {probes.limits[0]:.2f} to "
        "{probes.limits[1]:.2f}",
    )
    NO_SIGMOID = State.WRONG, "no sigmoid: {what}"
    DOUBLED = State.WRONG, "adds one pool to itself, sigmoid(2 * MLP(pool))"
    ONE_POSITION = (
        State.WRONG,
        "sees one position: its spatial half is one number",
    )
    ONE_CHANNEL = (
        State.WRONG,
        "sees one channel: its channel half is one number",
    )
    FAILED = State.WRONG, "could not be run: {reason}"
    UNUSED = State.WRONG, "unused: {calls}; {verdict}"

    NOT_ANALYZED = State.NOT_ANALYZED, "not analyzed: {reason}"

    def __init__(self, state: State, sentence: str):
        self.state = state
        self.sentence = sentence

    def say(self, **values: object) -> "Verdict":
        """Returns it with the values in its sentence."""
        return Verdict(self, self.sentence.format(**values))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is said of one module: a finding, and its text."""

    finding: Finding
    text: str

    @property
    def state(self) -> State:
        """The state that follows from the finding."""
        return self.finding.state
