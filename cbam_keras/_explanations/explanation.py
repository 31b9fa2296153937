"""Predictions of networks in files: explained, drawn and written."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from cbam_keras import _checks, _files, _terminal, data, plotting, study
from cbam_keras._explanations.classes import class_index, classes_of
from cbam_keras._explanations.images import Source, from_data, from_paths
from cbam_keras._explanations.networks import (
    ENDINGS,
    is_run,
    load_networks,
    networks_of,
)
from cbam_keras._explanations.tables import (
    means,
    predictions,
    rows_of,
    short,
)
from cbam_keras.explain import (
    attention_maps,
    class_probabilities,
    grad_cam,
    pointing_game,
)

# How many images are drawn with the attention of every layer.
ATTENTION_DRAWN = 4
GATES = "channel", "spatial"
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
    described: Mapping[str, object],
    command: str,
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[np.ndarray], ArrayLike] | None = None,
    mistakes: bool = False,
) -> tuple[str, pathlib.Path]:
    """Explains predictions, and writes and draws them into a folder.

    `paths` are networks, output folders of runs, images, and folders of
    images; `described` are further settings to write. With `mistakes`, only as
    many images are explained as are drawn: those that most networks get wrong.
    Returns tables, and the folder.
    """
    # It is only needed at the end, but checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    files, image_paths, source = _sorted_paths(paths, settings.data)
    if output is None:
        first = next(path for path in paths if path not in image_paths)
        output = pathlib.Path("runs") / f"explain-{first.absolute().stem}"
    output = _free_folder(output)
    if settings.seed is not None:
        source = dataclasses.replace(source, seed=settings.seed)
    split = None
    if source.name is None:
        given = {"split": settings.split, **data_options}
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"`{name}` must be left out where images are files, and "
                    f"is for datasets. Received: {name}={value!r}"
                )
        images = from_paths(image_paths, settings.count, source.seed)
    else:
        split = settings.split or "test"
        options = {**source.options, **data_options}
        source = dataclasses.replace(source, options=options)
        images = from_data(source, split, settings.count)
    networks = load_networks(
        files,
        settings.image_size,
        images.size or (data.SIDE, data.SIDE),
        preprocess,
    )
    for network in networks:
        batch = min(settings.batch_size, len(images))
        data.check_memory((*network.size, 3), batch)
    found = {x.name: _probabilities(x, images, settings) for x in networks}
    counts = {name: values.shape[1] for name, values in found.items()}
    class_names, labels = classes_of(files, images, counts, class_names)
    index = class_index(settings.wanted, class_names, min(counts.values()))
    if mistakes:
        wrong = sum(x.argmax(axis=1) != labels for x in found.values())
        rows = np.argsort(-wrong, kind="stable")[: settings.draw]
        found = {name: values[rows] for name, values in found.items()}
        images, labels = images.take(rows), labels[rows]
    arrays = _explained(networks, images, found, labels, index, settings)
    content = {
        "settings": {
            **dataclasses.asdict(settings),
            "data": source.name,
            "split": split,
            "count": len(images),
            "seed": source.seed,
            **described,
        },
        "versions": study.versions(),
        "command": command,
        "class_names": list(class_names) if class_names else None,
        "models": {x.name: str(x.path) for x in networks},
        **rows_of(arrays, [*found], class_names),
    }
    folder = _files.output_folder(output)
    arrays = {key: array[: settings.draw] for key, array in arrays.items()}
    with _files.locked(folder / _files.LOCK):
        _write(folder, content, arrays)
    return _tables(content, settings.draw), folder


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


def _probabilities(network, images, settings):
    """Returns the class probabilities `(B, classes)` of images."""
    parts = images.batches(
        settings.batch_size, f"Predicting with {network.name}"
    )
    found = [
        class_probabilities(
            network.model,
            network.prepare(part),
            head=settings.head,
            batch_size=settings.batch_size,
        )
        for _, part in parts
    ]
    return np.concatenate(found)


def _explained(networks, images, probabilities, labels, index, settings):
    """Returns what is known of all images, and maps of those that are drawn.

    The class that is explained is that of the index, else the true one where
    it is known, else the predicted one.
    """
    first, every = networks[0], np.arange(len(images))
    drawn = images.take(every[: settings.draw])
    arrays = {"names": images.names, "labels": labels}
    arrays["images"] = first.shown(drawn)
    boxes = images.boxes_seen(first.size, first.size)
    if boxes is not None:
        arrays["boxes"] = boxes
    for network in networks:
        values = probabilities[network.name]
        predicted = values.argmax(axis=1)
        explained = np.where(labels < 0, predicted, labels)
        if index is not None:
            explained[:] = index
        result = {
            "probability": values[every, explained],
            "predicted_probability": values[every, predicted],
            "explained": explained,
            "predicted": predicted,
            "probabilities": values,
            **_heat(network, images, explained, settings),
        }
        if network.gated:
            maps = attention_maps(
                network.model,
                network.prepare(drawn),
                batch_size=settings.batch_size,
            )
            for layer, pair in maps.items():
                for gate, values in zip(GATES, pair, strict=True):
                    if values is not None:
                        result[f"attention/{layer}/{gate}"] = values
        arrays |= {f"{network.name}/{key}": x for key, x in result.items()}
    return arrays


def _heat(network, images, explained, settings):
    """Returns heat maps of the drawn images, and the heat in all boxes."""
    if images.examples.boxes is None:
        # The heat on other images is not needed.
        images = images.take(np.arange(len(images))[: settings.draw])
    found = collections.defaultdict(list)
    title = f"Explaining {network.name}"
    for rows, part in images.batches(settings.batch_size, title):
        try:
            heat = grad_cam(
                network.model,
                network.prepare(part),
                explained[rows],
                settings.layer,
                method=settings.method,
                head=settings.head,
                batch_size=settings.batch_size,
            )
        except (ValueError, TypeError) as error:
            error.args = (f"{error} (model {network.path})",)
            raise
        boxes = part.boxes_seen(network.size, network.frame)
        if boxes is not None:
            hit, energy = pointing_game(heat, boxes)
            found["hit"].append(hit)
            found["energy"].append(energy)
        if rows[0] < settings.draw:
            resized = [data.pil_resize(x, network.frame) for x in heat]
            found["heat_maps"].append(resized)
    return {key: np.concatenate(x) for key, x in found.items()}


def _tables(content, drawn):
    rows = predictions(content, [*content["models"]], drawn)
    title = f"Predictions, {len(rows)} of {len(content['images'])} images"
    tables = [_terminal.Table(title, rows)]
    if mean_rows := means(content):
        tables.append(_terminal.Table("Means over all images", mean_rows))
    return "\n\n".join(map(str, tables))


def _write(folder, content, arrays):
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
        title=TITLES[content["settings"]["method"]],
    )
    _files.write_figure(folder / "grad_cam.png", figure)
    few = slice(ATTENTION_DRAWN)
    for name in names:
        prefix = f"{name}/attention/"
        maps = collections.defaultdict(dict)
        for key, array in arrays.items():
            if key.startswith(prefix):
                layer, _, gate = key.removeprefix(prefix).rpartition("/")
                maps[layer][gate] = array[few]
        if maps:
            figure = plotting.plot_attention_maps(
                arrays["images"][few],
                {layer: [*map(x.get, GATES)] for layer, x in maps.items()},
                labels=labels[few],
                title=f"Attention of {name}",
            )
            file = f"attention-{name.replace('/', '-')}.png"
            _files.write_figure(folder / file, figure)
    with _files.replacing(folder / "arrays.npz") as path:
        np.savez_compressed(path, **arrays)
    _files.write_json(folder / _files.EXPLAINED, content)
