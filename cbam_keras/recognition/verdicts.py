"""What can be said of an attention module, and what follows from it."""

import dataclasses
import enum


class CheckState(enum.StrEnum):
    """How an attention module stands, in the order of the last line."""

    PASSED = "passed"
    MISNAMED = "misnamed"
    FAULTY = "faulty"
    NOT_ANALYZED = "not analyzed"
    # It scales features and is called nothing: it decides nothing.
    NO_ATTENTION = "not attention"

    @property
    def is_passed(self) -> bool:
        """Whether a report with it may pass."""
        return self in (CheckState.PASSED, CheckState.NO_ATTENTION)


# What the last line counts.
COUNTED = tuple(
    state for state in CheckState if state != CheckState.NO_ATTENTION
)


class Finding(enum.Enum):
    """One thing that can be said of a module: its state, and its sentence."""

    EQUAL = CheckState.PASSED, "{ours}"
    NEAREST = (
        CheckState.PASSED,
        "closest cbam_keras layer: {ours}; first difference: {difference}",
    )
    ADDS = CheckState.PASSED, "adds, does not multiply"
    NO_FACTORS = CheckState.PASSED, "does not multiply features by factors"
    SOFTMAX = (
        CheckState.PASSED,
        "features shrink to 1/{probes.softmax[0]} (softmax over "
        "{probes.softmax[1]})",
    )
    WINDOW = (
        CheckState.PASSED,
        "one factor per {probes.axes}, each from a window of {probes.window}",
    )
    UNLIKE = (
        CheckState.PASSED,
        "matches no cbam_keras layer: one factor per {probes.axes}, "
        "{probes.range[0]:.2f} to {probes.range[1]:.2f}",
    )
    UNNAMED_PRODUCT = (
        CheckState.NO_ATTENTION,
        "scales features, but is not attention: {what}",
    )

    HALF = (
        CheckState.MISNAMED,
        "named {claim}, but computes only its {half} attention",
    )
    OTHER = CheckState.MISNAMED, "named {claim}, but computes {module}"
    NONE = CheckState.MISNAMED, "named {claim}, but is not: {what}"
    CHANGED = (
        CheckState.MISNAMED,
        "named {claim}, but differs from the paper: {what}",
    )

    NO_CALL = CheckState.FAULTY, "computes nothing: {why}"
    RANDOM = (
        CheckState.FAULTY,
        "differs from call to call: new weights, or randomness at inference",
    )
    UNTRACKED = (
        CheckState.FAULTY,
        "weight arrays that Keras does not track, so neither saves nor "
        "trains: {probes.untracked}",
    )
    IDENTITY = CheckState.FAULTY, "does nothing: returns its input"
    MIXES_IMAGES = CheckState.FAULTY, "mixes the images of a batch"
    CONSTANT = (
        CheckState.FAULTY,
        "constant: factors {probes.range[0]:.2f} to {probes.range[1]:.2f}, "
        "whatever the features",
    )
    NO_GRADIENT = (
        CheckState.FAULTY,
        "weight arrays without a gradient: {probes.without_gradient}",
    )
    ONE_FACTOR = (
        CheckState.FAULTY,
        "one factor per image, instead of one per channel or position",
    )
    CANNOT_CLOSE = (
        CheckState.FAULTY,
        "cannot suppress features: factors stay between "
        "{probes.limits[0]:.2f} and {probes.limits[1]:.2f}",
    )
    CANNOT_OPEN = (
        CheckState.FAULTY,
        "cannot pass features on unchanged: factors stay between "
        "{probes.limits[0]:.2f} and {probes.limits[1]:.2f}",
    )
    NO_SIGMOID = CheckState.FAULTY, "no sigmoid: {what}"
    CHANNELS_FIRST = (
        CheckState.FAULTY,
        "takes axis 1 for the channels, in a file of channels last",
    )
    DOUBLED = (
        CheckState.FAULTY,
        "adds one pool to itself, sigmoid(2 * MLP(pool))",
    )
    ONE_POSITION = (
        CheckState.FAULTY,
        "the features have one position, so its spatial attention is a single "
        "number",
    )
    ONE_CHANNEL = (
        CheckState.FAULTY,
        "the features have one channel, so its channel attention is a single "
        "number",
    )
    FAILED = CheckState.FAULTY, "could not be run: {reason}"
    UNUSED = CheckState.FAULTY, "unused: {calls}; {verdict}"

    NOT_ANALYZED = CheckState.NOT_ANALYZED, "not analyzed: {reason}"
    # Only the caller shows whether these factors go through a sigmoid.
    LOGITS = (
        CheckState.NOT_ANALYZED,
        "not analyzed: returns factors without a sigmoid, which its caller may "
        "apply",
    )

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
