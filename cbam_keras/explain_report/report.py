"""The work of `cbam-keras explain`: from models and images to files."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import (
    _checks,
    _files,
    _progress_bar,
    _run_folder,
    explain,
    plotting,
)
from cbam_keras.explain_report.findings import Findings
from cbam_keras.explain_report.images import Examples, grey, heat_in
from cbam_keras.explain_report.models import load, names_beside

# Of images of different sizes, as in data sets.
SIDE = 224
# Of so many images the attention of every layer is drawn.
ATTENTION_DRAWN = 4
PREDICTED = np.array([-1])
TITLES = {
    "grad_cam": "Grad-CAM",
    "grad_cam++": "Grad-CAM++",
    "hires_cam": "HiResCAM",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How images are explained; see `cbam-keras explain --help`."""

    wanted: str | None = None
    layer: str | None = None
    method: str = "grad_cam"
    head: int | str | None = None
    image_size: int | None = None
    draw: int = 8
    batch_size: int = 32


def explain_files(
    models: Sequence[pathlib.Path],
    examples: Examples,
    settings: Settings,
    *,
    output: pathlib.Path,
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[np.ndarray], Any] | None = None,
    described: Mapping[str, Any],
) -> Findings:
    """Explains images to models side by side, and writes what came of it.

    Args:
        models: The files of models.
        examples: The images.
        settings: A `Settings`.
        output: The folder for all files.
        class_names: Sequence of strings, or `None` where not given.
        preprocess: Function of images in [0, 255], or `None`.
        described: What else `explain.json` tells of how it was called.
    """
    # Before any work: what is only needed in the end.
    _checks.require("matplotlib.figure", extra="plot")
    _checks.positive_integer("batch_size", settings.batch_size)
    most = plotting.MAX_ROWS
    if _checks.positive_integer("draw", settings.draw) > most:
        raise ValueError(
            f"`draw` must be at most {most}, for a figure that can be "
            f"looked at. Received: draw={settings.draw}"
        )
    side = settings.image_size
    if side is not None:
        side = _checks.positive_integer("image_size", side)
    classifiers = load(models, side, examples.size or (SIDE, SIDE), preprocess)
    classes = _tried(classifiers, examples, settings)
    class_names = _class_names(class_names, models, examples, classes)
    asked = _class_asked(settings.wanted, class_names, classes)
    folder = _files.output_folder(output)
    findings = _found(classifiers, examples, class_names, asked, settings)
    _draw(folder, findings, asked, settings)
    _write(
        folder,
        findings,
        {
            "settings": {**described, **dataclasses.asdict(settings)},
            "versions": _run_folder.versions(),
            "models": {one.name: str(one.path) for one in classifiers},
        },
    )
    return findings


