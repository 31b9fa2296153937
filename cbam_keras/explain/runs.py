"""The models and the dataset in the output folder of a run."""

import dataclasses
import json
import pathlib

from cbam_keras import data

SEARCH, TRAINING, SEEDS = "search", "training run", "training over seeds"
ABLATION = "ablation"


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """The models of a run.

    Attributes:
        models: List of paths.
        data: Name of the embedded dataset of the run, or `None` for others,
            of which the run does not say where they are.
    """

    models: list[pathlib.Path]
    data: str | None


def files_of_run(folder: pathlib.Path) -> RunFiles | None:
    """Returns the models of the run in a folder, or `None` if there is none.

    Of a search it is the best one, of several seeds those of the first.

    Raises:
        ValueError: If the run has no models yet, or never has any.
    """
    found = _described(folder / "search.json")
    content = found or _described(folder / "results.json")
    if content is None:
        return None
    kind, settings = content["kind"], content["settings"]
    described = settings["data"]
    if kind == SEARCH:
        models = [folder / "best.keras"]
    elif kind == TRAINING:
        models = [folder / f"{name}.keras" for name in settings["networks"]]
    elif kind in (SEEDS, ABLATION):
        # Described for each seed.
        seed, described = next(iter(described.items()))
        models = [
            (folder if kind == SEEDS else folder / name)
            / f"seed-{seed}"
            / f"{name}.keras"
            for name in settings["networks"]
        ]
    else:
        raise ValueError(
            "A folder of a run must be that of train, tune or ablate. "
            f'Received: "{folder}", which holds the run of another command '
            f"({kind})"
        )
    models = [path for path in models if path.exists()]
    if not models:
        raise ValueError(
            "A folder of a run must hold models. Received: "
            f'"{folder}", where none is finished yet. Run the same command '
            "again to resume it"
        )
    name = described["name"]
    return RunFiles(models, name if name in data.EMBEDDED else None)


def _described(path):
    """Returns what a file says of a run, or `None` if it says nothing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["kind"], content["settings"]["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content
