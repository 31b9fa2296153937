"""Predictions of networks in files: explained, drawn and written."""

import collections
import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from cbam_keras import _checks, _files, _terminal, data, plotting, study
from cbam_keras._explanations.images import Images, from_data, from_paths
from cbam_keras._explanations.networks import (
    ENDINGS,
    Source,
    class_names_beside,
    is_run,
    load_networks,
    networks_of,
)
from cbam_keras._explanations.tables import means, predictions, short
from cbam_keras.explain import (
    attention_maps,
    class_probabilities,
    grad_cam,
    pointing_game,
)

# Of the images, if neither the networks nor the images have one size.
DEFAULT_SIZE = 224, 224
# How many images are drawn with the attention of every layer.
ATTENTION_DRAWN = 4
GATES = "channel", "spatial"
# What may be beside `explain.json`, which is written last, and before it where
# a process was killed.
FILES = ("arrays.npz", "grad_cam.png", "attention-*.png", study.REPORT, ".*")
# What `explain.json` holds of each image and network, where it is known.
NUMBERS = "probability", "predicted_probability", "hit", "energy"
TITLES = {
    "grad_cam": "Grad-CAM",
    "grad_cam++": "Grad-CAM++",
    "hires_cam": "HiResCAM",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of `cbam-keras explain`, see its `--help`."""

    wanted: str | None = None
    layer: str | None = None
    method: str = "grad_cam"
    head: int | str | None = None
    image_size: int | None = None
    draw: int = 8
    batch_size: int = 32
    data: str | None = None
    split: str | None = None
    count: int | None = 8
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "draw", "image_size", "count"):
            if getattr(self, name) is not None:
                _checks.positive_integer(name, getattr(self, name))
        if self.seed is not None:
            _checks.seed("seed", self.seed)
        if self.draw > plotting.MAX_ROWS:
            raise ValueError(
                f"`draw` must be at most {plotting.MAX_ROWS}, or the figure "
                f"cannot be read. Received: draw={self.draw}"
            )


def explain_files(
    paths: Sequence[pathlib.Path],
    settings: Settings,
    *,
    output: str | pathlib.Path | None,
    data_options: Mapping[str, object],
    class_names: Sequence[str] | None,
    preprocess: Callable[[np.ndarray], ArrayLike] | None,
    described: Mapping[str, object],
    command: str,
) -> tuple[str, pathlib.Path]:
    """Explains predictions, and writes and draws them into a folder.

    `paths` are networks, output folders of runs, images, and folders of
    images; `described` are further settings to write. Returns tables, and the
    folder.
    """
    # Before any work, although it is only needed in the end.
    _checks.require("matplotlib.figure", extra="plot")
    files, image_paths, source = _sorted_paths(paths, settings.data)
    seed = source.seed if settings.seed is None else settings.seed
    split = settings.split or "test"
    if source.name is None:
        given = {"split": settings.split, **data_options}
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"`{name}` must be left out where images are files, and "
                    f"is for datasets. Received: {name}={value!r}"
                )
        images = from_paths(image_paths, settings.count, seed)
    else:
        images = from_data(
            source.name,
            split,
            settings.count,
            seed,
            {**source.options, **data_options},
            source.fingerprint,
        )
    networks = load_networks(
        files, settings.image_size, images.size or DEFAULT_SIZE, preprocess
    )
    batch = min(settings.batch_size, len(images))
    for network in networks:
        data.check_memory((*network.size, 3), batch)
    probabilities = _probabilities(networks, images, settings)
    class_names, classes = _classes(files, images, probabilities, class_names)
    class_index = _class_index(settings.wanted, class_names, classes)
    images = _named_alike(images, class_names)

    if output is None:
        first = next(path for path in paths if path not in image_paths)
        output = pathlib.Path("runs") / f"explain-{first.absolute().stem}"
    output = _files.folder_path(output)
    if is_run(output):
        # A run is overwritten only if all files in its folder are its own.
        output /= study.EXPLANATIONS
    if output.exists():
        # Other folders are made when all else is right.
        _check_output(output)
    content, arrays = _explained(
        networks, images, probabilities, class_names, class_index, settings
    )
    folder = _files.output_folder(output)
    written = {
        **dataclasses.asdict(settings),
        "data": source.name,
        "split": None if source.name is None else split,
        "count": len(images),
        "seed": seed,
        **described,
    }
    with _files.locked(folder / _files.LOCK):
        _write(folder, written, content, arrays, command=command)
    return _tables(content, settings.draw), folder


def explain_run(
    models: Sequence[pathlib.Path],
    images: Images,
    output: pathlib.Path,
    described: Mapping[str, object],
) -> None:
    """Explains the images that most networks of a run get wrong.

    Writes what the report of the run shows. The true classes of the images
    must be known.
    """
    settings = Settings()
    networks = load_networks(models, None, images.size or DEFAULT_SIZE)
    probabilities = _probabilities(networks, images, settings)
    labels = images.labels(images.class_names)
    mistakes = sum(x.argmax(axis=1) != labels for x in probabilities.values())
    worst = np.argsort(-mistakes, kind="stable")[: settings.draw]
    probabilities = {name: x[worst] for name, x in probabilities.items()}
    images = images.take(worst)
    content, arrays = _explained(
        networks, images, probabilities, images.class_names, None, settings
    )
    written = {**dataclasses.asdict(settings), **described}
    _write(_files.output_folder(output), written, content, arrays)


def _check_output(folder):
    """Raises unless a folder is empty, or that of an explanation."""
    _files.output_folder(folder)
    if (folder / _files.EXPLAINED).exists():
        return
    others = [
        path.name
        for path in sorted(folder.iterdir())
        if not any(path.match(pattern) for pattern in FILES)
    ]
    if others:
        raise ValueError(
            "`output` must be a new or empty folder, or that of a run or an "
            f'explanation. Received: output="{folder}", which holds other '
            f"files: {_checks.first_few(others)}. Choose another folder"
        )


def _sorted_paths(
    paths: Sequence[pathlib.Path], dataset: str | None
) -> tuple[list[pathlib.Path], list[pathlib.Path], Source]:
    """Returns the networks and images among paths, and the data to explain."""
    networks, images, sources = [], [], []
    for path in paths:
        if not os.path.exists(path):
            raise ValueError(
                "Models, images and folders must exist. Received: "
                f'"{path}", which does not'
            )
        if is_run(path):
            files, source = networks_of(path)
            networks += files
            sources.append(source)
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
    if images or dataset is not None:
        seed = sources[0].seed if sources else 0
        sources = [Source(dataset, seed)]
    names = {source.name for source in sources} - {None}
    if len(names) + bool(images) != 1:
        raise ValueError(
            "There must be images to explain, from one place: files, a "
            "folder, or --data NAME, e.g. --data cluttered_mnist. Received: "
            f"files {_checks.first_few(images) or 'none'}, data {names or ''}"
        )
    return networks, images, sources[0]


def _of_batches(networks, images, settings, compute, title):
    """Returns arrays by network and key, those of all batches joined.

    `compute` returns arrays by key, of a network, the slice of a batch, its
    images at the size of the network, and the boxes on them.
    """
    parts = {x.name: collections.defaultdict(list) for x in networks}
    sizes = list(dict.fromkeys(x.size for x in networks))
    batches = images.batches(settings.batch_size, sizes)
    total = math.ceil(len(images) / settings.batch_size)
    for part, views in _terminal.watched(batches, total, title):
        for network in networks:
            arrays = compute(network, part, *views[network.size])
            for key, array in arrays.items():
                parts[network.name][key].append(array)
    return {
        name: {key: np.concatenate(x) for key, x in arrays.items()}
        for name, arrays in parts.items()
    }


def _probabilities(networks, images, settings):
    """Returns the class probabilities of all networks, by their names."""

    def compute(network, part, seen, boxes):
        probabilities = class_probabilities(
            network.model,
            network.prepare(seen),
            head=settings.head,
            batch_size=settings.batch_size,
        )
        return {"probabilities": probabilities}

    found = _of_batches(networks, images, settings, compute, "Predicting")
    return {name: arrays["probabilities"] for name, arrays in found.items()}


def _classes(files, images, probabilities, class_names):
    """Returns the class names, `None` if not known, and how many there are."""
    counts = {name: x.shape[1] for name, x in probabilities.items()}
    for source, names in {
        "the data": images.class_names,
        "--class-names": class_names,
    }.items():
        if names is not None:
            counts[source] = len(names)
    classes, *others = set(counts.values())
    if others:
        raise ValueError(
            "Models, data and the file of --class-names must have the same "
            f"number of classes. Received: {counts}"
        )
    names = class_names or class_names_beside(files, classes)
    # Folders are classes only if there is one for each class.
    if names is None and len(images.folders) == classes > 1:
        names = images.folders
        _checks.warn(
            "It is assumed that class 0 of the models is the first folder in "
            f"alphabetical order, and so on: {_checks.first_few(names)}. "
            "If they were trained with another order, give it with "
            "--class-names FILE"
        )
    return names or images.class_names, classes


def _named_alike(images, class_names):
    """Returns images whose classes have the names that the models know."""
    names = images.class_names
    if not names or {*names} & {*class_names}:
        return images
    _checks.warn(
        f"The classes of the data, {_checks.first_few(names)}, have other "
        f"names than those of the models, {_checks.first_few(class_names)}. It "
        "is assumed that their order is the same. If it is not, give the names "
        "of the data in the order of the models with --class-names FILE"
    )
    renamed = dict(zip(names, class_names, strict=True))
    groups = [renamed[x] for x in images.groups]
    return dataclasses.replace(images, groups=groups)


def _class_index(wanted, class_names, classes):
    """Returns the index of the class to explain, or `None` if not given."""
    if wanted is None:
        return None
    if class_names and wanted in class_names:
        return list(class_names).index(wanted)
    if wanted.isdecimal() and int(wanted) < classes:
        return int(wanted)
    raise ValueError(
        "`class` must be the name of a class, as --class-names FILE gives "
        f"them, or an index from 0 to {classes - 1}. Received: "
        f"class={wanted!r}{_checks.did_you_mean(wanted, class_names or (), 3)}"
    )


def _explained(
    networks, images, probabilities, class_names, class_index, settings
):
    """Returns what `explain.json` holds, and arrays of the drawn images.

    The class `class_index` is explained; if it is `None`, the true class
    where it is known, else the predicted one. The first network sets sizes.
    """
    labels = images.labels(class_names)
    results = {}
    for name, values in probabilities.items():
        predicted = values.argmax(axis=1)
        explained = np.where(labels < 0, predicted, labels)
        if class_index is not None:
            explained[:] = class_index
        every = np.arange(len(images))
        results[name] = {
            "probability": values[every, explained],
            "predicted_probability": values[every, predicted],
            "explained": explained,
            "predicted": predicted,
            "probabilities": values,
        }
    first = networks[0]
    for name, found in _maps(networks, images, results, settings).items():
        results[name] |= found
    arrays = {"names": np.array(images.names), "labels": labels}
    for key in ("boxes", "images"):
        if key in results[first.name]:
            arrays[key] = results[first.name].pop(key)
    content = _content(images, results, labels, class_names)
    content["models"] = {x.name: str(x.path) for x in networks}
    if "boxes" in arrays:
        boxes = arrays["boxes"]
        for row, box in zip(content["images"], boxes.tolist(), strict=True):
            row["box"] = box
        low, high = np.hsplit(boxes, 2)
        areas = (high - low).prod(axis=1) / np.prod(first.size)
        content["box_fraction"] = float(areas.mean())
    for name, result in results.items():
        arrays |= {f"{name}/{key}": array for key, array in result.items()}
    return content, {key: x[: settings.draw] for key, x in arrays.items()}


def _content(images, results, labels, class_names):
    """Returns the rows of images and the means of `explain.json`."""

    def name_of(index):
        return class_names[index] if class_names else f"class {index}"

    rows = [
        {
            "image": name,
            "true_class": name_of(label) if label >= 0 else None,
            "models": {},
        }
        for name, label in zip(images.names, labels, strict=True)
    ]
    summary = {}
    for name, result in results.items():
        explained, predicted = result["explained"], result["predicted"]
        for number, row in enumerate(rows):
            row["models"][name] = {
                "class": name_of(explained[number]),
                "class_index": explained[number].item(),
                "predicted_class": name_of(predicted[number]),
                "predicted_class_index": predicted[number].item(),
                **{x: result[x][number].item() for x in NUMBERS if x in result},
            }
        means = {
            "accuracy": (predicted == labels)[labels >= 0],
            "hit_rate": result.get("hit", ()),
            "energy": result.get("energy", ()),
        }
        summary[name] = {
            key: float(np.mean(x)) for key, x in means.items() if len(x)
        }
    return {
        "class_names": list(class_names) if class_names else None,
        "summary": summary,
        "images": rows,
    }


def _maps(networks, images, results, settings):
    """Returns heat maps and gates by network, of the first also the images."""
    first = networks[0]

    def compute(network, part, seen, boxes):
        inputs, arrays = network.prepare(seen), {}
        try:
            heat = grad_cam(
                network.model,
                inputs,
                results[network.name]["explained"][part],
                settings.layer,
                method=settings.method,
                head=settings.head,
                batch_size=settings.batch_size,
            )
        except (ValueError, TypeError) as error:
            error.args = (f"{error} (model {network.path})",)
            raise
        if boxes is not None:
            arrays["hit"], arrays["energy"] = pointing_game(heat, boxes)
            if network is first:
                arrays["boxes"] = boxes
        if part.start >= settings.draw:
            return arrays
        whole = 0, 0, *heat.shape[1:]
        resized = [data.pil_resize(one, whole, first.size) for one in heat]
        arrays["heat_maps"] = resized
        if network is first:
            arrays["images"] = network.in_its_colors(seen)
        if network.gated:
            for layer, pair in attention_maps(network.model, inputs).items():
                for gate, values in zip(GATES, pair, strict=True):
                    if values is not None:
                        arrays[f"attention/{layer}/{gate}"] = values
        return arrays

    return _of_batches(networks, images, settings, compute, "Explaining")


def _tables(content, drawn):
    rows = predictions(content, [*content["models"]], drawn)
    title = f"Predictions, {len(rows)} of {len(content['images'])} images"
    tables = [_terminal.Table(title, rows)]
    if mean_rows := means(content):
        tables.append(_terminal.Table("Means over all images", mean_rows))
    return "\n\n".join(map(str, tables))


def _write(folder, settings, content, arrays, **more):
    """Draws the heat maps and gates of networks, and writes everything."""
    _files.delete_unfinished(folder)
    rows = content["images"][: len(arrays["names"])]
    labels = [row["true_class"] or short(row["image"]) for row in rows]
    names = [*content["models"]]
    figure = plotting.plot_grad_cam(
        arrays["images"],
        {x: arrays[f"{x}/heat_maps"] for x in names},
        probabilities={x: arrays[f"{x}/probability"] for x in names},
        classes={x: [row["models"][x]["class"] for row in rows] for x in names},
        labels=labels,
        boxes=arrays.get("boxes"),
        title=TITLES[settings["method"]],
    )
    _files.write_figure(folder / "grad_cam.png", figure)
    few = slice(ATTENTION_DRAWN)
    for name in names:
        prefix = f"{name}/attention/"
        gates = {
            key.removeprefix(prefix).rpartition("/")[::2]: array[few]
            for key, array in arrays.items()
            if key.startswith(prefix)
        }
        maps = {
            layer: [gates.get((layer, gate)) for gate in GATES]
            for layer, _ in gates
        }
        if maps:
            figure = plotting.plot_attention_maps(
                arrays["images"][few],
                maps,
                labels=labels[few],
                title=f"Attention of {name}",
            )
            file = f"attention-{name.replace('/', '-')}.png"
            _files.write_figure(folder / file, figure)
    with _files.replacing(folder / "arrays.npz") as path:
        np.savez_compressed(path, **arrays)
    head = {"settings": settings, "versions": study.versions(), **more}
    _files.write_json(folder / _files.EXPLAINED, {**head, **content})
