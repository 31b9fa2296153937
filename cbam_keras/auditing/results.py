"""`Audit`, the result, and `Findings`, all that the checks can find."""

import contextlib
import dataclasses
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from cbam_keras import _terminal


@dataclasses.dataclass(frozen=True)
class Audit(_terminal.Tabular):
    """Result of an audit; prints as a table.

    `to_dataframe()` has a row per finding: its `kind` (`"departure"`,
    `"choice"` or `"not checked"`) and the sentence.

    Attributes:
        name: String, the class or function of the layer.
        departures: Tuple of sentences, each a departure from the paper, or
            something that a layer of Keras should do and this one does not.
            Empty if there are none.
        choices: Tuple of sentences, what the layer does where the paper
            leaves a choice.
        unchecked: Tuple of sentences, what could not be checked and why.
        variant: String, the entry of `VARIANTS` that the layer equals, or
            `None`. Its kernel size may be another one, and its reduction
            ratio where the entry names none.
    """

    name: str
    departures: tuple[str, ...]
    choices: tuple[str, ...]
    unchecked: tuple[str, ...]
    variant: str | None

    def _records(self):
        found = (self.departures, self.choices, self.unchecked)
        return [
            {"kind": kind, "finding": sentence}
            for kind, sentences in zip(SENTENCES, found, strict=True)
            for sentence in sentences
        ]

    def _tables(self):
        rows = [tuple(record.values()) for record in self._records()]
        sections = [[row for row in rows if row[0] == x] for x in SENTENCES]
        yield {"": "left", "finding": "left"}, sections, f"Audit of {self.name}"

    def __str__(self) -> str:
        ((columns, sections, title),) = self._tables()
        table = _terminal.render(columns, sections, title=title)
        return f"{table}\n\n{textwrap.fill(self.verdict, 100)}"

    @property
    def verdict(self) -> str:
        """The result in one or two sentences."""
        count = len(self.departures)
        text = {
            0: "No departure from the paper was found.",
            1: "One departure was found.",
        }.get(count, f"{count} departures were found.")
        if self.variant is not None:
            text += f' It equals VARIANTS["{self.variant}"].'
        return text


