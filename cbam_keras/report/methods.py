"""`describe_methods`: the methods of a run as sentences, for a thesis.

Each sentence says what was computed, from a `Summary`; nothing is concluded
from settings where the results can tell.
"""

import re
from collections.abc import Iterable

from cbam_keras.report.summary import NetworkSummary, Summary
from cbam_keras.study.results.kept import CLASSES, LABELS, OF_SCORES

# The ECE of fewer examples is biased, and tables leave it out.
LEAST_FOR_ECE = 1_000
# Names of options, in the words of a thesis. Others are their own words.
OPTIONS_IN_WORDS = {
    "identity_init": "identity initialization",
    "batch_norm": "batch normalization",
    "batch_norm_momentum": "momentum",
    "spatial_batch_norm": "batch normalization in the spatial attention",
    "spatial_batch_norm_momentum": "momentum",
    "use_bias": "biases",
    "spatial_use_bias": "bias in the spatial attention",
    "pool_types": "pooling",
    "channel_pool_types": "channel pooling",
    "spatial_pool_types": "spatial pooling",
}
# Where attention is, if it is not in numbered stages.
STAGES_IN_WORDS = {
    "all": "in all stages",
    "first": "in the first stage",
    "last": "in the last stage",
    "top": "after the last feature map",
}


def describe_methods(summary: Summary) -> list[str]:
    """Returns the methods of a run as sentences."""
    if summary.is_given:
        sentences = [
            describe_given(summary),
            *(f"{note}." for note in summary.notes),
            describe_metric(summary),
            describe_intervals(summary),
            describe_metrics_of_classes(summary),
            describe_given_threshold(summary),
        ]
    else:
        sentences = [
            describe_data(summary),
            describe_augmentation(summary),
            describe_variants(summary),
            *describe_controls(summary),
            describe_freezing(summary),
            describe_training(summary),
            describe_choice_of_rates(summary),
            describe_stages(summary),
            describe_class_weights(summary),
            describe_patience(summary),
            describe_tested_epochs(summary),
            describe_metric(summary),
            describe_intervals(summary),
            describe_metrics_of_classes(summary),
            describe_chosen_threshold(summary),
            describe_heat_maps(summary),
            describe_equal_effort(summary),
            describe_selection(summary),
            describe_plan(summary),
            describe_machines(summary),
            describe_software(summary),
        ]
    return [sentence for sentence in sentences if sentence]


# What was given, or trained.


def describe_given(summary: Summary) -> str:
    """Returns what was evaluated, of predictions that were given."""
    names = [network.label for network in summary.networks]
    what = "Scores" if summary.predicts == OF_SCORES else "Predictions"
    networks = "network" if len(names) == 1 else "networks"
    runs = "one run"
    if summary.planned_runs > 1:
        runs = summary.runs_in_words
    if len(names) > 1:
        runs += " each"
    text = (
        f"{what} of {len(names)} {networks} ({', '.join(names)}; {runs}) for "
        f"{summary.test_images:,} test {summary.noun}s"
    )
    if summary.class_names:
        kind = "classes"
        if summary.predicts == LABELS:
            kind = "non-exclusive labels"
        text += f" with {len(summary.class_names)} {kind}"
    return f"{text} were evaluated."


def describe_data(summary: Summary) -> str:
    """Returns the dataset, and how it is divided."""
    has = "a continuous target"
    if summary.class_names:
        has = f"{len(summary.class_names)} classes"
    text = f"The dataset {summary.data_name} has {has}"
    shape = summary.data.get("input_shape")
    if shape and not isinstance(shape, dict):
        sides = " x ".join(map(str, shape))
        text += f"; {summary.noun}s are {sides}"
    if summary.folds:
        return (
            f"{text}. In {summary.folds}-fold cross-validation, each "
            f"{summary.noun} was in one test fold per seed (first fold: "
            f"{summary.sizes})."
        )
    return f"{text} ({summary.sizes}; the same test set for all seeds)."


def describe_augmentation(summary: Summary) -> str:
    """Returns how training examples were augmented."""
    augmentations = summary.recipe.get("augment")
    if not augmentations:
        return "No data augmentation was used."
    names = [
        x["class_name"] if isinstance(x, dict) else x for x in augmentations
    ]
    words = " and ".join(map(as_words, names))
    return f"Training {summary.noun}s were augmented with {words}."


