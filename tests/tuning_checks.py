"""Small searches, and ways to disturb them, for the tests of tuning."""

import contextlib
import functools
import hashlib
import json
import warnings

import keras
import numpy as np
from networks import mlp as network

from cbam_keras import _files, data, plotting, training, tuning
from cbam_keras.training import Recipe, networks
from cbam_keras.training.checkpoints import Progress, State
from cbam_keras.tuning import algorithms
from cbam_keras.tuning import trial as tuning_trial
from cbam_keras.tuning.trial import OUTCOME_KEYS

# 70 training images: two steps per epoch.
TWO = Recipe(epochs=2, batch_size=35)
THREE = Recipe(epochs=3, batch_size=35)


def mlp(hp):
    """Returns a network of a space with a condition."""
    units = hp.Choice("units", [2, 3, 4, 5])
    activation = hp.Choice("activation", ["tanh", "relu"])
    with hp.conditional_scope("activation", ["relu"]):
        bias = hp.Boolean("bias", default=True)
    hp.Float("learning_rate", 1e-3, 1e-1, sampling="log", default=0.01)
    return network(units, activation=activation, use_bias=bias is not False)


def pretend(
    model,
    name,
    images,
    recipe,
    progress,
    *,
    epochs,
    callbacks=(),
    stop_if_diverged=False,
):
    """Stands in for `training.fit`: writes what it would, without training.

    The accuracies of a network are a function of its layers, its learning
    rate and the epoch.
    """
    own = networks.fingerprint(model)
    rate = model.optimizer.get_config()["learning_rate"]
    state = progress.load(name)
    if state is None:
        state = State(name, own)
        # As after a step; else its state could not be loaded.
        model.optimizer.build(model.trainable_variables)
    elif state.epochs < epochs:
        model = progress.load_model(state.latest)
    for epoch in range(state.epochs + 1, epochs + 1):
        text = json.dumps([own, rate, epoch, recipe.seed], default=str)
        digest = hashlib.sha256(text.encode()).digest()
        state.history.append(
            {
                "network": name,
                "epoch": epoch,
                "loss": 1.0,
                "accuracy": 0.5,
                "val_loss": digest[0] / 100,
                "val_accuracy": digest[1] / 255,
                "seconds": 0.1,
            }
        )
        progress.save(state, model)
    return state


def judging():
    """Returns `Model.evaluate`, whose accuracy is any function of the weights.

    Within `fit`, which asks for a dictionary, it evaluates.
    """
    evaluate = keras.Model.evaluate

    @functools.wraps(evaluate)
    def judge(model, *arguments, return_dict=False, **options):
        if return_dict:
            return evaluate(model, *arguments, return_dict=True, **options)
        total = sum(float(np.sum(w)) for w in model.get_weights())
        return 1.0, abs(total) % 1

    return judge


def load_once():
    """Returns `data.load`, which loads the same named data once."""
    load, loaded = data.load, {}

    @functools.wraps(load)
    def loading(images, **options):
        if not isinstance(images, str):
            return load(images, **options)
        key = images, repr(options)
        if key not in loaded:
            loaded[key] = load(images, **options)
        return loaded[key]

    return loading


def without_training(patch):
    """Lets a search run through in less than a second."""
    from matplotlib.figure import Figure

    patch.setattr(training, "fit", pretend)
    patch.setattr(keras.Model, "evaluate", judging())
    patch.setattr(data, "load", load_once())
    patch.setattr(tuning_trial, "_forget", lambda: None)
    patch.setattr(plotting, "plot_search", lambda *_: Figure((1, 1)))
    patch.setattr(plotting, "plot_pareto", lambda *_: Figure((1, 1)))


class Killed(BaseException):
    """In place of a signal that ends the process."""


def kill_at(patch, count):
    """Ends whatever runs right before a file is replaced the nth time."""
    replacing, calls = _files.replacing, []

    @contextlib.contextmanager
    def counted(path):
        with replacing(path) as beside:
            yield beside
            calls.append(path)
            if len(calls) == count:
                raise Killed(path)

    patch.setattr(_files, "replacing", counted)


