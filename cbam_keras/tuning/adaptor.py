"""Users' hypermodels and functions, with what a search asks of ours."""

import contextlib
import functools
from typing import Any

import keras
from keras_tuner import HyperModel, HyperParameters

from cbam_keras import study
from cbam_keras.data import ImageData
from cbam_keras.study import Recipe
from cbam_keras.study.plans.recipes import as_field
from cbam_keras.tuning.hypermodel import CBAMHyperModel
from cbam_keras.tuning.space import TRAINING, Values, hyperparameters, point

# A search knows its space before it trains, trains each trial for the epochs
# of the recipe and resumes after any of them. None of this holds for a `fit`
# that users write.
OWN_FIT = """\
`hypermodel` must not have a `fit` of its own, which a search could neither \
resume nor give the same epochs. Received: a `{name}` with a `fit`. To search \
over the batch size, ask for hp.Choice("batch_size", [32, 64]) in `build`. \
For any other `fit`, keep KerasTuner's tuner, and take our attention into it:

    space = tuning.CBAMHyperModel()
    class Mine({name}):
        def build(self, hp):
            return my_network(space.attention_for(hp))  # compiled
    tuner = keras_tuner.RandomSearch(Mine(), "val_accuracy", max_trials=14)
"""


class Adaptor:
    """What a search asks of a `CBAMHyperModel`, of what users give."""

    def __init__(self, hypermodel: Any):
        self.ask = getattr(hypermodel, "build", hypermodel)
        # A subclass of ours has them.
        self.model = getattr(hypermodel, "model", hypermodel)
        self.weights = getattr(hypermodel, "weights", None)
        self.identity_init = getattr(hypermodel, "identity_init", None)

    def network(
        self, hp: HyperParameters, images: ImageData, recipe: Recipe
    ) -> keras.Model:
        """Returns the network of these hyperparameters."""
        return self.ask(hp)

    def declare_hyperparameters(self, hp: HyperParameters) -> None:
        """Registers what the network of these hyperparameters asks for."""
        self.ask(hp)

    def attention_for(self, hp: HyperParameters) -> None:
        """Returns nothing: it is not known."""

    def complete(self, values: Values) -> Values:
        """Returns values with those that are not searched: users' have none."""
        return values

    def rate_and_batch_size(self, values: Values) -> tuple[Any, Any]:
        """Returns those of a trial, where its values say them."""
        return values.get("learning_rate"), values.get("batch_size")


def adapt(hypermodel: Any) -> Adaptor | CBAMHyperModel:
    """Returns a hypermodel or function with the methods of ours, checked."""
    if isinstance(hypermodel, HyperModel):
        kind = type(hypermodel)
        if kind.fit is not HyperModel.fit:
            raise TypeError(OWN_FIT.format(name=kind.__name__))
        # A subclass with a `build` of its own is the user's.
        is_ours = kind.build is CBAMHyperModel.build
        return hypermodel if is_ours else Adaptor(hypermodel)
    if not callable(hypermodel) or isinstance(hypermodel, (type, keras.Model)):
        raise TypeError(
            "`hypermodel` must be a CBAMHyperModel, a keras_tuner.HyperModel, "
            "or a function that takes HyperParameters and returns a model. "
            f"Received: hypermodel={hypermodel!r}"
        )
    return Adaptor(hypermodel)


def explore(
    adapted: Adaptor | CBAMHyperModel,
    images: ImageData,
    recipe: Recipe,
    task: study.Task,
) -> tuple[HyperParameters, str]:
    """Returns the whole space, and the fingerprint of a network.

    The network is that of the default values.
    """
    space = hyperparameters({})
    make = functools.partial(adapted.network, images=images, recipe=recipe)
    network = study.build_seeded(functools.partial(make, space), recipe)
    task.check(network, images)
    fingerprint = study.fingerprint(network)
    # What networks ask for under a condition is found by changing one value at
    # a time. The list grows.
    for hp in space.space:
        met = {parent.name: parent.values[0] for parent in hp.conditions}
        # A range has no list of values; its end is tried.
        is_range = hasattr(hp, "max_value")
        field = hp.name not in TRAINING and as_field(hp.name, hp.default)
        described = []
        for value in [hp.default, hp.max_value] if is_range else hp.values:
            probe = point(space, **{**met, hp.name: value})
            # A trial with these values records the error.
            with contextlib.suppress(Exception):
                adapted.declare_hyperparameters(probe)
                if field:
                    build = functools.partial(make, probe)
                    network = study.build_seeded(build, recipe)
                    compiled = str(network.get_compile_config())
                    described.append((study.fingerprint(network), compiled))
            space.merge(probe.space, overwrite=False)
        if len(described) > len({*described}) == 1:
            raise ValueError(
                f'`hypermodel` must use its "{hp.name}", or leave it to '
                f"{field}. Received: one network for all its values"
            )
    return space, fingerprint
