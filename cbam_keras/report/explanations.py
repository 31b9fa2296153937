"""Where networks look, and what they predict: drawn and written."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from cbam_keras import _checks, _files, _terminal, data, study
from cbam_keras._files import Json
from cbam_keras.explain import (
    TITLES,
    attention_maps,
    class_probabilities,
    find_finer_layer,
    gate_importance,
    grad_cam,
    pointing_game,
)
from cbam_keras.explain.figures import (
    MAX_ROWS,
    plot_attention_maps,
    plot_gate_importance,
    plot_grad_cam,
)
from cbam_keras.layers import MAPS
from cbam_keras.report.images import RunData, from_data, from_paths
from cbam_keras.report.networks import (
    ENDINGS,
    find_class_names,
    find_networks,
    find_scale,
    is_run,
    load_networks,
)

# How many images are drawn with the attention of every layer.
ATTENTION_DRAWN = 4
# The report weighs gates by at most so many validation images.
GATE_IMAGES = 500
# The split of a dataset that is explained, if none is asked for.
SPLIT = "test"
# These numbers of each image and network are written where they are known.
NUMBERS = "probability", "predicted_probability", "hit", "energy"
MEANS = {
    "accuracy": "accuracy (%)",
    "hit_rate": "maximum in the box (%)",
    "energy": "heat in the box (%)",
}
# Marks a prediction that is wrong.
WRONG = " \N{MULTIPLICATION SIGN}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of `cbam-keras explain`, see its `--help`."""

    wanted: str | None = None
    flips: tuple[str, str] | None = None
    layer: str | None = None
    method: str = "grad_cam"
    image_size: int | tuple[int, int] | None = None
    draw: int = 8
    batch_size: int = 32
    data: str | None = None
    split: str | None = None
    count: int | None = 8
    seed: int | None = None

    def __post_init__(self) -> None:
        _checks.image_size("image_size", self.image_size)
        for name in ("batch_size", "draw", "count"):
            if getattr(self, name) is not None:
                _checks.positive_integer(name, getattr(self, name))
        if self.seed is not None:
            _checks.seed("seed", self.seed)
        if self.draw > MAX_ROWS:
            raise ValueError(
                f"`draw` must be at most {MAX_ROWS}, or the figure "
                f"cannot be read. Received: draw={self.draw}"
            )


