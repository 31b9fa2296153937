"""What a search would train, and how long it would take."""

import json

import pytest
import tuning_checks

from cbam_keras import study, tuning

keras_tuner = pytest.importorskip("keras_tuner")

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Lets networks with attention take twice as long, and notes all."""
    names = []

    def cost_of(planned, variant, data):
        name = variant.name
        names.append(name)
        assert variant.build(data).output_shape == (None, 10)
        seconds = 2.0 if name == "none" else 4.0
        return study.Cost(name, 100, 1000, seconds, 1.0)

    monkeypatch.setattr(study, "cost_of", cost_of)
    monkeypatch.chdir(tmp_path)
    return names


def test_the_default_search_trains_fourteen_networks_and_twelve_again(
    timed, tmp_path
):
    found = tuning.estimate(images="mnist5k")
    assert timed == ["none", "se r=4", "cbam r=16 k=3", "cbam r=2 k=7"]
    assert found.points == {"none": 1, "se": 1, "cbam": 12}
    assert (found.trials, found.epochs) == (14, 14)
    assert found.confirmations == {"none": 3, "se": 3, "cbam": 6}
    # A second besides each epoch.
    assert found.seconds_of_trials == pytest.approx(3 + 13 * 5)
    assert found.seconds_of_confirmation == pytest.approx(3 * 3 + 9 * 5)
    assert not list(tmp_path.iterdir())
    text = str(found)
    assert "14 combinations: 1 none, 1 se, 12 cbam" in text
    assert "14 trials, 14 epochs in all: about 68 seconds" in text
    assert "Confirmation, 12 trainings, 12 epochs in all" in text
    content = json.loads(found.json())
    assert content["seconds"] == pytest.approx(found.seconds)
    assert [own["network"] for own in content["networks"]] == timed


def test_workers_share_the_trainings(timed):
    found = tuning.estimate(images="mnist5k", workers=2)
    assert found.seconds_of_trials == pytest.approx((3 + 13 * 5) / 2)
    assert found.seconds_of_confirmation == pytest.approx((3 * 3 + 9 * 5) / 2)
    assert "with 2 workers" in str(found)
    with pytest.raises(ValueError, match="`workers` must be a positive"):
        tuning.estimate(images="mnist5k", workers=0)


@pytest.mark.parametrize(
    ("name", "trials", "epochs"),
    # Of 4 units, 2 activations, and a range, which counts as ten values; bias
    # is not chosen with the default activation. Those of Hyperband are what
    # test_tuning_trials.py sees: 3 trials of one epoch, one of which gets two
    # more, and 2 of three.
    [("grid", 80, 240), ("bayesian", 14, 42), ("hyperband", 6, 11)],
)
def test_algorithms_differ_in_trials_and_epochs(timed, name, trials, epochs):
    found = tuning.estimate(
        *(tuning_checks.mlp, "mnist5k", tuning_checks.THREE), algorithm=name
    )
    assert (found.trials, found.epochs) == (trials, epochs)
