"""Stored outputs of notebooks say what the program says today.

What it may say is rendered on results that are made up, in many sizes. Numbers
and the names of networks, metrics and examples are left out on both sides.
"""

import contextlib
import dataclasses
import html
import io
import itertools
import re

import keras
import nbformat
import numpy as np
import pretended
import pytest
import study_checks
import tuning_checks
from networks import resnet
from test_notebooks import NOTEBOOKS
from test_study_progress import Clock, train

from cbam_keras import insertion, profile_model, study, tuning
from cbam_keras.study.results import statistics
from cbam_keras.study.running.progress import FirstSteps

# What is left out, in this order.
LEFT_OUT = (
    (r"(\(\d+ of \d+)[^)]*\)", r"\1)"),
    (r"(about \d+ (min|h)|less than a minute) left for", "TIME left for"),
    (r"(?<=left for )(all training runs|this run)", "RUNS"),
    (r"(?<=classes) \([^)]*\)|(?<= in test);.*", ""),
    (r"(?<=Backend: )\w+", "BACKEND"),
    (r"\S*runs/[^\s,]+", "FOLDER"),
    (r"^\w+(?=, input )", "MODEL"),
    (r"(?<![\w.])[+-]?\d+(,\d{3})*(\.\d+)?(e-\d+)?(?!\w)", "#"),
    (r"(?<=learning_rate=)\([^)]*\)", "RATES"),
    (r"\b(none|cbam|CBAM|se|skip-gate|narrow)\b([ -][rk]=#)*", "NETWORK"),
    (r"(test|val|validation) accuracy|mIoU|mAP@\[?\.[\d,.\]]*", "METRIC"),
    (r"\b(image|signal|example)s?\b", "EXAMPLE"),
    (r"(?<=# )(seed|fold|epoch|attention layer)s?\b", r"\1"),
    (r"(?<=seeds #)(, #)+", ""),
)
# Lines and sentences of printed text that are the program's.
LINES = re.compile(
    r"\d parameters\b|in train, |^Backend: |^Confirmation: | "
    "left for "
)
STATEMENTS = re.compile(
    r"\bCI\b|\b[Pp]ower\b|[Ss]ignifican|training loss|Trained for|detectable|"
    r"optimistically|training runs|for all runs|Holm|right on|classify"
)
SENTENCE_END = re.compile(r"(?<!vs)(?<!e\.g)\.(?: (?=\S)|$)")
BORDER = re.compile("[┏┡└├]")

# What stored outputs have said, and what says the same today.
OLD = (
    "Even a gain to 100% is not detectable at 80% power; detecting 1 point "
    "needs about 3 seeds.",
    "Every network is right on all 500 test signals, which therefore cannot "
    "compare them: use more, or harder ones.",
    "Power is below 80% even for a gain to 100%.",
    "Significance after Holm's correction for 2 comparisons; the intervals are "
    "not corrected.",
    "none may not have finished learning (its training loss is 1.9 times the "
    "lowest): check with --learning-rate 0.01 0.03 0.09.",
    "none, seed 0 (1 of 10), 24,058 parameters, from the start",
    "none, seed 0 (1 of 10), 24,058 parameters, from epoch 1",
)
NEW = (
    "With these data, not even the difference of a perfect network would be "
    "detected with 80% power; a 1-point difference would need 18 to 114 seeds.",
    "All networks classify all 500 test signals correctly, so this test set "
    "cannot separate them; use more or harder signals.",
    "Significance is Holm-corrected for 2 comparisons; the intervals are not.",
    '"none" may be undertrained (its training loss is 1.9 times the lowest). '
    "Check with recipe=training.Recipe(learning_rate=(0.01, 0.03, 0.09)).",
    "none, seed 0 (1 of 10), 24,058 parameters",
    "Same 1,000 test images for all runs (one image = 0.10 points). ±: "
    "standard deviation over training runs. Brackets: 95% CI.",
)


def leave_out(text):
    """Returns a text without numbers and names."""
    text = " ".join(text.split())
    # Lines may end inside of a word with a hyphen.
    text = re.sub(r"(?<=\w)- (?=\w)", "-", text)
    for pattern, short in LEFT_OUT:
        text = re.sub(pattern, short, text)
    return text


