"""`Summary`: what methods and checklist say, as plain values of one run."""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from cbam_keras import _files
from cbam_keras._files import Json
from cbam_keras.report.looking import HEAT
from cbam_keras.study.files.folder import CONFIRMATION, EXPLANATIONS
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.results.changes import WITHOUT_EACH
from cbam_keras.study.results.results import Results

SPLIT_WORDS = {"train": "training", "test": "testing"}


@dataclasses.dataclass(frozen=True)
class Interval:
    """What the printed confidence intervals are about, as computed.

    Attributes:
        over: String, such as `"5 seeds and 1,000 test images"`; where the
            interval is for these examples alone, `"5 seeds, these 1,000 test
            images"`. It is empty if no interval was computed.
        has_seeds: Boolean, whether runs are a source of the variance.
        has_examples: Boolean, whether examples (or groups) are one.
        has_groups: Boolean, whether whole groups are sampled, not examples.
        has_pseudo_values: Boolean, whether leave-one-out pseudo-values stand
            for the values of examples.
        has_pseudo_observations: Boolean, whether two were added, as for
            proportions.
    """

    over: str = ""
    has_seeds: bool = False
    has_examples: bool = False
    has_groups: bool = False
    has_pseudo_values: bool = False
    has_pseudo_observations: bool = False

    @property
    def examples(self) -> str:
        """What is sampled beside seeds, such as "1,000 test images"."""
        return self.over.rpartition(" and ")[2]

    @classmethod
    def of(cls, results: Results) -> "Interval":
        """Returns what the intervals in the rows of results are about."""
        over = next((row.over for row in results.rows if row.interval), "")
        key = results.measures[0].key
        # Without a value of each example, these examples are fixed.
        has_examples = bool(over) and "these" not in over
        return cls(
            over=over,
            has_seeds=bool(over) and len(results.planned_runs) > 1,
            has_examples=has_examples and not results.folds,
            has_groups=has_examples and " groups" in over,
            has_pseudo_values=(
                has_examples and not results.folds and key in WITHOUT_EACH
            ),
            has_pseudo_observations=(
                has_examples and not results.folds and key == "test_accuracy"
            ),
        )