def _tried(classifiers, examples, settings):
    """Returns how many classes there are, after a first image."""
    first = next(examples.batches(1, classifiers[0].size))
    classes = {}
    for one in classifiers:
        _check_head(one, settings.head)
        images = first.images(one.size)
        try:
            probabilities, *_ = _explained(one, images, PREDICTED, settings)
        except (ValueError, TypeError) as error:
            if len(classifiers) > 1:
                error.args = (f"{error} (model {one.path})",)
            raise
        classes[one.name] = probabilities.shape[1]
    if len(set(classes.values())) > 1:
        raise ValueError(
            "Models must have the same classes to be compared. Received: "
            + ", ".join(f'"{name}" with {n}' for name, n in classes.items())
        )
    own = examples.class_names
    count = next(iter(classes.values()))
    if own is not None and len(own) != count:
        raise ValueError(
            "Models must have the classes of the data. Received: models of "
            f"{count} classes, data of {len(own)}. Give other data, or the "
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


def _explained(one, images, wanted, settings):
    """Returns probabilities, heat maps and the classes that these explain.

    `wanted` are the classes, -1 for the one that is predicted.
    """
    given = one.prepared(images)
    common = {"output": settings.head, "batch_size": settings.batch_size}
    probabilities = explain.class_probabilities(one.model, given, **common)
    explained = np.where(wanted < 0, probabilities.argmax(axis=1), wanted)
    heat = explain.grad_cam(
        one.model,
        given,
        explained,
        settings.layer,
        method=settings.method,
        **common,
    )
    return probabilities, heat, explained


def _class_names(given, models, examples, classes):
    """Returns the names of classes that are known best, or `None`."""
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
    written = names_beside(models, classes)
    if written is not None:
        return written
    # Of folders that are not one per class, nothing can be told.
    return examples.folders if len(examples.folders) == classes > 1 else None


def _class_asked(asked, class_names, classes):
    """Returns the index of the class that is asked for, or `None`."""
    if asked is None:
        return None
    if class_names and asked in class_names:
        return list(class_names).index(asked)
    try:
        index = int(asked)
    except ValueError:
        known = (
            _checks.did_you_mean(asked, class_names, 3)
            or f". The classes are {_checks.first_few(class_names, 10)}"
            if class_names
            else ". Their names are not known: give --class-names FILE"
        )
        raise ValueError(
            "`class` must be the name of a class or an index below "
            f"{classes}. Received: class={asked!r}{known}"
        ) from None
    if not 0 <= index < classes:
        raise ValueError(
            f"`class` must be the name of a class or an index from 0 to "
            f"{classes - 1}. Received: class={asked!r}"
        )
    return index


def _found(classifiers, examples, class_names, asked, settings):
    """Returns what the models look at."""
    labels = examples.labels(class_names)
    wanted = labels if asked is None else np.full_like(labels, asked)
    batches = -(-len(examples) // settings.batch_size)
    parts = collections.defaultdict(list)
    for name, part in _progress_bar.watched(
        _parts(classifiers, examples, wanted, settings),
        batches * (1 + len(classifiers)),
        "Explaining",
    ):
        parts[name].append(part)
    joined = {
        name: {
            key: np.concatenate([part[key] for part in own if key in part])
            for key in own[0]
        }
        for name, own in parts.items()
    }
    shown = joined.pop(None)
    return Findings(
        names=examples.names,
        class_names=class_names,
        labels=labels,
        boxes=shown.get("boxes"),
        images=shown["images"],
        models=joined,
    )


def _parts(classifiers, examples, wanted, settings):
    """Yields a name and arrays: of each batch itself (no name), and of what
    each model makes of it."""
    first = classifiers[0]
    for batch in examples.batches(settings.batch_size, first.size):
        left = max(0, settings.draw - batch.numbers.start)
        images = batch.images(first.size)[:left]
        own = {"images": grey(images) if first.grey else images}
        boxes = batch.boxes(first.size)
        if boxes is not None:
            own["boxes"] = boxes
        yield None, own
        for one in classifiers:
            images = batch.images(one.size)
            probabilities, heat, explained = _explained(
                one, images, wanted[batch.numbers], settings
            )
            found = _classes(probabilities, explained)
            if boxes is not None:
                found["hit"], found["energy"] = explain.pointing_game(
                    heat, batch.boxes(one.size)
                )
            found["heat_maps"] = heat_in(heat[:left], first.size)
            found["probabilities"] = probabilities[:left]
            if left and one.attends:
                found.update(_attention(one, images[:left], settings))
            yield one.name, found


def _classes(probabilities, explained):
    rows = np.arange(len(explained))
    predicted = probabilities.argmax(axis=1)
    return {
        "explained": explained,
        "probability": probabilities[rows, explained],
        "predicted": predicted,
        "predicted_probability": probabilities[rows, predicted],
    }


def _attention(one, images, settings):
    maps = explain.attention_maps(
        one.model, one.prepared(images), batch_size=settings.batch_size
    )
    return {
        f"attention/{layer}/{kind}": array
        for layer, own in maps.items()
        for kind, array in zip(("channel", "spatial"), own, strict=True)
        if array is not None
    }


def _draw(folder, findings, asked, settings):
    drawn = len(findings.images)
    explained = "the predicted class"
    if asked is not None:
        explained = f'"{findings.class_name(asked)}"'
    elif (findings.labels >= 0).any():
        explained = "the true class"
    figure = plotting.plot_grad_cam(
        findings.images,
        {name: own["heat_maps"] for name, own in findings.models.items()},
        probabilities={
            name: own["probability"][:drawn]
            for name, own in findings.models.items()
        },
        # Where each model explains a class of its own.
        classes=None
        if explained != "the predicted class"
        else {
            name: [findings.class_name(i) for i in own["explained"][:drawn]]
            for name, own in findings.models.items()
        },
        labels=findings.captions(),
        boxes=None if findings.boxes is None else findings.boxes[:drawn],
        title=f"{TITLES[settings.method]} of {explained}",
    )
    _save(figure, folder / "grad_cam.png")
    for name in findings.models:
        maps = findings.attention(name, ATTENTION_DRAWN)
        if maps:
            figure = plotting.plot_attention_maps(
                findings.images[:ATTENTION_DRAWN],
                maps,
                labels=findings.captions()[:ATTENTION_DRAWN],
                title=f"Attention of {name}",
            )
            _save(figure, folder / f"attention-{name.replace('/', '-')}.png")


def _save(figure, file):
    with _files.replacing(file) as path:
        figure.savefig(path, dpi=150)


def _write(folder, findings, described):
    with _files.replacing(folder / "arrays.npz") as path:
        np.savez_compressed(path, **findings.arrays())
    _files.write_json(
        folder / "explain.json", {**described, **findings.as_json()}
    )