def split(text):
    """Returns the sentences of a text, without numbers and names."""
    return [leave_out(x) for x in SENTENCE_END.split(text) if x.strip()]


def of_html(text):
    """Yields titles, heads and sentences of tables as notebooks show them."""
    if 'class="dataframe"' in text:
        return
    for words in re.findall(r"<b>(.*?)</b>|<th [^>]*>(.*?)</th>", text):
        yield leave_out(html.unescape("".join(words)))
    for paragraph in re.findall(r"<p>([^<]*)</p>", text):
        yield from split(html.unescape(paragraph))


def of_stream(text):
    """Yields the same of printed text, and lines of progress."""
    paragraph = []
    for line, following in itertools.pairwise([*text.splitlines(), ""]):
        if LINES.search(line):
            yield leave_out(line)
        elif line.startswith("┃"):
            yield from map(leave_out, line.strip("┃").split("┃"))
        elif following.startswith("┏"):
            yield leave_out(line)
        elif not line.startswith("│") and not BORDER.match(line):
            paragraph.append(line)
    for part in re.split(r"\n\s*\n", "\n".join(paragraph)):
        found = SENTENCE_END.split(" ".join(part.split()))
        yield from (leave_out(x) for x in found if STATEMENTS.search(x))


def said_by(output):
    """Returns what the program says in an output of a cell."""
    if "text/html" in output.get("data", {}):
        return [*of_html(output["data"]["text/html"])]
    return [*of_stream(output.get("text", ""))]


def find_stale(output, today):
    """Returns what an output says that is not said today, or says twice."""
    said = said_by(output)
    # Tables may share heads, and networks lines of progress, but no statement
    # stands twice under them.
    twice = {x for x in said if said.count(x) > 1 and STATEMENTS.search(x)}
    return {x for x in said if x not in today} | twice


# What the program says today.

ACCURACY = statistics.TEST_ACCURACY
# As those of masks and boxes, which are not counted by examples.
FRACTION = study.Measure("miou", "mIoU")


def compare(rng, seeds, folds, examples, gain, noise):
    """Returns networks with made-up accuracies, each compared with "none"."""
    pairs = seeds * (folds or 1)
    networks = {"none": study.Measured.of([*rng.normal(0.8, noise, pairs)])}
    for name in ("cbam", "skip-gate"):
        changes = rng.normal(gain, noise, pairs)
        differ = None
        if examples and not folds:
            # Each network is right about some examples that others miss.
            shape = pairs, examples
            changes = (rng.random(shape) < abs(changes[:, None])) * np.sign(
                gain
            )
        networks[name] = study.Measured.of(
            [0.8 + x for x in changes.reshape(pairs, -1).mean(axis=1)],
            changes,
            0 if folds else 300,
            folds,
            sizes=(),
            differ=differ,
        )
    return networks


def render_verdicts():
    """Yields verdicts of networks that differ by little or much, or less."""
    rng = np.random.default_rng(0)
    sizes = itertools.product(
        (1, 2, 3, 5, 8),
        # Folds, and the examples of which each is right or wrong.
        ((None, 0), (None, 300), (3, 0)),
        (-0.1, 0.002, 0.05),
        (0.0005, 0.03, 0.1),
    )
    for measure, (seeds, split, gain, noise) in itertools.product(
        (ACCURACY, FRACTION), sizes
    ):
        compared = compare(rng, seeds, *split, gain, noise)
        yield statistics.verdict(compared, "none", measure, split[0])
        del compared["skip-gate"]
        yield statistics.verdict(compared, "none", measure, split[0])


def render_results(folder):
    """Yields tables and verdicts of made-up runs, as notebooks show them."""
    for seeds, sizes, value in itertools.product(
        (1, 3),
        ({"train": 3600, "test": 1000}, {"train": 90, "test": 20}),
        (0.1, 0.9, 1.0),
    ):
        for measure in (ACCURACY, FRACTION):
            yield from render_run(seeds, sizes, value, folder, measure)
    folds = [study.Run(0, fold) for fold in range(3)]
    values = dict(zip(folds, (0.7, 0.8, 0.9), strict=True))
    described = {x.name: {"sizes": {"test": 100}} for x in folds}
    yield study_checks.made(
        {"none": values, "cbam": values},
        folds=3,
        sizes={"train": 200, "test": 100},
        settings={"data": described},
        output=folder,
    )


