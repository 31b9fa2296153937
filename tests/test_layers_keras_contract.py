"""Keras' own test of a layer, as it ships in the wheel."""

import pytest

from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
)

every_backend = pytest.mark.every_backend
testing = pytest.importorskip(
    "keras.src.testing", reason="this Keras wheel ships no layer test"
)


# Keras warns about how its own test hands the data to `fit`.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
@pytest.mark.slow
@pytest.mark.parametrize(
    "layer_class, options, shape, trainable, others",
    [
        pytest.param(
            *(ChannelAttention, {}, (2, 7, 5, 16), 4, 0), marks=every_backend
        ),
        (
            ChannelAttention,
            {
                "reduction_ratio": 4,
                "pool_types": ("lp", "lse"),
                "use_bias": False,
                "kernel_regularizer": "l2",
            },
            (2, 7, 16),
            2,
            0,
        ),
        (SqueezeExcite, {"hidden_units": 3}, (2, 7, 5, 16), 4, 0),
        (SpatialAttention, {}, (2, 7, 5, 16), 1, 0),
        (
            SpatialAttention,
            {"kernel_size": 3, "batch_norm": True, "use_bias": True},
            (2, 4, 3, 5, 8),
            4,
            2,
        ),
        (
            SpatialAttention,
            {"pool_types": "conv", "data_format": "channels_first"},
            (2, 16, 7, 5),
            2,
            0,
        ),
        (CBAM, {}, (2, 7, 5, 16), 5, 0),
        pytest.param(
            *(CBAM, VARIANTS["official"], (2, 7, 5, 16), 7, 2),
            marks=every_backend,
        ),
        (
            CBAM,
            {"reduction_ratio": 4, "kernel_size": 3, "order": "parallel"},
            (2, 7, 16),
            5,
            0,
        ),
        (CBAM, {"identity_init": True}, (2, 7, 5, 16), 5, 0),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_run_layer_test(layer_class, options, shape, trainable, others):
    testing.TestCase().run_layer_test(
        layer_class,
        init_kwargs=options,
        input_shape=shape,
        expected_output_shape=shape,
        expected_num_trainable_weights=trainable,
        expected_num_non_trainable_weights=others,
        expected_num_seed_generators=0,
        expected_num_losses=2 if "kernel_regularizer" in options else 0,
        supports_masking=True,
    )
