"""Every kind of result, as a data frame and as a table in notebooks."""

import pathlib
import re
import sys

import keras
import pytest
from report_checks import EVIL, RUNS, TRIALS

import cbam_keras
from cbam_keras import ablation, comparison, detection, training, tuning
from cbam_keras.detection.results import DetectorRun, compared

pandas = pytest.importorskip("pandas", reason="what data frames are of")
OUTPUT = pathlib.Path("runs/own")
TRAINED = [training.Run(**run) for run in RUNS]


def of_training():
    return training.Results(TRAINED, [], OUTPUT)


def of_comparison():
    runs = {run.network: [run, run] for run in TRAINED}
    rows = training.compared(runs, 100, "none")
    both = [*TRAINED, *TRAINED]
    return comparison.Comparison(
        *(both, [], OUTPUT, rows, EVIL, (0, 7), 100, f"{EVIL}.", None)
    )


def of_search():
    trials = tuple(tuning.Trial(**one) for one in TRIALS)
    return tuning.SearchResults(trials, trials[1], 0.9, OUTPUT)


def of_ablation():
    row = ablation.AblationRow(
        *(4, "tiny", EVIL, 9000, 10**6, (15.0, 16.0), 15.5, 0.7),
        *(None, None, None, None, None, 1.0),
    )
    return ablation.AblationResults([row], "photos", (0, 1), 100, OUTPUT)


def of_detection():
    precision = {"map": 0.35, "map50": 0.6, "map75": 0.3}
    run = DetectorRun("none", 0, 9000, precision, 1.0, "none-seed0.keras")
    rows = compared([run], ["none"], (0,))
    return detection.DetectionResults(
        *([run], rows, [], None, "photos", "small", (0,), 100, "", OUTPUT)
    )


def of_profile():
    inputs = keras.Input((8, 8, 4))
    return cbam_keras.profile_model(
        keras.Model(inputs, keras.layers.Conv2D(2, 1, name="conv")(inputs))
    )


def of_audit():
    return cbam_keras.auditing.Audit(
        "Mine", ("It departs.",), ("It is.",), (), None
    )


@pytest.mark.parametrize(
    ("make", "column", "values"),
    [
        (of_training, "test_accuracy", [0.85, 0.9, 0.87]),
        (of_comparison, "seed", [0, 0, 0, 7, 7, 7]),
        (of_search, "reduction_ratio", [16, 4]),
        (of_ablation, "top1_error", [15.0, 16.0]),
        (of_detection, "map50", [0.6]),
        (of_profile, "macs", [512]),
        (of_audit, "finding", ["It departs.", "It is."]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_result_is_a_data_frame_and_a_table(make, column, values):
    result = make()
    frame = result.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame[column].dropna()) == values
    shown = result._repr_html_()
    tables = str(result).count("┏")
    assert tables > 0
    assert shown.count("<table>") == tables
    assert EVIL not in shown


def test_results_print_each_network_with_its_numbers():
    run = training.Run("[/cbam]", 1234567, 3, 0.987, 0.9754, 12.34, "n.keras")
    text = str(training.Results([run], [], OUTPUT))
    assert text.splitlines()[0].strip() == "Results in runs/own"
    headings, row = (
        [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        for line in text.splitlines()
        if re.search("[│┃]", line)
    )
    assert dict(zip(headings, row, strict=True)) == {
        "network": "[/cbam]",
        "parameters": "1,234,567",
        "best validation accuracy": "98.70%",
        "test accuracy": "97.54%",
        "seconds per epoch": "12.3",
    }


def test_without_pandas_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"cbam_keras\[plot\]"):
        of_training().to_dataframe()
