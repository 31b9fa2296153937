"""What networks predict for masks, drawn for the report of a run."""

import pathlib
import warnings

import numpy as np

from cbam_keras import _checks, _files, data, study
from cbam_keras.data.masks import BINARY
from cbam_keras.explain import find_finer_layer, grad_cam, heat_in_region
from cbam_keras.explain.figures import plot_masks
from cbam_keras.report.explanations import mean_of_regions, shorten
from cbam_keras.report.networks import Run

# The figure of predictions, and of how many networks and images.
PREDICTIONS = "predictions.png"
# What networks look at, against the masks.
HEAT = "heat.json"
MAX_NETWORKS, IMAGES = 3, 6
# Heat is measured on so many images, chosen like those that are drawn.
HEATED = 16
# Images per step of a prediction.
BATCH = 8


def draw_predictions(run: Run, count: int = IMAGES) -> pathlib.Path:
    """Draws test images of a run with their masks and predictions.

    They are chosen at even steps from the one with most wrong pixels to the
    one with fewest. Returns the folder of the figures.
    """
    shape = run.images["image_shape"]
    channels_first = shape[0] in (1, 3) and shape[-1] not in (1, 3)
    size = tuple(shape[1:] if channels_first else shape[:2])
    dataset = run.split()
    files_of_test = dataset.splits["test"].images
    examples = data.read_all(
        dataset.splits["test"], size, dataset.channels, "Preparing test"
    )
    images, masks = examples.images, np.asarray(examples.masks)
    models = {
        path.stem: _files.load_model(path) for path in run.files[:MAX_NETWORKS]
    }
    predictions = {
        name: _predict(model, images, channels_first)
        for name, model in models.items()
    }
    ignore_index = run.content["source"]["masks"]["ignore_index"]
    is_known = masks != ignore_index
    wrong = [
        ((x != masks) & is_known).mean(axis=(1, 2))
        for x in predictions.values()
    ]
    order = np.argsort(-np.sum(wrong, axis=0), kind="stable")
    rows = _at_even_steps(order, count)
    folder = _files.output_folder(run.folder / study.EXPLANATIONS)
    figure = plot_masks(
        images[rows],
        masks[rows],
        {name: x[rows] for name, x in predictions.items()},
        dataset.class_names,
        ignore_index=ignore_index,
        labels=[shorten(str(files_of_test[row])) for row in rows],
    )
    with _files.locked(folder / _files.LOCK):
        _files.write_figure(folder / PREDICTIONS, figure)
    # The background is no object.
    left_out = [ignore_index] + [0] * (dataset.class_names[0] == BINARY[0])
    heated = _at_even_steps(order, HEATED)
    inputs = _as_inputs(images[heated], channels_first)
    summary = {
        name: _measure_heat(name, model, inputs, masks[heated], left_out)
        for name, model in models.items()
    }
    _files.write_json(folder / HEAT, {"summary": summary})
    return folder


def _at_even_steps(rows, count):
    places = np.linspace(0, len(rows) - 1, min(count, len(rows)))
    return rows[places.round().astype(int)]


def _as_inputs(images, channels_first):
    images = images.astype("float32")
    return np.moveaxis(images, -1, 1) if channels_first else images


def _measure_heat(name, model, images, masks, left_out):
    """Returns how heat of each class in an image agrees with its mask."""
    present = [(row, x) for row, y in enumerate(masks) for x in np.unique(y)]
    pairs = [x for x in present if x[1] not in left_out]
    if not pairs:
        return {}
    rows, classes = np.transpose(pairs)
    shown = images[rows], classes.tolist()
    try:
        with warnings.catch_warnings():
            # The layer that the warning names is explained.
            warnings.simplefilter("ignore")
            layer = find_finer_layer(model, images[:1])
            heat = grad_cam(model, *shown, layer, batch_size=BATCH)
    except ValueError as error:
        # A network of the user may be one that cannot be explained.
        _checks.warn(f"The report has no heat of {name}: {error}")
        return {}
    return mean_of_regions(
        heat_in_region(heat, masks[rows] == classes[:, None, None])
    )


def _predict(model, images, channels_first):
    """Returns the class of each pixel of images `(N, H, W, C)`."""
    predict, parts = study.make_predictor(model), []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        parts.append(predict(_as_inputs(batch, channels_first)))
    return np.concatenate(parts)
