"""Folders of predictions: names, formats, what disagrees, what is damaged."""

import numpy as np
import pytest

from cbam_keras import cli, study

metrics = pytest.importorskip("sklearn.metrics")
pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.usefixtures("undrawn")

NAMES = ["healthy", "blight", "rust"]
LABELS = np.repeat([0, 1, 2], [40, 30, 20])


def guesses(seed, strength):
    logits = np.random.default_rng(seed).normal(size=(90, 3))
    powers = np.exp(logits + strength * np.eye(3)[LABELS])
    return powers / powers.sum(axis=1, keepdims=True)


GIVEN = {
    "none": [guesses(seed, 1) for seed in range(3)],
    "cbam": [guesses(seed, 2) for seed in range(5, 8)],
}


def as_csv(path, probabilities, labels, names=NAMES, **columns):
    frame = pandas.DataFrame(probabilities, columns=names)
    frame.assign(label=labels, **columns).to_csv(path, index=False)


def folder_of(folder, form="{}_s{}.npz", key="probs"):
    """Writes a file of each network and seed."""
    for network, runs in GIVEN.items():
        for seed, probabilities in enumerate(runs):
            path = folder / form.format(network, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".csv":
                as_csv(path, probabilities, np.array(NAMES)[LABELS])
            else:
                np.savez(path, **{key: probabilities, "labels": LABELS})
    return folder


EXPECTED = study.results_of(GIVEN, LABELS)


def test_groups_and_names_of_a_table_are_texts(tmp_path):
    groups = np.resize(["007", "7"], 90)
    names = [f"{number:03}" for number in range(90)]
    for network, (probabilities, *_) in GIVEN.items():
        path = tmp_path / f"{network}_s0.csv"
        as_csv(path, probabilities, LABELS, group=groups, name=names)
    found = study.results_of(tmp_path, class_names=NAMES)
    assert "2 groups of test" in found.verdict
    kept = found.predictions("none", seed=0)
    assert kept["image"].tolist() == names


@pytest.mark.parametrize(
    ("form", "key", "pattern"),
    [
        ("{}_s{}.npz", "probs", None),
        ("{}-seed{}.npz", "y_pred", None),
        ("{}_seed_{}.npz", "predictions", None),
        ("{}_s{}.csv", "", None),
        ("{}/{}/probs.npz", "probs", "{network}/{seed}/probs.npz"),
        ("run{1}/test of {0}.npz", "probs", "run{seed}/test of {network}"),
    ],
)
def test_a_folder_gives_the_results_of_its_arrays(form, key, pattern, tmp_path):
    folder = folder_of(tmp_path, form, key)
    results = study.results_of(folder, pattern=pattern)
    assert results.baseline == "none" and results.seeds == (0, 1, 2)
    assert results.rows[1].values == pytest.approx(EXPECTED.rows[1].values)
    assert results.rows[1].interval == pytest.approx(EXPECTED.rows[1].interval)
    names = NAMES if "csv" in form else ["0", "1", "2"]
    assert [*results.class_names] == names


def test_columns_of_another_order_and_labels_that_are_places_agree(tmp_path):
    folder_of(tmp_path)
    order = [2, 0, 1]
    names = [NAMES[x] for x in order]
    for seed in (0, 1):
        (tmp_path / f"cbam_s{seed}.npz").unlink()
    as_csv(
        *(tmp_path / "cbam_s0.csv", GIVEN["cbam"][0][:, order]),
        *(np.array(NAMES)[LABELS], names),
    )
    # As pandas writes an index, and some spreadsheets columns.
    frame = pandas.DataFrame(GIVEN["cbam"][1], columns=NAMES)[names]
    frame.assign(label=np.array(NAMES)[LABELS]).to_csv(
        tmp_path / "cbam_s1.csv", sep=";", encoding="utf-8-sig"
    )
    # Nothing says which class a number of the other files is.
    with pytest.raises(
        ValueError, match="must say which number is which class"
    ):
        study.results_of(tmp_path)
    results = study.results_of(tmp_path, class_names=NAMES)
    assert [*results.class_names] == NAMES
    assert results.rows[1].values == EXPECTED.rows[1].values
    as_csv(tmp_path / "cbam_s0.csv", GIVEN["cbam"][0], LABELS)
    with pytest.raises(ValueError, match="as names, or all as numbers"):
        study.results_of(tmp_path, class_names=NAMES)


def test_groups_names_and_folds_are_read(tmp_path):
    patients = np.arange(90) % 8
    rows = [np.arange(fold, 90, 3) for fold in range(3)]
    pairs = {
        network: [(x, runs[seed][x]) for seed in (0, 1) for x in rows]
        for network, runs in GIVEN.items()
    }
    for network, runs in pairs.items():
        for number, (of_fold, scores) in enumerate(runs):
            seed, fold = divmod(number, 3)
            np.savez(
                tmp_path / f"{network}_s{seed}_fold{fold}.npz",
                probs=scores,
                y_true=LABELS[of_fold],
                groups=patients[of_fold],
                names=np.array([f"image {x}" for x in of_fold]),
            )
    found = study.results_of(tmp_path)
    expected = study.results_of(pairs, LABELS, folds=3)
    assert found.folds == 3 and found.rows[1].over == "3 folds x 2 seeds"
    assert found.rows[1].interval == pytest.approx(expected.rows[1].interval)
    frame = found.predictions("none", 1, fold=2)
    assert [*frame["image"]] == [f"image {x}" for x in rows[2]]
    # The first fold alone, as if there were no others.
    for path in [*tmp_path.iterdir()]:
        if "fold0" in path.name:
            path.rename(path.with_name(path.name.replace("_fold0", "")))
        else:
            path.unlink()
    found = study.results_of(tmp_path).rows[1]
    assert found.over == "2 seeds and 8 groups of test examples"


def test_numbers_logits_and_single_columns_are_read(tmp_path):
    targets = np.random.default_rng(0).gamma(9, 5, 40)
    for network, noise in (("old", 3), ("new", 1)):
        numbers = targets + noise * np.sin(np.arange(40))
        frame = {"id": range(40), "prediction": numbers, "target": targets}
        path = tmp_path / f"numbers/{network}_s0.csv"
        path.parent.mkdir(exist_ok=True)
        pandas.DataFrame(frame).to_csv(path, index=False)
    results = study.results_of(tmp_path / "numbers", baseline="old")
    error = metrics.mean_absolute_error(targets, targets + np.sin(range(40)))
    assert results.values("new", "mae")[study.Run(0)] == pytest.approx(error)
    path = tmp_path / "logits/none_s0.npz"
    path.parent.mkdir()
    np.savez(path, logits=np.log(GIVEN["none"][0]), labels=LABELS)
    with pytest.raises(
        ValueError, match="Received: logits. If they are .* logits=True"
    ):
        study.results_of(path.parent)
    found = study.results_of(path.parent, logits=True).rows[0]
    assert found.values == EXPECTED.rows[0].values[:1]


def saved(**arrays):
    """Returns what writes a file of other arrays."""
    usual = {"probs": GIVEN["cbam"][1], "labels": LABELS}
    kept = {x: y for x, y in {**usual, **arrays}.items() if y is not None}
    return lambda path: np.savez(path, **kept)


def as_npy(path):
    with path.open("wb") as file:
        np.save(file, LABELS)


NEITHER = "must be a .npz file, as numpy.savez"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (as_npy, NEITHER),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), NEITHER),
        (lambda path: path.write_bytes(b""), NEITHER),
        (saved(probs=None), "must have an array probs"),
        (saved(probs=np.float64(1)), "arrays of the same examples"),
        (saved(y_pred=LABELS), "must have one of probabilities and"),
        (saved(probs=GIVEN["cbam"][1][:80]), r"\(80, 3\), .labels.: \(90,\)"),
        (saved(labels=np.roll(LABELS, 1)), "in their labels, of 90 and 90"),
        (
            saved(probs=GIVEN["cbam"][1][:80], labels=LABELS[:80]),
            "in their predictions, of 90 and 80",
        ),
        (
            saved(probs=GIVEN["cbam"][1][:80], labels=None),
            "in their predictions, of 90 and 80",
        ),
        (lambda path: path.rename(path.with_stem("cbam_s7")), "no file of"),
        (lambda path: path.rename(path.with_stem("se_s0")), "no file of"),
        (
            lambda path: as_csv(path.with_suffix(".csv"), GIVEN["none"][0], 0),
            "one file of each network and seed",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_files(
    change, words, tmp_path
):
    change(folder_of(tmp_path) / "cbam_s1.npz")
    with pytest.raises(ValueError, match=words) as told:
        study.results_of(tmp_path)
    assert "cbam_s" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a .csv file with a header"),
        ("a,b,label\n.5,.5,a\n.5,a\n", "line 3 has 2 fields"),
        ("label,group\na,b\nb,b\n", "a column for each class"),
        ("a,b,size,label\n.5,.5,big,a\n", 'text in the column "size"'),
        ("a,b,label\n.5,.5,c\n.5,.5,a\n", "Received: c"),
    ],
)
def test_what_is_wrong_in_a_csv_file_is_named(text, words, tmp_path):
    (tmp_path / "none_s0.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        study.results_of(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{seed}.npz", "must have {network} once"),
        ("{network}/{kind}", "must have {network} once"),
        ("{network}/{seed}", "must hold files such as none_s0.npz"),
    ],
)
def test_patterns_that_mean_nothing_are_refused(pattern, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        study.results_of(folder_of(tmp_path), pattern=pattern)


def test_flipped_bits_are_one_sentence_or_change_nothing(tmp_path):
    folder = folder_of(tmp_path)
    path = folder / "none_s1.npz"
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for bit in random.choice(8 * len(whole), 40, replace=False):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = study.results_of(folder)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            continue
        assert found.rows[0].values == EXPECTED.rows[0].values


def test_one_file_holds_all_runs_of_all_networks(tmp_path):
    file = tmp_path / "mine.npz"
    runs = {name: np.array(runs) for name, runs in GIVEN.items()}
    np.savez(file, labels=LABELS, class_names=NAMES, **runs)
    results = study.results_of(file)
    assert results.rows[1].interval == EXPECTED.rows[1].interval
    np.savez(file, **runs)
    with pytest.raises(ValueError, match="`labels` must be given"):
        study.results_of(file)


def test_files_without_seeds_are_single_runs(tmp_path):
    folder_of(tmp_path, "{}.npz")
    assert study.results_of(tmp_path).variants == ("none", "cbam")


def test_the_command_reads_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "mine", key="logits")
    words = ["report", "mine", "--baseline", "cbam", "--measure", "macro_f1"]
    assert cli.main([*words, "--output", "out"]) == 2
    assert "--logits" in capsys.readouterr().err
    folder_of(tmp_path / "mine")
    assert cli.main(words) == 0
    assert "The network without attention worsened" in capsys.readouterr().out
    folder = tmp_path / "runs/report-mine"
    assert (folder / "tables/confusion-cbam.tex").exists()
    # It is a run now, without networks to draw.
    assert cli.main(["report", str(folder)]) == 0
    assert "warning" not in capsys.readouterr().err
    assert cli.main(words) == 2
    assert "--output" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.main(["report", "empty"]) == 2
    assert "none_s0.npz and cbam_s0.npz" in capsys.readouterr().err