def explain_files(
    paths: Sequence[pathlib.Path],
    settings: Settings,
    *,
    output: str | pathlib.Path | None,
    data_options: Mapping[str, object],
    described: Mapping[str, object],
    command: str,
    mistakes: bool = False,
) -> tuple[str, pathlib.Path]:
    """Explains predictions, and writes and draws them into a folder.

    `paths` are networks, output folders of runs, and images or a folder of
    them; `described` are further settings to write. With `mistakes`, only as
    many images are explained as are drawn: those that most networks get wrong.
    Returns tables, and the folder.
    """
    # It is only needed at the end, but checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    files, image_paths, run = _sort_paths(paths, settings)
    if output is None:
        first = next(path for path in paths if path not in image_paths)
        output = pathlib.Path("runs") / f"explain-{first.absolute().stem}"
    output = _free_folder(output)
    changes: dict[int, str] = {}
    if flips := settings.flips:
        changes, ending = _find_flips(paths, settings), f"-seed{run.seed}"
        run = dataclasses.replace(run, rows=np.array([*changes]))
        files = [x for x in files if x.stem.removesuffix(ending) in flips]
        if not files:
            raise ValueError(
                "`flips` must name networks that were trained with seed "
                f"{run.seed}, the first of the run. Received: flips={flips}"
            )
    images = _find_images(image_paths, run, settings, data_options)
    if scale := find_scale(files):
        # The networks see images as they did in training.
        examples = dataclasses.replace(images.examples, scale=scale)
        images = dataclasses.replace(images, examples=examples)
    elif images.examples.scale:
        _checks.warn(
            "It is not known how the images of training were scaled, and "
            f"these are scaled by their own range: {images.examples.scale.note}"
        )
    default_size = images.dataset.shape or (data.SIDE, data.SIDE)
    classes = find_class_names(files, 2) or images.dataset.class_names
    networks = load_networks(
        files, settings.image_size, default_size, len(classes) == 2
    )
    probabilities = {
        x.name: _predict(x, images, settings.batch_size) for x in networks
    }
    counts = {name: x.shape[1] for name, x in probabilities.items()}
    if images.is_split:
        counts["the data"] = len(images.dataset.class_names)
    count, *others = {*counts.values()}
    if others:
        raise ValueError(
            "Models and data must have the same number of classes. Received: "
            f"{counts}"
        )
    names = find_class_names(files, count)
    class_names, labels = images.label_by(names, count)
    index = _find_class_index(settings.wanted, class_names, count)
    if mistakes:
        wrong = sum(x.argmax(axis=1) != labels for x in probabilities.values())
        rows = np.argsort(-wrong, kind="stable")[: settings.draw]
        probabilities = {name: x[rows] for name, x in probabilities.items()}
        images, labels = images.take(rows), labels[rows]
    explained = {
        x.name: _explain(
            x, images, probabilities[x.name], labels, index, settings
        )
        for x in networks
    }
    size = networks[0].size
    boxes = images.boxes_in_view(size, size)
    content = {
        "settings": {
            **dataclasses.asdict(settings),
            "data": run.source and run.source.data,
            "split": run.source and (settings.split or SPLIT),
            "count": len(images),
            "seed": run.seed,
            **described,
        },
        "versions": study.versions(),
        "command": command,
        "class_names": list(class_names) if class_names else None,
        "models": {x.name: str(x.path) for x in networks},
        "finer_layers": {x: y.pop("finer_layer") for x, y in explained.items()},
        "summary": {name: _average(x, labels) for name, x in explained.items()},
        "images": _describe_images(
            images.names, labels, explained, class_names
        ),
    }
    for row, change in zip(content["images"], changes.values(), strict=False):
        row["change"] = change
    gates = None
    if mistakes and (gates := _weigh_gates(networks, names, data_options)):
        content["gates"] = dataclasses.asdict(gates.table)
    drawn = images.take(slice(settings.draw))
    arrays = {"names": images.names, "labels": labels}
    arrays["images"] = networks[0].view(drawn)
    if boxes is not None:
        arrays["boxes"] = boxes
        for row, box in zip(content["images"], boxes.tolist(), strict=True):
            row["box"] = box
        low, high = np.hsplit(boxes, 2)
        areas = (high - low).prod(axis=1)
        content["box_fraction"] = float(areas.mean() / np.prod(size))
    attention = {
        x.name: attention_maps(
            x.model, x.view(drawn), batch_size=settings.batch_size
        )
        for x in networks
        if x.has_attention
    }
    folder = _files.output_folder(output)
    with _files.locked(folder / _files.LOCK):
        _write(folder, content, arrays, explained, attention, len(drawn))
        if gates:
            figure = plot_gate_importance(gates, measure="probability")
            _files.write_figure(folder / "gates.png", figure)
    return _make_tables(content, settings.draw), folder


def _free_folder(output):
    """Returns the path of a folder that is empty or that of an explanation."""
    folder = _files.folder_path(output)
    if is_run(folder):
        # The run keeps its files apart from those of explanations.
        folder /= study.EXPLANATIONS
    if not folder.exists():
        # It is made once all else is right.
        return folder
    _files.output_folder(folder)
    names = {path.name for path in folder.iterdir()}
    others = sorted(name for name in names if not name.startswith("."))
    # A process that is killed leaves its lock, and the others behind.
    if others and names.isdisjoint((_files.EXPLAINED, _files.LOCK)):
        raise ValueError(
            "`output` must be a new or empty folder, or that of a run or an "
            f'explanation. Received: output="{folder}", which holds other '
            f"files: {_checks.first_few(others)}. Choose another folder"
        )
    return folder


