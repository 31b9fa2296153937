"""Which trial comes next, and that nothing of it is ever lost."""

import itertools
import json
import threading

import pytest

keras_tuner = pytest.importorskip("keras_tuner")

from tuning_checks import (  # noqa: E402
    end,
    make_oracle,
    run_trials,
    small_space,
)

from cbam_keras.tuning.algorithms import (  # noqa: E402
    ALGORITHMS,
    count_points,
)

NAMES = tuple(ALGORITHMS)


@pytest.mark.parametrize("name", NAMES)
def test_an_oracle_read_again_at_each_step_hands_out_the_same(tmp_path, name):
    def again():
        oracle = make_oracle(tmp_path / "again", name)
        if (tmp_path / "again" / "oracle.json").exists():
            oracle.reload()
        return oracle

    whole = run_trials(make_oracle(tmp_path / "whole", name))
    assert run_trials(None, again) == whole
    assert len(whole) >= 6


@pytest.mark.parametrize("name", NAMES)
def test_seed_zero_is_a_seed(tmp_path, name):
    first = run_trials(make_oracle(tmp_path / "a", name, seed=0))
    assert run_trials(make_oracle(tmp_path / "b", name, seed=0)) == first


def test_neighbouring_seeds_share_no_values(tmp_path):
    rates = [
        {
            values["rate"]
            for _, values in run_trials(
                make_oracle(tmp_path / str(seed), seed=seed)
            )[3:]
        }
        for seed in (0, 1)
    ]
    assert not rates[0] & rates[1]


@pytest.mark.parametrize("name", ["random", "hyperband", "bayesian"])
def test_the_first_trials_are_the_points_of_comparison(tmp_path, name):
    first = [
        values
        for _, values in run_trials(make_oracle(tmp_path / "run", name))[:3]
    ]
    layer = {"ratio": 16, "stage1": True, "rate": 0.01}
    own = [
        {key: values[key] for key in values if not key.startswith("tuner/")}
        for values in first
    ]
    assert own == [
        {"attention": "none", "rate": 0.01},
        {"attention": "se", **layer},
        {"attention": "cbam", **layer},
    ]


def test_a_space_without_attention_begins_with_its_defaults(tmp_path):
    oracle = make_oracle(tmp_path / "run", fill=small_space)
    values = oracle.create_trial("tuner0").hyperparameters.values
    assert values == {"units": 2, "bias": True}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_is_never_handed_out(tmp_path, name):
    def off(values):
        return values.get("stage1") is False

    handed = run_trials(make_oracle(tmp_path / "run", name, refused=off))
    assert not any(off(values) for _, values in handed)
    assert len(handed) >= 6


@pytest.mark.parametrize("name", ["random", "bayesian", "grid"])
def test_a_small_space_is_searched_to_its_end_without_repetition(
    tmp_path, name
):
    handed = run_trials(
        make_oracle(tmp_path / "run", name, small_space, max_trials=50)
    )
    combinations = [tuple(sorted(values.items())) for _, values in handed]
    wanted = [
        (("bias", bias), ("units", units))
        for bias, units in itertools.product([False, True], [2, 3, 4])
    ]
    assert sorted(combinations) == wanted


def test_the_default_space_is_searched_once_and_in_full(tmp_path):
    from cbam_keras.tuning import CBAMHyperModel

    fill = CBAMHyperModel().declare_hyperparameters
    oracle = make_oracle(tmp_path / "run", fill=fill, max_trials=14)
    points = [
        tuple(
            values.get(name)
            for name in ("attention", "reduction_ratio", "kernel_size")
        )
        for _, values in run_trials(oracle)
    ]
    cbam = [("cbam", r, k) for r in (2, 4, 8, 16) for k in (3, 5, 7)]
    assert points[:3] == [
        ("none", None, None),
        ("se", 4, None),
        ("cbam", 16, 7),
    ]
    assert sorted(points[2:]) == cbam


