"""Files that cannot be read any more: told of, set aside, done without."""

import json

from cbam_keras import _checks


def read_json(path, keys=()):
    """Returns the dictionary that a file holds, with at least these keys.

    Returns `None` where there is no such file, or none that can be used,
    which is then set aside.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        set_aside(path, error)
        return None
    if not isinstance(content, dict) or not set(keys) <= set(content):
        set_aside(path, "it lacks a part")
        return None
    return content


def set_aside(path, error):
    """Warns of a file that cannot be read, and renames it."""
    if isinstance(error, Exception):
        # What `Damaged` says to do is done here.
        error = str(error.__cause__ or error).strip().split("\n")[0]
    aside = path.with_name(path.name + ".damaged")
    path.replace(aside)
    _checks.warn(
        f'"{path}" cannot be read ({error}). It is set aside as '
        f'"{aside.name}", and the work goes on without it'
    )