def _sort_paths(paths, settings):
    """Returns the networks and images among paths, and the data to explain."""
    networks, images, runs = [], [], []
    for path in paths:
        if not os.path.exists(path):
            raise ValueError(
                "Models, images and folders must exist. Received: "
                f'"{path}", which does not'
            )
        if is_run(path):
            files, run = find_networks(path)
            networks += files
            runs.append(run)
        elif path.suffix.lower() in ENDINGS:
            networks.append(path)
        else:
            images.append(path)
    if not networks:
        raise ValueError(
            "There must be at least one model, a file that ends in .keras or "
            ".h5, or the output folder of a run. Received: "
            f"{_checks.first_few(images) or 'none'}"
        )
    if images or settings.data is not None:
        seed = runs[0].seed if runs else 0
        source = None if settings.data is None else data.Source(settings.data)
        runs = [RunData(source, seed)]
    names = {run.source.data for run in runs if run.source is not None}
    if len(names) + bool(images) != 1:
        raise ValueError(
            "There must be images to explain, from one place: files, a "
            "folder, or --data NAME, e.g. --data cluttered_mnist. Received: "
            f"files {_checks.first_few(images) or 'none'}, data {names or ''}"
        )
    run = runs[0]
    if settings.seed is not None:
        run = dataclasses.replace(run, seed=settings.seed)
    return networks, images, run


def _find_flips(paths, settings):
    """Returns how the images change sides that do in most seeds, by row."""
    if len(paths) > 1 or settings.data or settings.split not in (None, SPLIT):
        raise ValueError(
            "`flips` are of the test images of one run, alone. Received: "
            f"{_checks.first_few(paths)}, data={settings.data!r}, "
            f"split={settings.split!r}"
        )
    flips, changes = study.Results.read(paths[0]).flips(*settings.flips), {}
    net = flips.gained - flips.lost
    for word, counts in (("gained", net), ("lost", -net)):
        most = np.argsort(-counts, kind="stable")[: settings.draw // 2]
        for row in most[counts[most] > 0].tolist():
            changes[row] = f"{word} with {counts[row]} of {flips.seeds}"
    if not changes:
        raise ValueError(f"`flips` must be of networks that differ. {flips}")
    return changes


def _find_images(paths, run, settings, data_options):
    """Returns the images of a dataset, or those in files or a folder."""
    if run.source is not None:
        source = dataclasses.replace(run.source, **data_options)
        return from_data(source, run, settings.split or SPLIT, settings.count)
    for name, value in {"split": settings.split, **data_options}.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out where images are files, and is for "
                f"datasets. Received: {name}={value!r}"
            )
    return from_paths(paths, settings.count, run.seed)


def _predict(network, images, batch_size):
    """Returns the class probabilities `(B, classes)` of images."""
    batches = images.batches(batch_size, f"Predicting with {network.name}")
    model, options = network.model, {"batch_size": batch_size}
    views = (network.view(batch) for _, batch in batches)
    parts = [class_probabilities(model, view, **options) for view in views]
    return np.concatenate(parts)


def _find_class_index(class_name, names, classes):
    """Returns the index of the class to explain, or `None` if not given."""
    if class_name is None:
        return None
    if names and class_name in names:
        return list(names).index(class_name)
    if class_name.isdecimal() and int(class_name) < classes:
        return int(class_name)
    raise ValueError(
        "`class` must be the name of a class, as in the results of the run, or "
        f"an index from 0 to {classes - 1}. Received: class={class_name!r}"
        f"{_checks.did_you_mean(class_name, names or (), 3)}"
    )