@dataclasses.dataclass(frozen=True)
class NetworkSummary:
    """A network as methods describe it.

    Attributes:
        label: String, its name.
        options: Mapping, the options of its attention and its own settings.
        parameters: Tuple of integers, the numbers of trainable parameters that
            its training runs had.
    """

    label: str
    options: Json
    parameters: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a folder knows of a run.

    Attributes:
        is_given: Boolean, whether only predictions were given.
        noun: String, what an example is, such as `"image"`.
        model: String, the name of the network.
        data_name: String, the name of the dataset.
        data: Mapping, the description of the data of the first run.
        sizes: String, the number of examples in each split.
        notes: Sequence of strings, what was noted of the data.
        leaks: Sequence of strings, or `None` if none were searched for.
        is_searched_for_copies: Boolean, whether copies were searched for in
            data that nobody has published.
        has_masks: Boolean, whether the labels are masks.
        class_names: Sequence of strings, empty for numbers.
        predicts: String, the kind of the predictions.
        has_groups: Boolean, whether examples are in groups.
        test_images: Integer, the number of test examples.
        folds: Integer, or `None`.
        settings: Mapping, the settings of `study.json`.
        recipe: Mapping, the recipe in them; empty for given predictions.
        networks: Sequence of `NetworkSummary`.
        controls: Mapping of the label of each control to what it has more of.
        baseline: String, or `None`.
        measure: `Measure`, the one that networks are compared by.
        is_classification: Boolean, whether networks classify.
        threshold: String, the rule of the threshold, or `None`.
        planned_runs: Integer, the runs of each network.
        finished_runs: Integer, the training runs that finished.
        runs_in_words: String, such as `"5 seeds"`.
        epochs_tested: Sequence of pairs, why an epoch was tested and in how
            many networks.
        interval: `Interval`.
        has_mid_p: Boolean, whether McNemar's test was computed.
        detectable: String, the minimum detectable difference, or empty.
        guess: String, what always predicting one class gives, or empty.
        has_heat_maps: Boolean, whether Grad-CAM was drawn.
        is_confirmation: Boolean, whether the settings were chosen in a search
            on folds whose validation examples are test examples here.
        plans: Sequence of mappings, when plans were written.
        machines: Sequence of strings.
        time: String, how long training took, or empty.
        versions: Mapping of packages to versions.
    """

    is_given: bool
    noun: str
    model: str
    data_name: str
    data: Json
    sizes: str
    notes: Sequence[str]
    leaks: Sequence[str] | None
    is_searched_for_copies: bool
    has_masks: bool
    class_names: Sequence[str]
    predicts: str
    has_groups: bool
    test_images: int
    folds: int | None
    settings: Json
    recipe: Json
    networks: Sequence[NetworkSummary]
    controls: Mapping[str, str]
    baseline: str | None
    measure: Measure
    is_classification: bool
    threshold: str | None
    planned_runs: int
    finished_runs: int
    runs_in_words: str
    epochs_tested: Sequence[tuple[str, int]]
    interval: Interval
    has_mid_p: bool
    detectable: str
    guess: str
    has_heat_maps: bool
    is_confirmation: bool
    plans: Sequence[Json]
    machines: Sequence[str]
    time: str
    versions: Mapping[str, str]

    @property
    def baseline_in_words(self) -> str:
        """The baseline as a sentence names it."""
        if self.baseline == "none":
            return "the network without attention"
        return str(self.baseline)

    @property
    def rates(self) -> Sequence[float]:
        """The learning rates that each run chooses from, if there are any."""
        rate = self.recipe.get("learning_rate")
        return rate if isinstance(rate, list | tuple) else ()

    @property
    def has_own_rates(self) -> bool:
        """Whether variants have learning rates of their own."""
        variants = self.settings.get("variants", {}).values()
        return any("learning_rate" in options for options in variants)


def summarize(results: Results, content: Json) -> Summary:
    """Returns what results and the content of `study.json` say."""
    settings = results.settings
    source = content.get("source") or {}
    measure = results.measures[0]
    reasons = (run.selected_by for run in results.runs)
    detectable = results.detectable
    guess = results.guess
    # Published data have no copies that a user could remove.
    is_own = pathlib.Path(str(source.get("name", "/"))).is_absolute()
    variants = settings.get("variants", {})
    return Summary(
        is_given=results.are_given,
        noun=results.noun,
        model=results.model,
        data_name=str(results.data),
        data=next(iter(settings["data"].values())),
        sizes=describe_sizes(results),
        notes=content.get("notes") or (),
        leaks=content.get("leaks"),
        is_searched_for_copies=content.get("leaks") == [] and is_own,
        has_masks=bool(source.get("masks")),
        class_names=results.class_names,
        predicts=results.predicts,
        has_groups=results.has_groups,
        test_images=results.test_images,
        folds=results.folds,
        settings=settings,
        recipe=settings.get("recipe", {}),
        networks=[
            _describe_network(results, name, options)
            for name, options in variants.items()
        ],
        controls={
            results.labels.get(name, name): options["control"]
            for name, options in variants.items()
            if "control" in options
        },
        baseline=results.baseline,
        measure=measure,
        is_classification=results.are_classifiers,
        threshold=results.threshold,
        planned_runs=len(results.planned_runs),
        finished_runs=len(results.runs),
        runs_in_words=results.seeds_in_words,
        epochs_tested=collections.Counter(filter(None, reasons)).most_common(),
        interval=Interval.of(results),
        has_mid_p=any(row.mid_p for row in results.rows),
        detectable=(
            measure.in_points(measure.number(detectable)) if detectable else ""
        ),
        guess=f"{measure.number(guess)}{measure.unit}" if guess else "",
        has_heat_maps=(results.output / EXPLANATIONS / HEAT).exists(),
        is_confirmation=_is_confirmation(results),
        plans=content.get("plans") or (),
        machines=content.get("machines") or (),
        time=describe_time(results),
        versions=content["versions"],
    )


def describe_sizes(results: Results) -> str:
    """Returns how many examples there are for what."""
    counts = [
        f"{number:,} for {SPLIT_WORDS.get(split, split)}"
        for split, number in results.sizes.items()
        if number
    ]
    return ", ".join(counts).replace(" for", f" {results.noun}s for", 1)


def describe_time(results: Results) -> str:
    """Returns how long all networks were trained, or nothing."""
    # A network that a run has chosen was trained as a candidate.
    outcomes = [x for x in results.outcomes if x.learning_rate is None]
    seconds = sum(x.seconds for x in (*outcomes, *results.candidates))
    if not seconds:
        return ""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds > 90 else "1 minute"


def _describe_network(results, name, options):
    """Returns the label, the options and the parameters of a network."""
    shown = {key: x for key, x in options.items() if key != "control"}
    parameters = {x.parameters for x in results.runs if x.variant == name}
    label = results.labels.get(name, name)
    return NetworkSummary(label, shown, tuple(sorted(parameters - {None})))


def _is_confirmation(results):
    """Returns whether a search on the same folds has chosen the settings."""
    output = results.output.absolute()
    is_inside_a_search = (
        output.name == CONFIRMATION and (output.parent / _files.STUDY).exists()
    )
    return bool(results.folds) and is_inside_a_search
