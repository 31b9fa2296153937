"""Small searches that do not train, for the tests of tuning."""

import contextlib
import itertools
import re
import warnings

import keras
import pretended
from networks import mlp as network
from own_spaces import as_space

from cbam_keras import tuning
from cbam_keras.study.programs.training import Recipe

# 70 training images: two steps per epoch.
ONE = Recipe(epochs=1, batch_size=35)
TWO = Recipe(epochs=2, batch_size=35)


def mlp(hp):
    """Returns a network of a space with a condition."""
    units = hp.Choice("units", [2, 3, 4, 5])
    activation = hp.Choice("activation", ["tanh", "relu"])
    with hp.conditional_scope("activation", ["relu"]):
        bias = hp.Boolean("bias", default=True)
    hp.Choice("learning_rate", [0.001, 0.003, 0.01, 0.03, 0.1], default=0.01)
    return network(units, activation=activation, use_bias=bias is not False)


def score(patch, accuracy, loss=None):
    """Lets accuracy and loss be functions of a network, from now on.

    Test accuracies are a tenth of a percent lower, to tell them apart.
    """

    def numbers(model, *key):
        lower = 0.001 if "test" in key else 0.0
        return (loss(model) if loss else 1.0), accuracy(model) - lower

    patch.setattr(pretended, "numbers", numbers)


def before_fit(patch, action):
    """Calls a function of model and options before each training."""
    fit = keras.Model.fit

    def fitting(model, *arguments, **options):
        action(model, options)
        return fit(model, *arguments, **options)

    patch.setattr(keras.Model, "fit", fitting)


def fail(patch, is_failing, error=ZeroDivisionError):
    """Lets trainings fail, from now on, by their number from 1."""
    numbers = itertools.count(1)

    def raise_if_failing(*_):
        if is_failing(next(numbers)):
            raise error("stop")

    before_fit(patch, raise_if_failing)


@contextlib.contextmanager
def warned(pattern):
    """Gives the warnings that match, of which there must be one.

    `pytest.warns` would raise those of Keras that are ignored elsewhere.
    """
    found = []
    with warnings.catch_warnings(record=True) as reported:
        warnings.simplefilter("always")
        yield found
    texts = [
        str(w.message) for w in reported if issubclass(w.category, UserWarning)
    ]
    found += [text for text in texts if re.search(pattern, text)]
    assert found, texts


def search(output, recipe=ONE, hypermodel=mlp, **options):
    """Runs a short search over MLPs."""
    options = {"max_trials": 6, "confirm": 0, **options}
    return tuning.search(
        as_space(hypermodel), "mnist5k", recipe, output=output, **options
    )