def _explain(network, images, probabilities, labels, index, settings):
    """Returns what a network says of images, by the names in `arrays.npz`.

    The class that is explained is that of the index, else the true one where
    it is known, else the predicted one.
    """
    rows, predicted = np.arange(len(images)), probabilities.argmax(axis=1)
    classes = np.where(labels < 0, predicted, labels)
    if index is not None:
        classes[:] = index
    return {
        "probability": probabilities[rows, classes],
        "predicted_probability": probabilities[rows, predicted],
        "explained": classes,
        "predicted": predicted,
        "probabilities": probabilities,
        **_compute_heat(network, images, classes, settings),
    }


def _compute_heat(network, images, classes, settings):
    """Returns heat maps of the drawn images, and the heat in all boxes."""
    if images.examples.boxes is None:
        # The heat on other images is not needed.
        images = images.take(slice(settings.draw))
    parts = collections.defaultdict(list)
    title = f"Explaining {network.name}"
    for rows, batch in images.batches(settings.batch_size, title):
        try:
            heat = grad_cam(
                network.model,
                network.view(batch),
                classes[rows],
                settings.layer,
                method=settings.method,
                batch_size=settings.batch_size,
            )
        except (ValueError, TypeError) as error:
            error.args = (f"{error} (model {network.path})",)
            raise
        boxes = batch.boxes_in_view(network.size, network.frame)
        if boxes is not None:
            hits, energy = pointing_game(heat, boxes)
            parts["hit"].append(hits)
            parts["energy"].append(energy)
        if rows.start < settings.draw:
            resized = [data.pil_resize(x, network.frame) for x in heat]
            parts["heat_maps"].append(resized)
    arrays = {key: np.concatenate(x) for key, x in parts.items()}
    finer_layer = None
    if settings.layer is None:
        one = network.view(images.take(slice(1)))
        finer_layer = find_finer_layer(network.model, one)
    return arrays | {"finer_layer": finer_layer}


def _weigh_gates(networks, class_names, data_options):
    """Returns what the gates of the best network with attention are worth.

    It is the best of a run by its validation images, by which gates are
    weighed, too.
    """
    networks = [x for x in networks if x.has_attention]
    if not networks:
        return None
    folder = networks[0].path.parent
    # It has the folds of the run, which `--data` alone does not say.
    run = find_networks(folder)[1]
    if run.source is None:
        return None
    results = study.Results.read(folder)
    scores = {x.file: x.metrics.get("val_accuracy", 0) for x in results.runs}
    best = max(networks, key=lambda x: scores.get(x.path.name, 0))
    source = dataclasses.replace(run.source, **data_options)
    images = from_data(source, run, "validation", GATE_IMAGES)
    classes = best.model.output_shape[-1]
    _, labels = images.label_by(class_names, max(classes, 2))
    images = images.take(labels >= 0)
    known = labels[labels >= 0]
    try:
        gates = gate_importance(best.model, best.view(images), known)
    except ValueError as error:
        # The page has the pictures all the same.
        _checks.warn(f"The report does not show what gates are worth: {error}")
        return None
    return dataclasses.replace(gates, model=best.name)


def _average(arrays, labels):
    """Returns the means of a network over the images that they exist for."""
    right = arrays["predicted"] == labels
    values = {
        "accuracy": right[labels >= 0],
        "hit_rate": arrays.get("hit", ()),
        "energy": arrays.get("energy", ()),
    }
    return {key: float(np.mean(x)) for key, x in values.items() if len(x)}


def _describe_images(names, labels, explained, class_names):
    """Returns what is written of each image."""

    def name_of(index):
        return class_names[index] if class_names else f"class {index}"

    rows = []
    for number, label in enumerate(labels):
        models = {}
        for network, arrays in explained.items():
            index = arrays["explained"][number].item()
            predicted = arrays["predicted"][number].item()
            models[network] = {
                "class": name_of(index),
                "class_index": index,
                "predicted_class": name_of(predicted),
                "predicted_class_index": predicted,
            }
            for key in NUMBERS:
                if key in arrays:
                    models[network][key] = arrays[key][number].item()
        rows.append(
            {
                "image": str(names[number]),
                "true_class": name_of(label) if label >= 0 else None,
                "models": models,
            }
        )
    return rows