DEPARTURES = {
    # The layer as a whole.
    "not_copied": "`from_config(get_config())` fails ({error}).",
    "other_shape": "The output has the shape {output} in place of that of the "
    "input, {input}; nothing else is checked.",
    "no_kernels": "The layer has no trainable kernels after its first call: "
    "its gates are missing or created in every call; nothing else is checked.",
    "fixed_size": "The layer works for features of {shape[0]} x {shape[1]} but "
    "not for {size[0]} x {size[1]}: its pools or shapes are of a fixed size.",
    "fails": "The layer fails for {kinds} ({error}).",
    "not_finite": "The output is not finite for {kinds}.",
    "residual": "The layer adds its input to the product, which belongs to the "
    "residual block.",
    "spatial_first": "The spatial gate comes before the channel gate.",
    "parallel": "Both gates are computed from the input, in parallel.",
    "scale": "The gates together lie between 0 and {scale:.3g}, not 0 and 1.",
    "more_parameters": "The layer has more parameters than the formula, by "
    "{count}.",
    "other_factor": "The product of the gates is multiplied by `{name}` too.",
    "normalized_features": "There is a batch normalization outside the spatial "
    "gate.",
    "other_outputs": "With the same weights, the layer and the formula of the "
    "paper give different outputs ({kinds}).",
    # Either gate.
    "clipped": "The {gate} gate is never below one half: a ReLU precedes its "
    "sigmoid.",
    "relu": "The {gate} gate is a ReLU in place of a sigmoid.",
    "none": "The {gate} gate has no sigmoid, so it is not within 0 and 1.",
    "other": "The {gate} gate is not a sigmoid.",
    "other_pools": "The {gate} gate depends on more than the average and the "
    "maximum over {over}.",
    "no_pools": "The {gate} gate does not depend on its input's average or "
    "maximum over {over}.",
    "one_pool": "The {gate} gate pools by the {pool} over {over} alone.",
    # The channel gate.
    "no_channel_gate": "There is no channel attention: all channels of a "
    "position are multiplied by the same factor.",
    "varying_channel_map": "The channel map is not the same at all positions.",
    "local_pools": "The channel map depends on the order of the positions: "
    "its pools are not global.",
    "single_dense": "The channel gate has one dense layer in place of two.",
    "deep_mlp": "The channel gate has {count} dense layers in place of two.",
    "late_sum": "The sigmoid of the channel gate is applied to each pooled "
    "branch and the results are added: the gate reaches 2.",
    "not_shared": "The average and the maximum do not go through one shared "
    "MLP whose outputs are added before the sigmoid.",
    "linear": "There is no activation between the two dense layers of the "
    "channel gate.",
    "not_relu": "The activation between the two dense layers of the channel "
    "gate is not a ReLU.",
    # The spatial gate.
    "no_spatial_gate": "There is no spatial attention: all positions of a "
    "channel are multiplied by the same factor.",
    "several_maps": "The spatial map is not the same for all channels: its "
    "convolution returns {count} maps in place of one.",
    "no_window": "The spatial map at a position does not come from a window "
    "around it.",
    "not_centred": "The window of the spatial convolution is not centred.",
    "not_convolution": "The spatial gate is not one convolution of the pooled "
    "maps: its logits are not proportional to them.",
    # What Keras expects.
    "missing_arguments": "`get_config` lacks the arguments {names}, so a "
    "loaded layer has their defaults.",
    "other_copy": "The layer that `from_config(get_config())` returns gives "
    "other outputs with the same weights.",
    "not_loaded": "A saved model with the layer does not load ({error}).",
    "other_loaded": "A saved model with the layer gives other outputs loaded.",
    "idle_argument": "The argument `{name}` does nothing: weights and outputs "
    "with {name}={other!r} are those with {name}={value!r}.",
    "other_width": "With {ratio} the hidden layer has {width} units for "
    "{channels} channels, in place of {expected}.",
    "other_window": "With kernel_size={value} the window of the spatial gate "
    "is {window[0]} x {window[1]}.",
    "known_size": "Height and width must be known in advance ({error}).",
    "mixed_precision": "The layer fails in mixed precision ({error}).",
    "mixed_dtype": "With the dtype policy mixed_float16 the output is {dtype}, "
    "not float16.",
    "data_format_fails": 'data_format="{other}" fails ({error}).',
    "data_formats_differ": 'data_format="{other}" gives other outputs for the '
    "same features.",
    "infinite_gradients": "Gradients are not finite.",
    "no_gradient": "No gradient reaches some weights ({names}): they are not "
    "used, or the gradient is cut.",
    "cut_gradient": "The gradient by the input is not that of the output: it "
    "is cut inside the layer.",
}
CHOICES = {
    "hidden_width": "The hidden layer of the MLP has a width of {width} for "
    "{channels} channels.",
    "rounding": "C / r is {how}.",
    "mlp_bias": "The MLP has {biases}.",
    "stacked": "The pooled maps are stacked as [{order}].",
    "window": "The spatial convolution is {size[0]} x {size[1]}{dilated}.",
    "normalizes": "The spatial gate normalizes before its sigmoid.",
    "no_normalization": "The spatial gate has no normalization.",
    "spatial_bias": "The spatial convolution has {bias}.",
    "identity": "The gates lie between 0 and 2 and are 1 at rest "
    "(2 * sigmoid), to start as the identity.",
    "not_registered": "Its class is not registered with Keras, so "
    "`load_model` needs `custom_objects`.",
}
UNCHECKED = {
    "all": "All else. Give `audit` a function that makes the layer, as lambda "
    "channels: MyCBAM(8).",
    "channel_gate": "The channel gate, because the spatial gate is 0 at rest.",
    "spatial_gate": "Pools and window of the spatial gate, because the "
    "channel gate is 0 at rest.",
    "other_weights": "Whether outputs are exactly those of the formula, "
    "because the shapes of the weights are not those of its layers.",
    "fixed_dtype": "Mixed precision, because the layer fixes its dtype.",
    "needs_gpu": 'data_format="{other}", which TensorFlow needs a GPU for.',
}
SENTENCES = {
    "departure": DEPARTURES,
    "choice": CHOICES,
    "not checked": UNCHECKED,
}


class Findings:
    """Sentences that the checks add, and facts that later checks need.

    `sentences` has a list for each kind, and `facts` what was measured, mostly
    by the arguments of `CBAM`.
    """

    def __init__(self):
        self.sentences: dict[str, list[str]] = {kind: [] for kind in SENTENCES}
        self.facts: dict[str, Any] = {}

    def add(self, key: str, **values: Any) -> None:
        """Adds the sentence of a key of one of the dictionaries above."""
        for kind, templates in SENTENCES.items():
            if key in templates:
                sentence = templates[key].format(**values)
                if sentence not in self.sentences[kind]:
                    self.sentences[kind].append(sentence)

    @contextlib.contextmanager
    def errors_as(self, key: str, **values: Any) -> Iterator[None]:
        """Adds a departure if the block raises an error, which ends it."""
        try:
            yield
        except Exception as error:
            self.add(key, error=first_line(error), **values)


def first_line(error: Exception) -> str:
    """Returns an error's type and its first informative line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Keras first says where the error was raised.
    lines = [x for x in lines if not x.startswith("Exception encountered")]
    line = textwrap.shorten(" ".join(lines[:1]), 160, placeholder=" ...")
    return f"{type(error).__name__}: {line}".rstrip(": ")
