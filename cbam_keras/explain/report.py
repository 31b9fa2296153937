"""The output folder of `cbam-keras explain`: figures, arrays and results."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _files, _run_folder, plotting
from cbam_keras.explain.classes import class_probabilities
from cbam_keras.explain.explaining import (
    PREDICTED,
    explain_images,
    heat_maps,
)
from cbam_keras.explain.images import Examples
from cbam_keras.explain.models import class_names_beside, load_models
from cbam_keras.explain.results import ExplainResults
from cbam_keras.explain.settings import Settings

# Side of the images if neither the models nor the images have one size.
DEFAULT_SIDE = 224
# How many images are drawn with the attention of every layer.
ATTENTION_DRAWN = 4
TITLES = {
    "grad_cam": "Grad-CAM",
    "grad_cam++": "Grad-CAM++",
    "hires_cam": "HiResCAM",
}


def explain_files(
    models: Sequence[pathlib.Path],
    examples: Examples,
    settings: Settings,
    *,
    output: pathlib.Path,
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[np.ndarray], Any] | None = None,
    described: Mapping[str, Any],
    command: str | None = None,
) -> ExplainResults:
    """Explains the predictions of models in files, and writes the results.

    Args:
        models: The files of the models.
        examples: The images.
        settings: A `Settings`.
        output: The folder for all files.
        class_names: Sequence of strings, or `None` if not given.
        preprocess: Function of images in [0, 255], or `None`.
        described: Further settings to write to `explain.json`.
        command: String, the command to write there, or `None`.
    """
    # Before any work, although it is only needed in the end.
    _checks.require("matplotlib.figure", extra="plot")
    settings.check()
    loaded = load_models(
        models,
        settings.image_size,
        examples.size or (DEFAULT_SIDE, DEFAULT_SIDE),
        preprocess,
    )
    classes = _count_classes(loaded, examples, settings)
    class_names = _class_names(class_names, models, examples, classes)
    class_index = _class_index(settings.wanted, class_names, classes)
    folder = _files.output_folder(output)
    results = explain_images(
        loaded, examples, class_names, class_index, settings
    )
    _draw_grad_cam(folder, results, class_index, settings)
    for name in results.models:
        _draw_attention(folder, results, name)
    _write(folder, results, loaded, settings, described, command)
    return results


def explain_run(
    models: Sequence[pathlib.Path],
    examples: Examples,
    output: pathlib.Path,
    described: Mapping[str, Any],
) -> None:
    """Explains what the models of a run get wrong, for its report.

    Of the images, those are explained that most models get wrong, then
    others.

    Args:
        models: The files of the models.
        examples: The images, of which the true classes are known.
        output: The folder for `explain.json` and `arrays.npz`.
        described: Settings to write to `explain.json`.
    """
    settings = Settings()
    loaded = load_models(
        models, None, examples.size or (DEFAULT_SIDE, DEFAULT_SIDE), None
    )
    chosen = examples.take(
        _wrong_first(loaded, examples, settings)[: settings.draw]
    )
    results = explain_images(loaded, chosen, chosen.class_names, None, settings)
    _write(_files.output_folder(output), results, loaded, settings, described)


def _wrong_first(loaded, examples, settings):
    """Returns the numbers of the images, those that most get wrong first."""
    mistakes = np.zeros(len(examples), int)
    labels = examples.labels(None)
    for batch in examples.batches(settings.batch_size, loaded[0].size):
        own = slice(batch.start, batch.start + settings.batch_size)
        for one in loaded:
            probabilities = class_probabilities(
                one.model, one.prepare(batch.images(one.size))
            )
            mistakes[own] += probabilities.argmax(axis=1) != labels[own]
    return np.argsort(-mistakes, kind="stable")


def _write(folder, results, loaded, settings, described, command=None):
    """Writes the arrays, and everything else as JSON."""
    with _files.replacing(folder / "arrays.npz") as path:
        np.savez_compressed(path, **results.arrays())
    _files.write_json(
        folder / "explain.json",
        {
            "settings": {**described, **dataclasses.asdict(settings)},
            "versions": _run_folder.versions(),
            **({} if command is None else {"command": command}),
            "models": {one.name: str(one.path) for one in loaded},
            **results.as_json(),
        },
    )


def _count_classes(loaded, examples, settings):
    """Returns how many classes all models have, after a first image."""
    first = next(examples.batches(1, loaded[0].size))
    classes = {}
    for one in loaded:
        _check_head(one, settings.head)
        images = first.images(one.size)
        try:
            probabilities, *_ = heat_maps(
                one, images, np.array([PREDICTED]), settings
            )
        except (ValueError, TypeError) as error:
            if len(loaded) > 1:
                error.args = (f"{error} (model {one.path})",)
            raise
        classes[one.name] = probabilities.shape[1]
    if len(set(classes.values())) > 1:
        raise ValueError(
            "Models must have the same classes to be compared. Received: "
            + ", ".join(f'"{name}" with {n}' for name, n in classes.items())
        )
    count = next(iter(classes.values()))
    names = examples.class_names
    if names is not None and len(names) != count:
        raise ValueError(
            "Models must have the classes of the data. Received: models of "
            f"{count} classes, data of {len(names)}. Give other data, or the "
            "images as files"
        )
    return count


def _check_head(one, head):
    # Sequential models have no names for outputs.
    names = list(getattr(one.model, "output_names", ["output"]))
    if head in names or (head is None and len(names) == 1):
        return
    if not isinstance(head, int) or not 0 <= head < len(names):
        raise ValueError(
            f"`head` must be one of {', '.join(names)}, the outputs of the "
            f'model, or its index. Received: head={head!r}, model "{one.path}"'
        )


def _class_names(given, models, examples, classes):
    """Returns the class names from the best source, or `None`."""
    if given is not None:
        if len(given) != classes:
            raise ValueError(
                "`class_names` must be a file with one name per line for each "
                f"class. Received: {len(given)} names, models of {classes} "
                "classes"
            )
        return given
    if examples.class_names is not None:
        return examples.class_names
    written = class_names_beside(models, classes)
    if written is not None:
        return written
    # Folders are classes only if there is one for each class.
    return examples.folders if len(examples.folders) == classes > 1 else None


def _class_index(wanted, class_names, classes):
    """Returns the index of the class to explain, or `None` if not given."""
    if wanted is None:
        return None
    if class_names and wanted in class_names:
        return list(class_names).index(wanted)
    try:
        index = int(wanted)
    except ValueError:
        known = (
            _checks.did_you_mean(wanted, class_names, 3)
            or f". The classes are {_checks.first_few(class_names, 10)}"
            if class_names
            else ". Their names are not known: give --class-names FILE"
        )
        raise ValueError(
            "`class` must be the name of a class or an index below "
            f"{classes}. Received: class={wanted!r}{known}"
        ) from None
    if not 0 <= index < classes:
        raise ValueError(
            f"`class` must be the name of a class or an index from 0 to "
            f"{classes - 1}. Received: class={wanted!r}"
        )
    return index


def _draw_grad_cam(folder, results, class_index, settings):
    drawn = len(results.images)
    classes = None
    if class_index is not None:
        explained = f'"{results.class_name(class_index)}"'
    elif (results.labels >= 0).any():
        explained = "the true class"
    else:
        explained = "the predicted class"
        # Each model may explain another class.
        classes = {
            name: [results.class_name(i) for i in own["explained"][:drawn]]
            for name, own in results.models.items()
        }
    figure = plotting.plot_grad_cam(
        results.images,
        {name: own["heat_maps"] for name, own in results.models.items()},
        probabilities={
            name: own["probability"][:drawn]
            for name, own in results.models.items()
        },
        classes=classes,
        labels=results.captions(),
        boxes=None if results.boxes is None else results.boxes[:drawn],
        title=f"{TITLES[settings.method]} of {explained}",
    )
    _save(figure, folder / "grad_cam.png")


def _draw_attention(folder, results, name):
    maps = results.attention_maps(name, ATTENTION_DRAWN)
    if not maps:
        return
    figure = plotting.plot_attention_maps(
        results.images[:ATTENTION_DRAWN],
        maps,
        labels=results.captions()[:ATTENTION_DRAWN],
        title=f"Attention of {name}",
    )
    _save(figure, folder / f"attention-{name.replace('/', '-')}.png")


def _save(figure, file):
    with _files.replacing(file) as path:
        figure.savefig(path, dpi=150)
