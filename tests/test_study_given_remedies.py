"""Files as people have them, each of which is refused with a remedy.

The remedy of each refusal is taken from its message, or done to the files as it
says, and the files are then read right.
"""

import json
import re

import numpy as np
import pytest
from prediction_files import (
    AGES,
    BINARY,
    COUNT,
    IMAGES,
    LABELS,
    NUMBERS,
    OF_NUMBERS,
    OF_ROUNDED,
    OF_THREE,
    OF_TWO,
    PROBS,
    RUNS,
    SECOND,
    TEXTS,
    answers,
    csv,
    in_one,
    means,
    means_of,
    npz,
    of_classes,
)

from cbam_keras import study

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")


def change(**changes):
    """Returns what changes columns of the files: a function, or `None`."""

    def mend(path, message):
        for file in path.iterdir():
            frame = pandas.read_csv(file)
            for name, function in changes.items():
                if function is None:
                    frame = frame.drop(columns=name)
                else:
                    frame[name] = function(frame[name])
            frame.to_csv(file, index=False)
        return path, {}

    return mend


def rename(**names):
    def mend(path, message):
        for file in path.iterdir():
            frame = pandas.read_csv(file).rename(columns=names)
            frame.to_csv(file, index=False)
        return path, {}

    return mend


def obey(path, message):
    """Returns the argument that the message names first."""
    if found := re.search(r'pattern="([^"]*)"', message):
        return path, {"pattern": found[1]}
    if found := re.search(r"class_names=(\[.*?\])", message):
        return path, {"class_names": json.loads(found[1])}
    if "logits=True" in message:
        return path, {"logits": True}
    return path, {"task": re.search(r'task="(\w+)"', message)[1]}


def obey_regression(path, message):
    assert 'task="regression"' in message
    return path, {"task": "regression"}


def scale(path, message):
    """Divides the probabilities by 100, as the message says."""
    assert "divide them by 100" in message
    for file in path.iterdir():
        with np.load(file) as arrays:
            changed = {**arrays, "probs": arrays["probs"] / 100}
        np.savez(file, **changed)
    return path, {}


def add_labels(path, message):
    rename(label="prediction")(path, message)
    for file in path.iterdir():
        pandas.read_csv(file).assign(label=TEXTS).to_csv(file, index=False)
    return path, {}


def execute(path, message):
    """Runs the lines of the message that write other files."""
    code = re.search(r"(for \(.*index=False\))", message)[1]
    target = path.with_name("written")
    target.mkdir()
    code = code.replace('to_csv(f"', f'to_csv(f"{target}/')
    exec(code, {"pandas": pandas})
    return target, {}


def give_the_file(path, message):
    (file,) = path.iterdir()
    assert f'cbam-keras report "{file}"' in message
    return file, {}


def as_folds(path, message):
    assert "_fold0" in message
    for file in path.iterdir():
        file.rename(file.with_name(file.name.replace("_s", "_fold")))
    return path, {}


def write_other_rows(folder):
    """Writes halves of the examples in the files of two seeds."""
    for (network, seed), scores in PROBS.items():
        rows = np.arange(COUNT) % 2 == seed
        columns = {"image": IMAGES, "label": TEXTS, **of_classes(scores)}
        frame = pandas.DataFrame(columns)[rows]
        frame.to_csv(folder / f"{network}_s{seed}.csv", index=False)
    return folder


