"""Spaces of functions, for tests of what a search does with any space."""

from cbam_keras import tuning


class Space(tuning.CBAMHyperModel):
    """A space of a function that takes hyperparameters and returns a model."""

    def __init__(self, ask):
        super().__init__()
        self.ask = self.model = ask

    def network(self, hp, images=None, recipe=None):
        return self.ask(hp)

    def declare_hyperparameters(self, hp):
        self.ask(hp)

    def attention_for(self, hp):
        return None

    def complete(self, values):
        return values


def as_space(hypermodel):
    """Returns a hypermodel; a function is one of its own."""
    is_ours = isinstance(hypermodel, tuning.CBAMHyperModel)
    return hypermodel if is_ours or hypermodel is None else Space(hypermodel)
