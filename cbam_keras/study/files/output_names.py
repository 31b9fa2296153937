"""`default_output`: the folder of a run for which none is given.

Another plan gets another folder, so that two commands on the same data do not
collide: `runs/train-photos-EfficientNetLite0` has the plan of all defaults, and
`runs/train-photos-EfficientNetLite0-top-frozen` one with two other options.
More seeds or variants of a plan belong into its folder.
"""

import hashlib
import json
import pathlib
import re
from collections.abc import Mapping

from cbam_keras import _checks
from cbam_keras.study.plans.study import Study, Task

# More options than these, or longer names, are written as digits of a hash.
MOST_OPTIONS = 3
MOST_CHARACTERS = 60
DIGITS_OF_HASH = 6
# Options whose words say by themselves what they are, such as "top" or "flip".
PLAIN_WORDS = ("augment", "recipe", "score", "stages", "threshold")


def default_output(study: Study) -> pathlib.Path:
    """Returns the default folder of a run, e.g. `runs/train-mnist5k-small`."""
    base = plain_output(study)
    options = {**study.options, **_describe_task(study.task)}
    if study.folds is not None:
        options["folds"] = study.folds
    return base.with_name(_add_options(base.name, options))


def plain_output(study: Study) -> pathlib.Path:
    """Returns the folder of the plan with all defaults.

    Until version 0.7 it was that of every plan for the same data and network.
    """
    name = study.task.name
    if name is None:
        raise ValueError(
            "`output` must be a folder for a task that has no `name`. "
            f"Received: output=None, task={study.task!r}"
        )
    names = [study.kind, str(name)]
    if "model" in study.settings:
        names.append(str(study.settings["model"]))
    # Configurations of a dataset are written "name/configuration".
    return pathlib.Path("runs") / "-".join(map(_as_part_of_path, names))


def _describe_task(task: Task) -> dict[str, object]:
    """Returns what a task was given in addition to its data."""
    options = dict(getattr(task, "options", {}))
    for name in ("masks", "score", "threshold"):
        value = getattr(task, name, None)
        if value is not None:
            options[name] = value
    # These say where data are, not what they are.
    for name in ("data_dir", "download"):
        options.pop(name, None)
    return options


def _add_options(name: str, options: Mapping[str, object]) -> str:
    """Returns the name of a folder with the options of its plan."""
    if not options:
        return name
    words = [_name_option(*option) for option in options.items()]
    readable = "-".join([name, *words])
    is_short = len(readable) <= MOST_CHARACTERS
    if all(words) and len(words) <= MOST_OPTIONS and is_short:
        return readable
    # Options are in the order of arguments, not in that of the call.
    text = json.dumps([*options.items()], default=_name_of)
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGITS_OF_HASH]
    return f"{name[: MOST_CHARACTERS - DIGITS_OF_HASH - 1]}-{digest}"


def _name_option(name: str, value: object) -> str:
    """Returns an option in a few characters, or "" if that cannot be read."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return option if value else f"no-{option}"
    values = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(x, str | int | float) for x in values):
        return ""
    texts = [f"{x:g}" if isinstance(x, float) else str(x) for x in values]
    # A pattern is not readable as part of a path.
    if not all(re.fullmatch(r"[\w .,=+-]+", text) for text in texts):
        return ""
    text = "-".join(map(_as_part_of_path, texts))
    return text if name in PLAIN_WORDS else f"{option}-{text}"


def _as_part_of_path(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.")


def _name_of(value: object) -> str:
    """Returns for a hash what is the same in each process."""
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{_checks.package_of(value)}.{name}"
