"""What can be said of an attention module, and what follows from it."""

import dataclasses
import enum


class CheckState(enum.StrEnum):
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
        return self in (CheckState.SOUND, CheckState.NO_ATTENTION)


# What the last line counts.
COUNTED = tuple(
    state for state in CheckState if state != CheckState.NO_ATTENTION
)


class Finding(enum.Enum):
    """One thing that can be said of a module: its state, and its sentence."""

    EQUAL = CheckState.SOUND, "{ours}"
    NEAREST = (
        CheckState.SOUND,
        "nearest of ours: {ours}; first difference: {difference}",
    )
    ADDS = CheckState.SOUND, "adds, does not multiply"
    NO_FACTORS = CheckState.SOUND, "does not multiply features by factors"
    SOFTMAX = (
        CheckState.SOUND,
        "features shrink to 1/{probes.softmax} (softmax over positions)",
    )
    WINDOW = (
        CheckState.SOUND,
        "factors by {probes.axes} from windows of {probes.window}, not from "
        "all positions",
    )
    UNLIKE = (
        CheckState.SOUND,
        "unlike ours: factors by {probes.axes}, "
        "{probes.range[0]:.2f} to {probes.range[1]:.2f}",
    )
    UNNAMED_PRODUCT = (
        CheckState.NO_ATTENTION,
        "scales features, no attention: {what}",
    )

    HALF = CheckState.MISNAMED, "called {claim}, is its {half} half"
    OTHER = CheckState.MISNAMED, "called {claim}, is {module}"
    NONE = CheckState.MISNAMED, "called {claim}, is none: {what}"
    CHANGED = CheckState.MISNAMED, "called {claim}; not the paper's: {what}"

    NO_CALL = CheckState.WRONG, "computes nothing: {why}"
    RANDOM = (
        CheckState.WRONG,
        "differs from call to call: new weights, or randomness at inference",
    )
    UNTRACKED = (
        CheckState.WRONG,
        "weights of {probes.untracked} arrays are not tracked: not saved, not "
        "trained",
    )
    IDENTITY = CheckState.WRONG, "does nothing: returns its input"
    MIXES_IMAGES = CheckState.WRONG, "mixes the images of a batch"
    CONSTANT = (
        CheckState.WRONG,
        "constant: factors {probes.range[0]:.2f} to {probes.range[1]:.2f}, "
        "whatever the features",
    )
    NO_GRADIENT = (
        CheckState.WRONG,
        "weights of {probes.without_gradient} arrays get no gradient",
    )
    ONE_FACTOR = (
        CheckState.WRONG,
        "one factor for each image, not for each channel or position",
    )
    CANNOT_CLOSE = (
        CheckState.WRONG,
        "cannot close: factors from {probes.limits[0]:.2f} to "
        "{probes.limits[1]:.2f}",
    )
    CANNOT_OPEN = (
        CheckState.WRONG,
        "cannot open: factors from {probes.limits[0]:.2f} to "
        "{probes.limits[1]:.2f}",
    )
    NO_SIGMOID = CheckState.WRONG, "no sigmoid: {what}"
    DOUBLED = (
        CheckState.WRONG,
        "adds one pool to itself, sigmoid(2 * MLP(pool))",
    )
    ONE_POSITION = (
        CheckState.WRONG,
        "sees one position: its spatial half is one number",
    )
    ONE_CHANNEL = (
        CheckState.WRONG,
        "sees one channel: its channel half is one number",
    )
    FAILED = CheckState.WRONG, "could not be run: {reason}"
    UNUSED = CheckState.WRONG, "unused: {calls}; {verdict}"

    NOT_ANALYZED = CheckState.NOT_ANALYZED, "not analyzed: {reason}"

    def __init__(self, state: CheckState, sentence: str):
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
    def state(self) -> CheckState:
        """The state that follows from the finding."""
        return self.finding.state