def _write(folder, content, arrays, explained, attention, count):
    """Writes everything, and draws the first `count` images."""
    _files.delete_unfinished(folder)
    drawn, few = slice(count), slice(ATTENTION_DRAWN)
    rows = content["images"][drawn]
    labels = [row["true_class"] or shorten(row["image"]) for row in rows]
    if content["settings"]["flips"]:
        labels = [
            f"{x}, {row['change']}" for x, row in zip(labels, rows, strict=True)
        ]
    for name, values in explained.items():
        arrays |= {f"{name}/{key}": x for key, x in values.items()}
    for name, maps in attention.items():
        for layer, pair in maps.items():
            for gate, values in zip(MAPS, pair, strict=True):
                if values is not None:
                    arrays[f"{name}/attention/{layer}/{gate}"] = values
        figure = plot_attention_maps(
            arrays["images"][few],
            {
                layer: [None if x is None else x[few] for x in pair]
                for layer, pair in maps.items()
            },
            labels=labels[few],
            title=f"Attention of {name}",
        )
        file = f"attention-{name.replace('/', '-')}.png"
        _files.write_figure(folder / file, figure)
    arrays = {key: array[drawn] for key, array in arrays.items()}
    figure = plot_grad_cam(
        arrays["images"],
        {x: arrays[f"{x}/heat_maps"] for x in explained},
        probabilities={x: arrays[f"{x}/probability"] for x in explained},
        classes={
            x: [row["models"][x]["class"] for row in rows] for x in explained
        },
        labels=labels,
        boxes=arrays.get("boxes"),
        title=TITLES[content["settings"]["method"]],
    )
    _files.write_figure(folder / "grad_cam.png", figure)
    with _files.replacing(folder / "arrays.npz") as path:
        np.savez_compressed(path, **arrays)
    _files.write_json(folder / _files.EXPLAINED, content)


# What is written, as rows of text.


def list_predictions(
    content: Json, networks: Sequence[str], most: int
) -> list[dict[str, str]]:
    """Returns a row for each of the images that most networks get wrong."""
    rows = []
    for row in content["images"]:
        texts = {
            "image": shorten(row["image"]),
            "true class": row["true_class"] or "",
        }
        for name in networks:
            answer = row["models"][name]
            predicted = answer["predicted_class"]
            texts[name] = f"{predicted} ({answer['predicted_probability']:.0%})"
            if row["true_class"] not in (None, predicted):
                texts[name] += WRONG
        rows.append(texts)
    rows.sort(key=lambda texts: -sum(WRONG in texts[x] for x in networks))
    return rows[:most]


def shorten(name: str) -> str:
    """Returns the name of an image with its own folder alone."""
    return "/".join(pathlib.PurePath(name).parts[-2:])


def list_means(content: Json) -> list[dict[str, str]]:
    """Returns a row per network, none where no true class or box is known."""
    summary = dict(content["summary"])
    if "box_fraction" in content:
        fraction = content["box_fraction"]
        summary["uniform heat"] = {"hit_rate": fraction, "energy": fraction}
    keys = [key for key in MEANS if any(key in x for x in summary.values())]
    rows = []
    for name, values in summary.items():
        row = {"model": name}
        for key in keys:
            row[MEANS[key]] = (
                f"{100 * values[key]:.1f}" if key in values else ""
            )
        rows.append(row)
    return rows if keys else []


def _make_tables(content, drawn):
    """Returns what the command prints."""
    rows = list_predictions(content, [*content["models"]], drawn)
    images = _checks.count(len(content["images"]), "image")
    title = f"Predictions, {len(rows)} of {images}"
    tables = [_terminal.Table(title, rows)]
    if means := list_means(content):
        tables.append(_terminal.Table("Means over all images", means))
    return "\n\n".join(map(str, tables))
