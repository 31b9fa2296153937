"""A small network and detector, for the tests of detection."""

import keras

from cbam_keras import models


def network(attention="cbam", size=64, widths=(8, 16, 32), **options):
    """Returns a network of levels P2 to P4."""
    return models.ResNet(
        (1,) * len(widths),
        block="basic",
        widths=widths,
        stem_width=8,
        include_top=False,
        input_shape=(size, size, 3),
        attention=attention,
        name="small",
        **options,
    )


def detector(backbone, classes=2):
    """Returns KerasHub's smallest detector on a backbone."""
    import keras_hub

    return keras_hub.models.RetinaNetObjectDetector(
        keras_hub.models.RetinaNetBackbone(
            backbone,
            min_level=3,
            max_level=4,
            use_p5=False,
            image_shape=backbone.image_shape,
        ),
        num_classes=classes,
        bounding_box_format="xyxy",
        pre_logits_num_conv_layers=0,
        preprocessor=None,
    )


def randomize(model, seed=0):
    """Gives each weight a random value, so that nothing is hidden by zeros."""
    generator = keras.random.SeedGenerator(seed)
    for variable in model.trainable_variables:
        variable.assign_add(
            0.05 * keras.random.normal(variable.shape, seed=generator)
        )


def tiny_backbone(**options):
    """Builds a network in place of `"small"`."""
    return models.ResNet(
        (1, 1, 1), block="basic", widths=(4, 8, 16), stem_width=4, **options
    )