def uneven_space(hp):
    """1 point without attention, 4 with SE, 4 x 5 x 5 with CBAM."""
    hp.Choice("attention", ["none", "se", "cbam"])
    with hp.conditional_scope("attention", ["se", "cbam"]):
        hp.Choice("ratio", [2, 4, 8, 16])
    with hp.conditional_scope("attention", ["cbam"]):
        hp.Int("kernel", 3, 11, step=2)
        hp.Choice("pool", list("abcde"))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kinds_are_drawn_as_often_as_they_have_combinations(tmp_path, seed):
    oracle = make_oracle(
        tmp_path / "run", fill=uneven_space, seed=seed, max_trials=42
    )
    assert count_points(oracle.get_space()) == {
        "none": 1,
        "se": 4,
        "cbam": 100,
    }
    kinds = [values["attention"] for _, values in run_trials(oracle)]
    assert kinds[:3] == ["none", "se", "cbam"]
    assert kinds.count("none") == 1
    # 39 draws, of which 1.5 are expected to have SE.
    assert kinds.count("cbam") >= 34


def test_a_range_counts_as_the_values_of_a_grid():
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-3, 1e-1, sampling="log")
    small_space(hp)
    assert count_points(hp) == {None: 10 * 3 * 2}


def test_a_grid_goes_through_every_combination_in_order(tmp_path):
    oracle = make_oracle(tmp_path / "run", "grid", small_space, max_trials=None)
    assert [tuple(values.values()) for _, values in run_trials(oracle)] == [
        (2, True),
        (2, False),
        (3, True),
        (3, False),
        (4, True),
        (4, False),
    ]


def test_a_grid_keeps_two_workers_busy(tmp_path):
    oracle = make_oracle(tmp_path / "run", "grid", small_space)
    trials = [oracle.create_trial(f"worker-{n}") for n in range(4)]
    assert [trial.status for trial in trials] == ["RUNNING"] * 4
    assert len({trial.trial_id for trial in trials}) == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_trial_of_a_worker_stays_with_it(tmp_path, name):
    oracle = make_oracle(tmp_path / "run", name)
    first = oracle.create_trial("worker-0")
    second = oracle.create_trial("worker-1")
    assert first.trial_id != second.trial_id
    later = make_oracle(tmp_path / "run", name)
    later.reload()
    assert later.create_trial("worker-1").trial_id == second.trial_id
    assert later.create_trial("worker-0").trial_id == first.trial_id
    assert set(later.heard) == {"worker-0", "worker-1"}


