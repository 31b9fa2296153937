"""Files as people have them, each of which is read right."""

import pathlib
import re

import numpy as np
import pytest
from prediction_files import (
    AGES,
    BINARY,
    CLASSES,
    COUNT,
    GAINS,
    IMAGES,
    LABELS,
    NUMBERS,
    OF_NUMBERS,
    OF_THREE,
    OF_TWO,
    PROBS,
    SECOND,
    TEXTS,
    answers,
    csv,
    in_one,
    means,
    means_of,
    npz,
    of_classes,
    random,
)

from cbam_keras import cli, study

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")


def write_shuffled(folder):
    """Writes rows, and columns, of each file in another order."""
    for (network, seed), scores in PROBS.items():
        rows = random.permutation(COUNT)
        frame = pandas.DataFrame(
            {"image": IMAGES, "label": TEXTS, **of_classes(scores)}
        ).iloc[rows]
        columns = random.permutation([*frame])
        frame[columns].to_csv(folder / f"{network}_s{seed}.csv", index=False)
    return folder


def write_other_classes(folder):
    """Writes one probability, of the second class of each file."""
    for (network, seed), second in SECOND.items():
        is_turned = network == "cbam"
        np.savez(
            folder / f"{network}_s{seed}.npz",
            probs=1 - second if is_turned else second,
            labels=1 - BINARY if is_turned else BINARY,
            class_names=["ill", "ok"] if is_turned else ["ok", "ill"],
        )
    return folder


def write_folds(folder):
    """Writes a file of each fold, of two that test all examples."""
    for (network, seed), scores in PROBS.items():
        for fold in range(2):
            rows = np.arange(COUNT) % 2 == fold
            np.savez(
                folder / f"{network}_s{seed}_fold{fold}.npz",
                probs=scores[rows],
                labels=LABELS[rows],
                image=IMAGES[rows],
            )
    return folder