@contextlib.contextmanager
def warned(text):
    """Gives the warnings that hold a text, of which there must be one.

    `pytest.warns` would raise those of Keras that are ignored elsewhere.
    """
    found = []
    with warnings.catch_warnings(record=True) as reported:
        warnings.simplefilter("always")
        yield found
    found += [str(w.message) for w in reported if text in str(w.message)]
    assert found, [str(w.message) for w in reported]


def search(output, algorithm="random", recipe=TWO, **options):
    """Runs a short search over MLPs."""
    if algorithm != "hyperband":
        options.setdefault("max_trials", 6)
    options.setdefault("confirm", 0)
    return tuning.search(
        options.pop("hypermodel", mlp),
        "mnist5k",
        recipe,
        algorithm=algorithm,
        output=output,
        **options,
    )


def answer(results):
    """Returns what an interrupted search must come to as well."""
    return (
        [
            (
                trial.number,
                trial.values,
                trial.outcome,
                trial.val_accuracy,
                trial.val_loss,
                trial.best_epoch,
                trial.epochs,
                trial.parameters,
                trial.macs,
            )
            for trial in results.trials
        ],
        results.best.number,
        results.test_accuracy,
        results.confirmation,
        results.verdict,
        results.best_options,
        results.code,
    )


def checkpoints(output):
    """Returns the names of trials and the files of weights they have."""
    return {
        folder.name: sorted(
            path.name
            for path in Progress(folder / "checkpoints").folder.glob("*.keras")
        )
        for folder in sorted(output.glob("trial_*"))
    }


# Oracles, without any training.


def space(hp):
    hp.Float("rate", 1e-3, 1e-1, sampling="log", default=0.01)
    attention = hp.Choice("attention", ["none", "se", "cbam"])
    with hp.conditional_scope("attention", ["se", "cbam"]):
        hp.Choice("ratio", [4, 8, 16], default=16)
        hp.Boolean("stage1", default=True)
    return attention


def small_space(hp):
    hp.Choice("units", [2, 3, 4])
    hp.Boolean("bias", default=True)


TRIALS = {"random": 9, "bayesian": 6, "grid": 9, "hyperband": None}


def make_oracle(folder, name="random", fill=space, seed=3, keep=2, **options):
    from cbam_keras.tuning.oracle import DurableOracle

    options = {"max_trials": TRIALS[name], **options}
    algorithm = algorithms.make_algorithm(name, max_trials=None, epochs=9)
    folder.mkdir(exist_ok=True)
    oracle = DurableOracle(folder, algorithm, seed=seed, keep=keep, **options)
    fill(oracle.hyperparameters)
    return oracle


def accuracy_of(values):
    """Any function of the values will do."""
    return round(sum(map(len, map(str, values.values()))) % 17 / 17, 6)


def end(oracle, trial, outcome="finished", **reported):
    values = oracle.trials[trial.trial_id].hyperparameters.values
    content = {
        **dict.fromkeys(OUTCOME_KEYS),
        "outcome": outcome,
        "val_accuracy": accuracy_of(values),
        "val_loss": 1.0,
        "best_epoch": 1,
        "epochs": 1,
        "parameters": 100,
        "values": values,
        **reported,
    }
    if outcome != "finished":
        content |= {"val_accuracy": None, "message": "It went wrong."}
    path = oracle.trial_folder(trial.trial_id) / "outcome.json"
    path.write_text(json.dumps(content))
    oracle.end_trial(trial)


def run_trials(oracle, again=None):
    """Runs all trials, each step in a new oracle if `again` makes one."""
    handed = []
    while True:
        if again is not None:
            oracle = again()
        trial = oracle.create_trial("tuner0")
        if trial.status == "STOPPED":
            return handed
        assert trial.status == "RUNNING"
        handed.append((trial.trial_id, trial.hyperparameters.values))
        if again is not None:
            oracle = again()
        end(oracle, trial)