@pytest.mark.parametrize("name", NAMES)
def test_threads_get_trials_of_their_own(tmp_path, name):
    oracle, handed = make_oracle(tmp_path / "run", name), []

    def work(tuner_id):
        while True:
            trial = oracle.create_trial(tuner_id)
            if trial.status == "STOPPED":
                return
            if trial.status == "RUNNING":
                handed.append(trial.trial_id)
                end(oracle, trial)

    threads = [
        threading.Thread(target=work, args=(f"worker-{n}",)) for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(handed) == len(set(handed)) == len(oracle.trials) >= 6
    assert oracle.finished
    assert not oracle.tuner_ids


def test_the_trial_of_a_lost_worker_goes_to_the_next(tmp_path):
    oracle = make_oracle(tmp_path / "run")
    lost = oracle.create_trial("worker-0")
    oracle.requeue("worker-0")
    assert oracle.tuner_ids == set()
    assert not oracle.finished
    later = make_oracle(tmp_path / "run")
    later.reload()
    found = later.create_trial("worker-1")
    assert found.trial_id == lost.trial_id
    assert found.hyperparameters.values == lost.hyperparameters.values


def test_a_sign_of_life_gives_a_lost_trial_back(tmp_path):
    oracle = make_oracle(tmp_path / "run")
    trial = oracle.create_trial("worker-0")
    oracle.requeue("worker-0")
    oracle.update_trial(trial.trial_id, {}, step=0)
    assert oracle.create_trial("worker-1").trial_id != trial.trial_id
    assert oracle.create_trial("worker-0").trial_id == trial.trial_id
    assert "worker-0" in oracle.heard


def test_an_end_reported_twice_counts_once(tmp_path):
    oracle = make_oracle(tmp_path / "run")
    trial = oracle.create_trial("worker-0")
    oracle.requeue("worker-0")
    other = oracle.create_trial("worker-1")
    assert other.trial_id == trial.trial_id
    end(oracle, trial)
    before = (tmp_path / "run" / "oracle.json").read_bytes()
    oracle.end_trial(other)
    assert (tmp_path / "run" / "oracle.json").read_bytes() == before
    assert oracle.end_order == [trial.trial_id]


def test_a_worker_waits_for_the_last_trials_of_others(tmp_path):
    oracle = make_oracle(tmp_path / "run", max_trials=1)
    trial = oracle.create_trial("worker-0")
    assert oracle.create_trial("worker-1").status == "IDLE"
    oracle.requeue("worker-0")
    assert oracle.create_trial("worker-1").trial_id == trial.trial_id
    end(oracle, trial)
    assert oracle.create_trial("worker-1").status == "STOPPED"
    assert oracle.finished


def test_more_trials_may_be_asked_for_later(tmp_path):
    assert len(run_trials(make_oracle(tmp_path / "run", max_trials=4))) == 4
    later = make_oracle(tmp_path / "run", max_trials=7)
    later.reload()
    assert not later.finished
    assert len(run_trials(later)) == 3


def test_hyperparameters_that_show_only_in_a_trial_are_taken_up(tmp_path):
    oracle = make_oracle(tmp_path / "run", fill=small_space)
    trial = oracle.create_trial("tuner0")
    late = keras_tuner.HyperParameters()
    late.Choice("late", ["a", "b"])
    end(
        oracle,
        trial,
        space=late.get_config()["space"],
        values={"units": 2, "bias": True, "late": "a"},
    )
    assert "late" in oracle.create_trial("tuner0").hyperparameters.values


# Hyperband: 9 epochs by thirds make brackets of 9, 5 and 3 first trials.


def epochs_of(handed):
    return [values["tuner/epochs"] for _, values in handed]


def test_hyperband_gives_the_best_third_three_times_the_epochs(tmp_path):
    oracle = make_oracle(tmp_path / "run", "hyperband")
    handed = run_trials(oracle)
    # The numbers of trials and epochs of Li et al., 2018, table 1, as
    # KerasTuner rounds them.
    assert epochs_of(handed) == [1] * 9 + [3] * 3 + [9] + [3] * 5 + [9] * 2 + (
        [9] * 3
    )
    first = {
        trial_id: oracle.outcomes[trial_id]["val_accuracy"]
        for trial_id, _ in handed[:9]
    }
    promoted = [values["tuner/trial_id"] for _, values in handed[9:12]]
    left = set(first) - set(promoted)
    assert min(first[t] for t in promoted) >= max(first[t] for t in left)


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_trials_and_epochs_is_known_before(tmp_path, name):
    oracle = make_oracle(tmp_path / "run", name)
    handed = run_trials(oracle)
    epochs = sum(
        values.get("tuner/epochs", 9) - values.get("tuner/initial_epoch", 0)
        for _, values in handed
    )
    planned = oracle.algorithm.planned(1000, oracle.max_trials, 9)
    assert planned == (len(handed), epochs)


@pytest.mark.parametrize("failures", [1, 8])
def test_failed_trials_do_not_starve_the_later_rounds(tmp_path, failures):
    oracle = make_oracle(tmp_path / "run", "hyperband")
    for count in range(9):
        trial = oracle.create_trial("tuner0")
        end(oracle, trial, "error" if count < failures else "finished")
    later = epochs_of(run_trials(oracle))
    assert later[: min(3, 9 - failures)] == [3] * min(3, 9 - failures)
    assert 9 in later[:4]


def test_a_round_in_which_all_failed_ends_its_bracket(tmp_path):
    oracle = make_oracle(tmp_path / "run", "hyperband")
    for _ in range(9):
        end(oracle, oracle.create_trial("tuner0"), "diverged")
    assert epochs_of(run_trials(oracle)) == [3] * 5 + [9] * 2 + [9] * 3


def test_hyperband_halves_what_a_small_space_has(tmp_path):
    handed = run_trials(make_oracle(tmp_path / "run", "hyperband", small_space))
    assert epochs_of(handed) == [1] * 6 + [3] * 3 + [9]


def test_weights_are_kept_for_trials_that_others_may_continue(tmp_path):
    oracle = make_oracle(tmp_path / "run", "hyperband")
    for _ in range(9):
        assert oracle.algorithm.may_continue(oracle) <= set(oracle.trials) | {
            None
        }
        end(oracle, oracle.create_trial("tuner0"))
    assert {f"{n:04d}" for n in range(1, 10)} <= oracle.algorithm.may_continue(
        oracle
    )
    promoted = [oracle.create_trial("tuner0") for _ in range(1)]
    past = promoted[0].hyperparameters.values["tuner/trial_id"]
    for _ in range(2):
        end(oracle, oracle.create_trial("tuner0"))
    end(oracle, oracle.create_trial("tuner0"))
    assert past not in oracle.algorithm.may_continue(oracle)
    run_trials(oracle)
    assert oracle.algorithm.may_continue(oracle) - {None} == set()


def test_bayesian_search_knows_of_trials_under_way(tmp_path):
    oracle = make_oracle(tmp_path / "run", "bayesian", max_trials=9)
    for _ in range(5):
        end(oracle, oracle.create_trial("worker-0"))
    trials = [oracle.create_trial(f"worker-{n}") for n in range(4)]
    values = [
        tuple(sorted(trial.hyperparameters.values.items())) for trial in trials
    ]
    assert len(set(values)) == 4


def test_bayesian_search_goes_where_the_accuracy_is(tmp_path):
    def one(hp):
        hp.Float("x", 0.0, 1.0, default=0.0)

    oracle = make_oracle(tmp_path / "run", "bayesian", one, max_trials=9)
    found = []
    for _ in range(9):
        trial = oracle.create_trial("tuner0")
        x = trial.hyperparameters.values["x"]
        found.append(x)
        end(oracle, trial, val_accuracy=1 - (x - 0.7) ** 2)
    assert min(abs(x - 0.7) for x in found[4:]) < 0.05


def test_a_damaged_state_is_reported(tmp_path):
    run_trials(make_oracle(tmp_path / "run"))
    path = tmp_path / "run" / "oracle.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match="oracle.json is damaged"):
        make_oracle(tmp_path / "run").reload()


@pytest.mark.parametrize("content", ["", "[1]", '{"values'])
@pytest.mark.parametrize("file", ["trial.json", "outcome.json"])
def test_a_damaged_file_of_a_trial_is_set_aside_and_written_again(
    tmp_path, file, content
):
    run_trials(make_oracle(tmp_path / "run"))
    path = tmp_path / "run" / "trial_0002" / file
    before = json.loads(path.read_text())
    path.write_text(content)
    oracle = make_oracle(tmp_path / "run")
    with pytest.warns(UserWarning, match=f"{file}.damaged"):
        oracle.reload()
    assert (path.parent / f"{file}.damaged").read_text() == content
    after = json.loads(path.read_text())
    assert {key: before[key] for key in after} == after
    assert len(oracle.outcomes) == 9


def test_only_the_best_trials_keep_weights(tmp_path):
    oracle = make_oracle(tmp_path / "run", keep=2)
    for count, accuracy in enumerate([0.5, 0.9, 0.7, 0.8, 0.9]):
        trial = oracle.create_trial("tuner0")
        folder = oracle.trial_folder(trial.trial_id) / "checkpoints"
        folder.mkdir()
        for name in ("trial-1.keras", "trial-2.keras"):
            (folder / name).write_text("weights")
        state = dict.fromkeys(
            ("network", "fingerprint", "random", "history"), "x"
        )
        state |= {"latest": "trial-2.keras", "best": "trial-1.keras"}
        (folder / "state.json").write_text(json.dumps(state))
        # The last is as accurate as the second, with a lower loss.
        end(oracle, trial, val_accuracy=accuracy, val_loss=2.0 - count / 10)
    kept = sorted(
        str(path.relative_to(tmp_path / "run"))
        for path in (tmp_path / "run").rglob("*.keras")
    )
    assert kept == [
        "trial_0002/checkpoints/trial-1.keras",
        "trial_0005/checkpoints/trial-1.keras",
    ]


def test_no_private_name_of_keras_tuner_is_replaced():
    from cbam_keras.tuning.oracle import DurableOracle

    theirs = {name for name in dir(keras_tuner.Oracle) if name[:2] != "__"}
    replaced = theirs & set(vars(DurableOracle))
    assert not {name for name in replaced if name.startswith("_")}
