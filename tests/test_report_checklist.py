"""What a page says that checklists ask for, and how a run knows it."""

import html
import itertools
import json
import re
import types

import folder_checks
import numpy as np
import pytest
from report_checks import KINDS, change, network, quick
from test_report_judged import judged

from cbam_keras import report, study
from cbam_keras.report.checklist import ITEMS, YOURS
from cbam_keras.report.summary import describe_time
from cbam_keras.study.files import machines

pytest.importorskip("sklearn")
pytestmark = pytest.mark.usefixtures("undrawn")
LISTS = ["REFORMS", "CLAIM", "TRIPOD+AI", "NeurIPS"]
MADE = {
    "plans": [{"written": "2026-01-02 12:03 UTC"}],
    "machines": ["4 cores of a processor, 2 x a GPU"],
}


def answers(page):
    """Returns what a page answers, by what is asked for."""
    assert "Not in this report" not in page
    section = page[page.index("<h2>Reporting checklist") :]
    section = section[: section.index("</section>")]
    # It is folded.
    assert section.index("<details>") < section.index("<table>")
    cells = re.findall(r'<td class="\w+"[^>]*>(.*?)</td>', section)
    cells = [*map(html.unescape, cells)]
    return dict(zip(cells[::3], cells[1::3], strict=True))


def with_answers(found):
    return {item for item, answer in found.items() if answer != YOURS}


def test_each_item_is_of_lists_that_exist():
    asked = [item.asked_for for item in ITEMS]
    assert 30 <= len(asked) == len({*asked}) <= 40
    every = [[x.split()[0] for x in y.lists.split("; ")] for y in ITEMS]
    assert every == [[x for x in LISTS if x in names] for names in every]
    assert {*itertools.chain(*every)} == {*LISTS}


def test_a_trained_run_answers_what_it_has_recorded(tmp_path):
    folder = judged(tmp_path / "run", leaks=[], source={"name": "/photos"})
    # It has no plan, as one of an older version.
    change(folder, plans=[], machines=[])
    before = answers(report.write(folder).read_text("utf-8"))
    change(folder, **MADE, leaks=["1 test image is a copy"])
    after = answers(report.write(folder).read_text("utf-8"))
    new = with_answers(after) - with_answers(before)
    assert new == {"A plan fixed in advance", "Hardware and training time"}
    assert after["A plan fixed in advance"].startswith(
        "The settings were recorded on 2026-01-02 12:03 UTC, when the run"
    )
    assert "2 x a GPU" in after["Hardware and training time"]
    copies = "Duplicates and related examples in several splits"
    assert "an exact copy of a training image" in before[copies]
    assert after[copies] == "1 test image is a copy."
    assert after["A fair baseline"].endswith("training time of the others.")
    where = 'See "ROC and threshold" for the threshold.'
    assert after["Output and threshold"].endswith(where)
    assert after["Robustness and sensitivity"] == "Not tested in this run."
    assert (
        YOURS == after["Population, setting, purpose, and why these networks"]
    )


def test_what_was_not_searched_for_copies_does_not_say_so(tmp_path):
    source = {"name": "mnist5k"}
    folder = judged(tmp_path / "run", leaks=[], source=source)
    found = answers(report.write(folder).read_text("utf-8"))
    assert found["Duplicates and related examples in several splits"] == YOURS


def test_methods_say_what_was_fixed_and_where_it_was_trained(tmp_path):
    folder = change(judged(tmp_path / "run"), **MADE)
    text = report.write(folder).read_text("utf-8")
    (methods,) = re.findall(r'<p class="text">(The dataset .*?)</p>', text)
    for sentence in (
        "All variants were trained with the same hyperparameters; none was "
        "tuned separately. No epoch, learning rate or threshold was ",
        "4 cores of a processor, 2 x a GPU (about 1 minute of training).",
    ):
        assert sentence in methods
    # That settings were recorded when the run began says nothing.
    assert "were recorded" not in methods
    assert ">started</dt><dd>2026-01-02 12:03 UTC<" in text
    written = [*MADE["plans"], {"written": "2026-01-03 09:00 UTC"}]
    change(folder, plans=written)
    text = report.write(folder).read_text("utf-8")
    assert "the run began, and changed on 2026-01-03 09:00 UTC." in text


GIVEN = {
    "classes": ("3 classes;", np.eye(3)[[0, 1, 2, 0] * 5], [0, 1, 2, 1] * 5),
    "labels": (
        "2 labels, of which",
        np.eye(2)[[0, 1] * 9],
        np.eye(2)[[0, 1, 1] * 6],
    ),
    "numbers": ("A continuous target;", np.arange(9.0), np.arange(9.0) + 1),
    "scores": ("A score for each", np.arange(9.0), None),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_given_predictions_answer_nothing_of_their_training(kind, tmp_path):
    outcome, predictions, labels = GIVEN[kind]
    results = study.results_of(
        {"none": [predictions] * 3, "cbam": [predictions[::-1]] * 3},
        labels,
        task={"numbers": "regression", "scores": "scores"}.get(kind),
        multi_label=kind == "labels",
    )
    page = results.write(tmp_path / "out").read_text("utf-8")
    found = answers(page)
    assert found["Outcome, and how often each class occurs"].startswith(outcome)
    for item in (
        "A fair baseline",
        "Checkpoint selection",
        "Hardware and training time",
        "Loss, optimizer, schedule, epochs, batch size",
        "No test data in training or model selection",
        "Robustness and sensitivity",
    ):
        assert found[item] == YOURS
    assert 7 < len(with_answers(found)) < 18


def test_a_folder_notes_when_it_was_planned_and_when_that_changed(tmp_path):
    folder = tmp_path / "run"

    def content(seeds):
        options = {"attentions": KINDS[:2], "model": network, "seeds": seeds}
        folder_checks.call("compare", folder, **options)
        return json.loads((folder / "study.json").read_text())

    with quick():
        first = content([0])
        again, more = content([0]), content([0, 1])
        assert again["plans"] == first["plans"] == more["plans"][:1]
        assert [x["seeds"] for x in more["plans"]] == [[0], [0, 1]]
        assert (
            more["machines"]
            == first["machines"]
            == [machines.describe_machine()]
        )
        # An older version trained its first networks without a note.
        for name in ("plans", "machines"):
            del more[name]
        (folder / "study.json").write_text(json.dumps(more))
        assert content([0, 1, 2])["plans"] == []


def test_networks_that_runs_have_chosen_are_counted_once():
    def outcome(rate, seconds):
        return types.SimpleNamespace(learning_rate=rate, seconds=seconds)

    results = types.SimpleNamespace(
        outcomes=[outcome(None, 1800), outcome(0.1, 3600)],
        candidates=[outcome(0.1, 3600), outcome(0.3, 1800)],
    )
    assert describe_time(results) == "2.0 hours"
    results.candidates = []
    assert describe_time(results) == "30 minutes"
    results.outcomes = []
    assert describe_time(results) == ""


def test_gpus_are_called_what_their_driver_calls_them(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    lines = [f"GPU {x}: NVIDIA H200 (UUID: GPU-{x})" for x in range(2)]
    text = "\n".join([lines[0], "  MIG 1g (UUID: MIG-1)", lines[1]])
    program.write_text(f"#!/bin/sh\necho '{text}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert machines.list_gpus() == ["NVIDIA H200"] * 2
    assert machines.describe_machine().endswith(", 2 x NVIDIA H200")
    program.write_text("#!/bin/sh\nexit 9\n")
    assert machines.list_gpus() == []