# What is read at once: how it is written, the arguments, what is right.
READ = {
    "probs, labels": (
        npz()(lambda x: {"probs": x, "labels": LABELS}),
        {},
        OF_THREE,
    ),
    "y_true, y_prob": (
        npz("{m}_run{r}.npz")(lambda x: {"y_prob": x, "y_true": LABELS}),
        {},
        OF_THREE,
    ),
    "text labels, class_names": (
        npz()(lambda x: {"probs": x, "label": TEXTS, "class_names": CLASSES}),
        {},
        OF_THREE,
    ),
    "bytes": (
        npz()(
            lambda x: {
                "probs": x,
                "label": TEXTS.astype("S"),
                "class_names": np.array(CLASSES, "S"),
            }
        ),
        {},
        OF_THREE,
    ),
    "one-hot labels": (
        npz()(lambda x: {"probs": x, "label": np.eye(3)[LABELS]}),
        {},
        OF_THREE,
    ),
    "classes as float32": (
        npz()(
            lambda x: {
                "y_pred": x.argmax(axis=1).astype("float32"),
                "y_true": LABELS.astype("float32"),
            }
        ),
        {},
        OF_THREE,
    ),
    "probabilities and classes": (
        npz()(lambda x: {"y_prob": x, "y_pred": x.argmax(1), "y_true": LABELS}),
        {},
        OF_THREE,
    ),
    "Hugging Face": (
        npz()(lambda x: {"predictions": np.log(x), "label_ids": LABELS}),
        {"logits": True},
        OF_THREE,
    ),
    "columns of classes": (
        csv()(lambda x: {"label": TEXTS, **of_classes(x)}),
        {},
        OF_THREE,
    ),
    "columns prob_0": (
        csv("{m}-seed{s}.csv")(
            lambda x: (
                {"label": LABELS}
                | {f"prob_{place}": x[:, place] for place in (2, 0, 1)}
            )
        ),
        {},
        OF_THREE,
    ),
    "columns prob_cat": (
        csv()(
            lambda x: (
                {"label": TEXTS}
                | {f"prob_{y}": z for y, z in of_classes(x).items()}
            )
        ),
        {},
        OF_THREE,
    ),
    "decimal comma": (
        csv(sep=";", decimal=",")(lambda x: {"label": TEXTS, **of_classes(x)}),
        {},
        OF_THREE,
    ),
    "byte order mark": (
        csv(sep=";", encoding="utf-8-sig")(
            lambda x: {"label": TEXTS, **of_classes(x)}
        ),
        {},
        OF_THREE,
    ),
    "index of pandas": (
        csv(index=True)(lambda x: {"label": TEXTS, **of_classes(x)}),
        {},
        OF_THREE,
    ),
    "index of pandas and image": (
        csv(index=True)(
            lambda x: {"image": IMAGES, "label": TEXTS, **of_classes(x)}
        ),
        {},
        OF_THREE,
    ),
    "spaces around names": (
        csv()(
            lambda x: {
                " label": [f" {y}" for y in TEXTS],
                **{f"{y} ": z for y, z in of_classes(x).items()},
            }
        ),
        {},
        OF_THREE,
    ),
    "filename, true, pred": (
        csv()(
            lambda x: {"filename": IMAGES, "true": TEXTS, "pred": answers(x)}
        ),
        {},
        OF_THREE,
    ),
    "capitals": (
        csv()(
            lambda x: {"Id": IMAGES, "Label": TEXTS, "Prediction": answers(x)}
        ),
        {},
        OF_THREE,
    ),
    "other orders": (write_shuffled, {}, OF_THREE),
    "class names of each file": (write_other_classes, {}, OF_TWO),
    "files of folds": (write_folds, {}, OF_THREE),
    "column fold": (
        csv()(
            lambda x: {
                "fold": np.arange(COUNT) % 3,
                "label": TEXTS,
                **of_classes(x),
            }
        ),
        {},
        OF_THREE,
    ),
    "column prob": (
        csv(of=SECOND)(lambda x: {"label": BINARY, "prob": x}),
        {},
        OF_TWO,
    ),
    "column of one class": (
        csv(of=SECOND)(
            lambda x: {"label": np.where(BINARY, "ill", "ok"), "ill": x}
        ),
        {},
        OF_TWO,
    ),
    "True and False": (
        csv(of=SECOND)(
            lambda x: {"label": BINARY == 1, "True": x, "False": 1 - x}
        ),
        {},
        OF_TWO,
    ),
    "one .npz": (
        in_one(
            "all.npz",
            {
                "labels": LABELS,
                **{x: [PROBS[x, 0], PROBS[x, 1]] for x in GAINS},
            },
        ),
        {},
        OF_THREE,
    ),
    "one .npz, an array each": (
        in_one(
            "all.npz",
            {
                "y_true": LABELS,
                **{f"{x}_s{y}": z for (x, y), z in PROBS.items()},
            },
        ),
        {},
        OF_THREE,
    ),
    "one .csv, a column each": (
        in_one(
            "all.csv",
            {
                "id": IMAGES,
                "y_true": TEXTS,
                **{f"{x}_s{y}": answers(z) for (x, y), z in PROBS.items()},
            },
        ),
        {},
        OF_THREE,
    ),
    "numbers": (
        csv(of=NUMBERS)(lambda x: {"target": AGES, "prediction": x}),
        {},
        OF_NUMBERS,
    ),
    "numbers as float32": (
        npz(of=NUMBERS)(
            lambda x: {
                "y_true": AGES.astype("float32"),
                "y_pred": x.astype("float32"),
            }
        ),
        {},
        OF_NUMBERS,
    ),
    "scores": (
        csv(of=SECOND)(lambda x: {"id": IMAGES, "iou": x}),
        {"task": "scores"},
        means_of(SECOND),
    ),
    "array of scores": (
        npz(of=SECOND)(lambda x: {"scores": x}),
        {"task": "scores"},
        means_of(SECOND),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_what_has_one_meaning_is_read(name, tmp_path):
    write, options, expected = READ[name]
    found = means(study.results_of(write(tmp_path), **options))
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"label": np.where(LABELS, LABELS, -1), "pred": LABELS},
            r"Leave out examples without a prediction or label \(-1\)",
        ),
        (
            {"label": np.where(LABELS, TEXTS, ""), "pred": TEXTS},
            "no value in 20 of 60 .* the first at index 0. Leave out",
        ),
        (
            {"label": np.where(LABELS, TEXTS, "nan"), "pred": TEXTS},
            "no value in 20 of 60",
        ),
        ({"image": "a.png", "label": TEXTS, "pred": TEXTS}, "such as 'a.png'"),
        (
            {"label": TEXTS, "pred": TEXTS, "group": ""},
            "must give groups for all",
        ),
        ({"label": TEXTS, "fold": "a", "pred": TEXTS}, "the number of a fold"),
        ({"label": ["1,53"] * COUNT, "pred": AGES}, "Use a decimal point"),
        ({"cat": 0.5, "dog": ["0.5", ""] * 30}, "none in 30 of 60 rows"),
    ],
)
def test_values_that_are_missing_or_ambiguous_are_counted(
    columns, words, tmp_path
):
    pandas.DataFrame(columns, index=range(COUNT)).to_csv(
        tmp_path / "none_s0.csv", index=False
    )
    with pytest.raises(ValueError, match=words) as refused:
        study.results_of(tmp_path)
    assert "Received" in str(refused.value)