def describe_variants(summary: Summary) -> str:
    """Returns the variants, with their options and parameters."""
    subject = "Each network"
    if "model" in summary.settings:
        subject = f"The network {summary.model}"
    start = "trained from scratch"
    if summary.settings.get("weights"):
        start = "initialized with ImageNet weights and trained"
    count = len(summary.networks)
    variants = "variant" if count == 1 else "variants"
    described = ", ".join(map(_describe_network, summary.networks))
    return f"{subject} was {start} in {count} {variants}: {described}."


def _describe_network(network: NetworkSummary) -> str:
    """Returns a network with its options and parameters in brackets."""
    label = "without attention" if network.label == "none" else network.label
    parts = [describe_option(*option) for option in network.options.items()]
    parts += [f"{count:,} parameters" for count in network.parameters]
    text = ", ".join(parts)
    if network.options.get("spatial_batch_norm"):
        text = f"a variant of Woo et al., 2018: {text}"
    return f"{label} ({text})" if text else label


def describe_option(name: str, value: object) -> str:
    """Returns an option of a variant in words, such as "kernel size 7"."""
    if name == "stages":
        stages = str(value)
        if stages.startswith("last "):
            return f"in the {stages} stages"
        numbers = stages.replace(",", ", ")
        numbered = f"in stage{'s' if ',' in stages else ''} {numbers}"
        return STAGES_IN_WORDS.get(stages, numbered)
    words = OPTIONS_IN_WORDS.get(name, as_words(name))
    if isinstance(value, bool):
        return words if value else f"no {words}"
    if value is None:
        return f"default {words}"
    if isinstance(value, dict):
        # The configuration of an object of Keras.
        value = value.get("class_name", "of your own")
    if isinstance(value, list | tuple):
        value = " and ".join(map(as_words, value))
    return f"{words} {as_words(value)}"


def as_words(name: object) -> str:
    """Returns a name in code, such as "RandomFlip", as words."""
    words = str(name).replace("_", " ")
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words)
    # A single word keeps its capital, which may be that of a person.
    return words if parts == words else parts.lower()


def describe_controls(summary: Summary) -> Iterable[str]:
    """Returns what each control controls for."""
    for name, more in summary.controls.items():
        yield (
            f"The variant {name} has {more} instead of attention, and at least "
            "as many parameters as the largest variant with attention: it "
            "controls for the number of parameters, not for "
            "multiply-accumulates or training time."
        )


def describe_freezing(summary: Summary) -> str:
    """Returns which layers were never trained."""
    if not summary.recipe.get("frozen"):
        return ""
    return (
        "The pretrained layers were frozen; only the newly added layers were "
        "trained."
    )


def describe_training(summary: Summary) -> str:
    """Returns loss, optimizer, epochs, batch size and schedule."""
    recipe = summary.recipe
    begin = "We trained with"
    if summary.is_classification:
        begin = f"We minimized {_describe_loss(recipe.get('loss'))} with"
    optimizer = f"AdamW (weight decay {recipe['weight_decay']})"
    if recipe["optimizer"] == "sgd":
        optimizer = (
            f"SGD (momentum {recipe['momentum']}, weight decay "
            f"{recipe['weight_decay']})"
        )
    epochs = _count(recipe["epochs"], "epoch")
    peak = "its peak" if summary.rates else recipe["learning_rate"]
    schedule = (
        f"warmed up linearly to {peak} over the first 10% of steps and then "
        "followed a cosine decay to zero"
    )
    if recipe["schedule"] == "step":
        schedule = (
            f"started at {peak} and was divided by 10 every "
            f"{recipe['step_epochs']} epochs"
        )
    return (
        f"{begin} {optimizer} for {epochs} with a batch size of "
        f"{recipe['batch_size']}; the learning rate {schedule}."
    )


def _describe_loss(loss: object) -> str:
    if isinstance(loss, dict):
        return f"{as_words(loss['class_name'])} (Keras)"
    if isinstance(loss, int | float):
        return f"cross-entropy (label smoothing {loss})"
    return "the focal loss" if loss == "focal" else "cross-entropy"


def describe_choice_of_rates(summary: Summary) -> str:
    """Returns how each run chose its learning rate."""
    if not summary.rates:
        return ""
    rates = ", ".join(map(str, summary.rates))
    return (
        "In each run, each network was trained from the same initial weights "
        f"at {len(summary.rates)} learning rates ({rates}), and at a further "
        "one if the lowest or the highest was best; the rate with the best "
        "validation score was kept."
    )


