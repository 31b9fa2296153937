"""Models and tensors of `tf_keras`, which is Keras 2, are told from others."""

from functools import partial

import pytest
from test_models_unet import encoder

from cbam_keras import (
    CBAM,
    SimAM,
    comparison,
    explain,
    freeze_batch_norm,
    insert_attention,
    insertion,
    load_torch_weights,
    models,
    profile_model,
    remove_attention,
    training,
)

MESSAGE = "object of tf_keras, which is Keras 2. Unset TF_USE_LEGACY_KERAS"


class Functional:
    """Stands for a model of `tf_keras`, which need not be installed."""

    __module__ = "tf_keras.src.engine.functional"

    def call(self, inputs):
        """Is called by `__call__`, as in Keras."""

    __call__ = call


class Subclassed(Functional):
    __module__ = "__main__"


class KerasTensor:
    """Stands for a symbolic tensor of `tf_keras`."""

    __module__ = "tf_keras.src.engine.keras_tensor"
    shape = (None, 7, 5, 16)


@pytest.mark.parametrize(
    "function",
    [
        insert_attention,
        remove_attention,
        freeze_batch_norm,
        profile_model,
        insertion.adopt,
        insertion.to_core,
        partial(explain.attention_maps, images=None),
        partial(explain.grad_cam, images=None),
        partial(explain.class_probabilities, images=None),
        models.pyramid,
        partial(models.UNet, classes=2),
        partial(load_torch_weights, source={}),
        training.train,
        lambda model: comparison.plan(model=model),
        lambda model: insert_attention(encoder(), lambda name: model),
    ],
)
@pytest.mark.parametrize("kind", [Functional, Subclassed])
def test_a_model_of_tf_keras_is_named(function, kind):
    with pytest.raises(TypeError, match=MESSAGE):
        function(kind())


@pytest.mark.parametrize(
    "function",
    # Keras hands such a tensor to `call` as it is, under TensorFlow.
    [CBAM().call, SimAM().call, lambda x: models.ResNet18(input_tensor=x)],
)
def test_a_tensor_of_tf_keras_is_named(function):
    with pytest.raises(TypeError, match=MESSAGE):
        function(KerasTensor())