def test_examples_are_paired_by_their_names(tmp_path):
    write_shuffled(tmp_path)
    for network in GAINS:
        (tmp_path / f"{network}_s1.csv").unlink()
    found = study.results_of(tmp_path).rows[1]
    runs = {network: PROBS[network, 0] for network in GAINS}
    expected = study.results_of(runs, LABELS).rows[1]
    assert found.mid_p == expected.mid_p
    assert found.interval == pytest.approx(expected.interval)


def test_names_of_examples_are_in_all_files_or_in_none(tmp_path):
    for number, images in enumerate((IMAGES, None)):
        columns = {"label": TEXTS, "pred": TEXTS}
        if images is not None:
            columns["image"] = images
        path = tmp_path / f"none_s{number}.csv"
        pandas.DataFrame(columns).to_csv(path, index=False)
    with pytest.raises(ValueError, match="Add the column, or leave it out"):
        study.results_of(tmp_path)


@pytest.mark.parametrize(
    ("predictions", "labels", "options", "words"),
    [
        (
            {"none": [PROBS["none", 0]] * 3, "cbam": [PROBS["cbam", 0]] * 3},
            TEXTS,
            {"class_names": CLASSES},
            "2 networks (none, cbam), 3 runs each, 60 examples, 3 classes "
            "(cat, dog, fox): classification.",
        ),
        (
            {"old": NUMBERS["none", 0]},
            AGES,
            {},
            "1 network (old), 1 run each, 60 examples: regression.",
        ),
        (
            {"a": SECOND["none", 0]},
            None,
            {"task": "scores"},
            "1 network (a), 1 run each, 60 examples: scores.",
        ),
        (
            {"a": np.eye(3)[LABELS] * 0.9},
            np.eye(3)[LABELS],
            {"multi_label": True},
            "1 network (a), 1 run each, 60 examples, 3 labels (0, 1, 2): "
            "classification with several labels per example.",
        ),
    ],
)
def test_the_first_line_says_what_was_read(predictions, labels, options, words):
    results = study.results_of(predictions, labels, **options)
    assert str(results).splitlines()[0] == words


def test_the_command_takes_the_same_arguments(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = pathlib.Path("mine")
    folder.mkdir()
    csv(of=NUMBERS)(lambda x: {"label": AGES, "prediction": np.round(x)})(
        folder
    )
    assert cli.main(["report", "mine"]) == 2
    assert "(--task regression)" in capsys.readouterr().err
    csv()(lambda x: {"label": LABELS, **of_classes(x)})(folder)
    words = ["report", "mine", "--task", "classification"]
    assert cli.main(words) == 2
    message = capsys.readouterr().err
    names = re.search(r"\((--class-names [^)]*)\)", message)[1].split()
    assert cli.main([*words, *names]) == 0
    assert "3 classes (cat, dog, fox): classif" in capsys.readouterr().out