OF_HALVES = means_of(
    {
        run: (scores.argmax(axis=1) == LABELS)[np.arange(COUNT) % 2 == run[1]]
        for run, scores in PROBS.items()
    }
)
RIGHT = {x: y.argmax(axis=1) == LABELS for x, y in PROBS.items()}
SPELLINGS = (
    *("{m}_{r}.npz", "resnet50_{m}_{r}.npz", "{m}-42{s}.npz"),
    *("{m}_seed=4{s}.npz", "Model_{letter}_Seed{s}.npz", "{m} (s{s}).npz"),
    *("s{s}_{m}.npz", "{m}_s{s}_best.npz", "{m}/seed{s}/probs.npz"),
    *("run{s}/{m}.npz", "{m}{s}.npz", "{m}_epoch{s}.npz"),
)
# What is refused: how it is written, words, the remedy, what is then right.
REFUSED = {
    **{
        form: (
            npz(form)(lambda x: {"probs": x, "labels": LABELS}),
            "pattern=",
            obey,
            OF_THREE,
        )
        for form in SPELLINGS
    },
    "logits": (
        npz()(lambda x: {"logits": np.log(x), "labels": LABELS}),
        "Received: logits",
        obey,
        OF_THREE,
    ),
    "logits of Hugging Face": (
        npz()(lambda x: {"predictions": np.log(x), "label_ids": LABELS}),
        "must be probabilities",
        obey,
        OF_THREE,
    ),
    "single logits": (
        npz(of=SECOND)(
            lambda x: {"y_pred": np.log(x / (1 - x)), "labels": BINARY}
        ),
        "For logits",
        obey,
        OF_TWO,
    ),
    "percent": (
        npz()(lambda x: {"probs": 100 * x, "labels": LABELS}),
        "percentages",
        scale,
        OF_THREE,
    ),
    "percent of two classes": (
        npz(of=SECOND)(lambda x: {"probs": 100 * x, "labels": BINARY}),
        "percentages",
        scale,
        OF_TWO,
    ),
    "labels from 1": (
        csv()(
            lambda x: (
                {"label": LABELS + 1}
                | {f"prob_{place}": x[:, place] for place in range(3)}
            )
        ),
        "integers from 0 to 2",
        change(label=lambda x: x - 1),
        OF_THREE,
    ),
    "labels and classes from 1": (
        csv()(
            lambda x: {"label": LABELS + 1, "prediction": x.argmax(axis=1) + 1}
        ),
        "`task` must be given",
        obey,
        OF_THREE,
    ),
    "columns from 1, labels from 0": (
        csv()(
            lambda x: (
                {"label": LABELS}
                | {f"{place + 1}": x[:, place] for place in range(3)}
            )
        ),
        "Rename the columns to prob_0",
        rename(**{str(x + 1): f"prob_{x}" for x in range(3)}),
        OF_THREE,
    ),
    "labels -1 and 1": (
        csv(of=SECOND)(lambda x: {"label": 2.0 * BINARY - 1, "prob": x}),
        "Write 0 and 1",
        change(label=lambda x: (x + 1) / 2),
        OF_TWO,
    ),
    "numbers of named columns": (
        csv()(lambda x: {"label": LABELS, **of_classes(x)}),
        "must say which number is which class",
        obey,
        OF_THREE,
    ),
    "numbers of text labels": (
        npz()(lambda x: {"pred": x.argmax(axis=1), "labels": TEXTS}),
        "must say which number is which class",
        obey,
        OF_THREE,
    ),
    "text labels, columns without names": (
        npz()(lambda x: {"probs": x, "labels": TEXTS}),
        "in the order of probabilities",
        obey,
        OF_THREE,
    ),
    "column prob, text labels": (
        csv(of=SECOND)(
            lambda x: {"label": np.where(BINARY, "yes", "no"), "prob": x}
        ),
        "in the order of probabilities",
        obey,
        OF_TWO,
    ),
    "predictions in label": (
        csv()(lambda x: {"id": IMAGES, "label": answers(x)}),
        "predicted classes, prediction",
        add_labels,
        OF_THREE,
    ),
    "id, y, p": (
        csv(of=SECOND)(lambda x: {"id": IMAGES, "y": BINARY, "p": x}),
        "no labels in .* with the columns y, p.* Add a column",
        rename(y="label", p="prob"),
        OF_TWO,
    ),
    "tidy": (
        in_one(
            "all.csv",
            {
                "model": np.repeat([x for x, _ in RUNS], COUNT),
                "seed": np.repeat([x for _, x in RUNS], COUNT),
                "y_true": np.tile(TEXTS, len(RUNS)),
                "y_pred": np.concatenate([answers(x) for x in PROBS.values()]),
            },
        ),
        "Write a file of each network and seed",
        execute,
        OF_THREE,
    ),
    "networks in columns of a folder": (
        lambda folder: (
            in_one(
                "all.csv",
                {
                    "label": TEXTS,
                    **{f"{x}_s{y}": answers(z) for (x, y), z in PROBS.items()},
                },
            )(folder).parent
        ),
        "give the file itself",
        give_the_file,
        OF_THREE,
    ),
    "id, correct": (
        csv(of=RIGHT)(lambda x: {"id": IMAGES, "correct": x.astype(int)}),
        'task="scores"',
        obey,
        means_of(RIGHT),
    ),
    "further column beside classes": (
        csv()(lambda x: {"label": TEXTS, "correct": 0.0, **of_classes(x)}),
        "not classes: correct",
        obey,
        OF_THREE,
    ),
    "further column, left out": (
        csv()(lambda x: {"label": TEXTS, "size": LABELS, **of_classes(x)}),
        "not classes: size. Leave them out",
        change(size=None),
        OF_THREE,
    ),
    "further column beside answers": (
        csv()(lambda x: {"label": TEXTS, "pred": answers(x), "loss": x[:, 0]}),
        "not classes: loss. Leave them out",
        change(loss=None),
        OF_THREE,
    ),
    "further column beside numbers": (
        csv(of=NUMBERS)(
            lambda x: {"label": AGES / 7, "pred": x / 7, "error": x - AGES}
        ),
        "not classes: error. Leave them out",
        change(error=None),
        {x: y / 7 for x, y in OF_NUMBERS.items()},
    ),
    "text in a column": (
        csv()(lambda x: {"label": TEXTS, "camera": "a", **of_classes(x)}),
        'text in the column "camera". Leave it out',
        change(camera=None),
        OF_THREE,
    ),
    "class of no label": (
        csv()(lambda x: {"label": TEXTS, **of_classes(x), "gnu": 0.0}),
        "not classes: gnu",
        obey,
        OF_THREE,
    ),
    "answer of no label": (
        csv()(
            lambda x: {
                "label": np.where(LABELS == 2, "dog", TEXTS),
                "prediction": answers(x),
            }
        ),
        "occur in no label",
        obey,
        means_of(
            {
                x: np.minimum(LABELS, 1) == y.argmax(axis=1)
                for x, y in PROBS.items()
            }
        ),
    ),
    "rounded ages": (
        csv(of=NUMBERS)(lambda x: {"label": AGES, "prediction": np.round(x)}),
        "`task` must be given",
        obey_regression,
        OF_ROUNDED,
    ),
    "other answers than probabilities": (
        csv()(
            lambda x: {"label": TEXTS, "pred": TEXTS, **of_classes(x)},
        ),
        "which differ in .* Leave one out",
        change(pred=None),
        OF_THREE,
    ),
    "two of one kind": (
        csv()(
            lambda x: (
                {"id": IMAGES, "path": IMAGES, "label": TEXTS} | of_classes(x)
            )
        ),
        "one of id, path",
        change(id=None),
        OF_THREE,
    ),
    "seeds with other examples": (
        write_other_rows,
        "Runs that test other examples are folds",
        as_folds,
        OF_HALVES,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_remedy_of_each_refusal_works(name, tmp_path):
    write, words, mend, expected = REFUSED[name]
    folder = tmp_path / "mine"
    folder.mkdir()
    path = write(folder)
    with pytest.raises(ValueError, match=words) as refused:
        study.results_of(path)
    message = str(refused.value)
    assert "Received" in message and "\n" not in message
    path, options = mend(path, message)
    found = means(study.results_of(path, **options))
    if "letter" in name:
        found = {"none": found["Model_A"], "cbam": found["Model_B"]}
    found = {re.sub("resnet50_|_epoch", "", x): y for x, y in found.items()}
    assert found == pytest.approx(expected, abs=1e-6)