def describe_stages(summary: Summary) -> str:
    """Returns the two stages of fine-tuning."""
    recipe = summary.recipe
    epochs = recipe.get("frozen_epochs")
    if not epochs:
        return ""
    first = "new" if summary.settings.get("weights") else "unfrozen"
    return (
        f"First, only the {first} layers were trained, for {epochs} additional "
        f"{'epoch' if epochs == 1 else 'epochs'}; then "
        f"{_describe_unfreezing(recipe.get('unfreeze'))}, at a tenth of the "
        "learning rate, with batch normalization frozen except in attention "
        "layers."
    )


def _describe_unfreezing(last: object) -> str:
    """Returns the layers of the second stage."""
    if not last:
        return "all layers"
    if isinstance(last, str):
        return f'also the layer "{last}" and all layers after it'
    if isinstance(last, float):
        return f"also the last {round(100 * last)}% of layers"
    return f"also the last {last} layers"


def describe_class_weights(summary: Summary) -> str:
    """Returns whether the loss was weighted by class."""
    rule = summary.recipe.get("class_weight")
    return f"The loss was weighted by class ({rule})." if rule else ""


def describe_patience(summary: Summary) -> str:
    """Returns when training stopped early."""
    patience = summary.recipe.get("patience")
    if not patience:
        return ""
    return (
        f"Training stopped after {patience} epochs without improvement on the "
        "validation set."
    )


def describe_tested_epochs(summary: Summary) -> str:
    """Returns of which epochs the weights were evaluated."""
    several = len(summary.epochs_tested) > 1
    parts = []
    for reason, count in summary.epochs_tested:
        part = name_epoch(reason)
        if several:
            part += f" ({count} of {summary.finished_runs} networks)"
        parts.append(part)
    return f"We evaluated the weights after {' and '.join(parts)}."


def name_epoch(reason: str) -> str:
    """Returns the epoch that was tested, such as "the last epoch"."""
    if reason == "last epoch":
        return "the last epoch"
    words = as_words(reason.replace("val_", "validation "))
    return f"the epoch with the {words}"


# How networks were compared.


def describe_metric(summary: Summary) -> str:
    """Returns by which metric networks were compared."""
    if not summary.is_given:
        return (
            f"Variants were compared by {summary.measure.heading} over "
            f"{summary.runs_in_words}."
        )
    if len(summary.networks) == 1:
        return f"The metric is {summary.measure.heading}."
    return f"Networks were compared by {summary.measure.heading}."


def describe_intervals(summary: Summary) -> str:
    """Returns how confidence intervals were computed, if any were."""
    interval = summary.interval
    if not interval.over:
        return ""
    pairs = ""
    if not summary.is_given:
        pairs = f" by {'fold' if summary.folds else 'seed'}"
    parts = [
        f"Differences from {summary.baseline_in_words} are paired{pairs}; 95% "
        f"confidence intervals {_describe_variance(summary)}"
    ]
    if summary.folds:
        parts.append(
            ", corrected for overlapping training sets (Nadeau and Bengio, "
            "2003)"
        )
    if interval.has_pseudo_observations:
        parts.append(
            ", with two pseudo-observations of +1/2 and -1/2 added (Bonett and "
            "Price, 2012)"
        )
    if interval.has_pseudo_values:
        parts.append(f"; {_describe_pseudo_values(summary)}")
    if len(summary.networks) > 2:
        parts.append(
            "; significance is corrected for multiple comparisons (Holm)"
        )
    if summary.planned_runs == 1:
        parts.append("; the intervals apply to these trained networks only")
        if summary.has_mid_p:
            parts.append(
                ", as does McNemar's test (mid-p, Fagerland et al., 2013)"
            )
    return f"{''.join(parts)}."


def _describe_variance(summary: Summary) -> str:
    """Returns what the variance of a difference has in it."""
    interval = summary.interval
    if not (interval.has_seeds and interval.has_examples):
        over = interval.over.replace(", these", ", on these")
        return f"use Student's t distribution over {over}"
    runs = "runs" if summary.is_given else "seeds"
    # The number of examples is in the first sentence of given predictions.
    examples = f"{summary.noun}s" if summary.is_given else interval.examples
    if interval.has_groups:
        examples = interval.examples
    return (
        "(Student's t with Satterthwaite's degrees of freedom) treat "
        f"{runs} and {examples} as crossed random effects"
    )