def render_run(seeds, sizes, value, folder, measure):
    """Yields a run whose networks end with a loss, or with other ones."""
    by_seed = {seed: value - seed / 1000 for seed in range(seeds)}
    results = study_checks.made(
        {"none": by_seed, "cbam": dict(enumerate([value] * seeds))},
        measures=(measure,),
        sizes=sizes,
        guess=0.1,
        output=folder,
        outcome={"history": [{"loss": 0.1}]},
        settings={
            "recipe": {"learning_rate": 0.01},
            "variants": {"none": {}, "cbam": {}},
        },
    )
    yield results
    slower = [
        dataclasses.replace(x, history=[{"loss": 0.2}])
        if x.variant == "none"
        else x
        for x in results.outcomes
    ]
    yield dataclasses.replace(results, outcomes=tuple(slower))


def render_search(folder):
    """Yields a search before and after its confirmation."""
    space = tuning.CBAMHyperModel(
        model=network, reduction_ratio=(2, 4), kernel_size=3
    )
    for confirm in (0, 3):
        yield tuning_checks.search(
            folder / "search", hypermodel=space, confirm=confirm
        )


def network(attention):
    """Returns a classifier of digits with an attention layer."""
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(4, 3, 4)(inputs)
    if attention is not None:
        x = attention(name="attention")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, "softmax")(x))


def render_progress(folder):
    """Prints what runs print: of seeds, of folds, and the time that is left."""
    recipe = tuning_checks.ONE
    for name, options in {
        "seeds": {"seeds": (0, 1)},
        "folds": {"folds": 3},
    }.items():
        planned = study_checks.planned(
            study_checks.NARROW, recipe=recipe, **options
        )
        study.run(planned, folder / name)
    clock = Clock(1)
    for networks in (1, 5):
        train(FirstSteps(range(2), networks, clock), clock, 2, 100)


def render_models():
    """Yields the tables of a network, and of where attention is inserted."""
    model = resnet()
    yield profile_model(insertion.insert_attention(model, "cbam"))
    yield insertion.insert_attention(model, "cbam", dry_run=True)


@pytest.fixture(scope="module")
def today(few_digits, tmp_path_factory):
    """What the program says today: titles, heads, sentences and lines."""
    folder = tmp_path_factory.mktemp("runs") / "runs"
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
    ):
        pretended.install(patch)
        tuning_checks.score(patch, lambda model: 0.6 + len(model.layers) / 50)
        shown = [*render_search(folder)]
        tuning_checks.score(patch, lambda model: 0.9 - len(model.layers) / 50)
        shown += render_search(folder / "other")
        render_progress(folder)
        shown += [*render_results(folder / "digits"), *render_models()]
    said = {y for x in render_verdicts() for y in split(x)}
    for result in shown:
        said.update(of_html(result._repr_html_()))
        said.update(of_stream(f"{result}\n"))
    said.update(of_stream(printed.getvalue()))
    return said


def outputs_of(path):
    """Returns the outputs of all cells of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    return [output for cell in code for output in cell.outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_say_what_is_said_today(path, today):
    stale = set()
    for output in outputs_of(path):
        stale |= find_stale(output, today)
    # Where it is not empty, the notebook needs to be executed again.
    assert stale == set()


@pytest.mark.parametrize("text", OLD)
def test_other_wordings_are_found(text, today):
    assert find_stale({"text": f"{text}\n"}, today)
    shown = {"data": {"text/html": f"<p>{html.escape(text)}</p>"}}
    assert find_stale(shown, today)


@pytest.mark.parametrize("text", NEW)
def test_todays_wording_is_known(text, today):
    assert said_by({"text": f"{text}\n"})
    assert not find_stale({"text": f"{text}\n"}, today)


def test_a_note_that_the_verdict_repeats_is_found(today):
    text = "Same 1,000 test images for all runs (one image = 0.10 points)."
    assert find_stale({"text": f"{text} {text}"}, today)
