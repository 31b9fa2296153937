"""Spaces of functions, for tests of what a search does with any space."""

import itertools

import keras_tuner

from cbam_keras import tuning


class Space(tuning.CBAMHyperModel):
    """A space of a function that takes hyperparameters and returns a model."""

    def __init__(self, ask):
        super().__init__()
        self.ask = self.model = ask
        self.model_name = ask.__name__

    def network(self, values, images=None, recipe=None):
        hp = keras_tuner.HyperParameters()
        hp.values = dict(values)
        return self.ask(hp)

    def points(self):
        hp, found = keras_tuner.HyperParameters(), []
        self.ask(hp)
        names = [own.name for own in hp.space]
        for each in itertools.product(
            *([x.default, *x.values] for x in hp.space)
        ):
            hp.values = dict(zip(names, each, strict=True))
            active = [own.name for own in hp.space if hp.is_active(own)]
            values = {name: hp.values[name] for name in active}
            if values not in found:
                found.append(values)
        return found

    def attention_of(self, values):
        return None


def as_space(hypermodel):
    """Returns a hypermodel; a function is one of its own."""
    is_ours = isinstance(hypermodel, tuning.CBAMHyperModel)
    return hypermodel if is_ours or hypermodel is None else Space(hypermodel)