def _describe_pseudo_values(summary: Summary) -> str:
    """Returns what stands for a value of each example."""
    text = (
        f"each {summary.noun} contributes its leave-one-out pseudo-value of "
        f"the {summary.measure.heading} (Tukey, 1958)"
    )
    if summary.measure.key == "auc":
        text += ", from the placements of DeLong et al. (1988)"
    return text


def describe_metrics_of_classes(summary: Summary) -> str:
    """Returns what computed the metrics of each class."""
    has_classes = summary.predicts == CLASSES
    if summary.is_given:
        has_classes = bool(summary.class_names)
    if not has_classes:
        return ""
    text = "Per-class metrics were computed with scikit-learn"
    if summary.predicts == CLASSES and summary.test_images >= LEAST_FOR_ECE:
        text += "; ECE uses 15 equal-mass bins"
    return f"{text}."


def describe_chosen_threshold(summary: Summary) -> str:
    """Returns the threshold of two classes, and its intervals."""
    if not _has_two_classes(summary):
        return ""
    rule = summary.threshold
    threshold = "0.5"
    if rule == "youden":
        threshold = (
            f"with the highest Youden index on the validation {summary.noun}s"
        )
    elif rule:
        minimum = rule.replace("=", " of at least ")
        threshold = f"with a {minimum} on the validation {summary.noun}s"
    return (
        f'With "{summary.class_names[1]}" as the positive class and the '
        f"threshold {threshold}, confidence intervals of sensitivity and "
        f"specificity are Wilson's{_describe_design_effect(summary)}; "
        f"{_describe_interval_of_auc(summary)}."
    )


def describe_given_threshold(summary: Summary) -> str:
    """Returns the threshold of given predictions, and its intervals."""
    if not _has_two_classes(summary):
        return ""
    return (
        f'With "{summary.class_names[1]}" as the positive class and a '
        "threshold of 0.5, confidence intervals of sensitivity, specificity "
        f"and predictive values are Wilson's{_describe_design_effect(summary)}"
        f"; {_describe_interval_of_auc(summary)}."
    )


def _has_two_classes(summary):
    return summary.predicts == CLASSES and len(summary.class_names) == 2


def _describe_design_effect(summary):
    if not summary.has_groups:
        return ""
    return ", adjusted by the design effect of groups"


def _describe_interval_of_auc(summary):
    source = "DeLong et al. (1988)"
    if summary.has_groups:
        source = "Obuchowski (1997)"
    return (
        "those of the AUC were computed on the logit scale, with the variance "
        f"of {source}"
    )


def describe_heat_maps(summary: Summary) -> str:
    """Returns how heat maps were computed, if they were."""
    if not summary.has_heat_maps:
        return ""
    return "Heat maps were computed with Grad-CAM."


# What makes the comparison fair, and what it ran on.


def describe_equal_effort(summary: Summary) -> str:
    """Returns whether all variants were trained with equal effort."""
    if len(summary.networks) < 2:
        return ""
    apart = ""
    if summary.has_own_rates:
        apart = ", apart from their learning rates"
    elif summary.rates:
        apart = ", and with the same rule for learning rates"
    return (
        f"All variants were trained with the same hyperparameters{apart}; none "
        "was tuned separately."
    )


def describe_selection(summary: Summary) -> str:
    """Returns what was chosen on test examples."""
    noun = summary.noun
    if summary.is_confirmation:
        return (
            f"The settings were chosen in a search whose validation {noun}s "
            f"are test {noun}s in other folds."
        )
    return (
        "No epoch, learning rate or threshold was selected on the test "
        f"{noun}s."
    )


def describe_plan(summary: Summary) -> str:
    """Returns whether the settings were changed after the run had begun."""
    if len(summary.plans) < 2:
        return ""
    first, *later = (plan["written"] for plan in summary.plans)
    return (
        f"The settings were recorded on {first}, when the run began, and "
        f"changed on {' and '.join(later)}."
    )


def describe_machines(summary: Summary) -> str:
    """Returns the hardware, and how long training took."""
    if not summary.machines:
        return ""
    took = f" (about {summary.time} of training)" if summary.time else ""
    return f"Hardware: {'; '.join(summary.machines)}{took}."


def describe_software(summary: Summary) -> str:
    """Returns the versions of packages."""
    return f"Software: {describe_versions(summary)}."


def describe_versions(summary: Summary) -> str:
    """Returns packages with their versions."""
    return ", ".join(f"{name} {x}" for name, x in summary.versions.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
