"""The page of a run, written when it ends, and where its networks look."""

import contextlib
import pathlib
import shlex
from collections.abc import Iterator, Sequence

from cbam_keras import _checks, _files, _run_folder, explain, report
from cbam_keras.cli.arguments import data_options_of, progress_of

# Of so many test images, the page shows those that networks get wrong.
LOOKED_AT = 64


@contextlib.contextmanager
def reported(options) -> Iterator[None]:
    """Context of runs, whose folders get `report.html` at the end."""
    if not options.no_report:
        # Needed only at the end, but checked before any work.
        _checks.require("jinja2", extra="plot")
    with _run_folder.started_by(
        command_of(options), None if options.no_report else write_report
    ):
        yield


def write_report(folder: pathlib.Path) -> None:
    """Writes the report of a folder, or warns that it cannot."""
    try:
        report.write(folder)
    # A result that took hours is not lost for the sake of its page.
    except Exception as error:
        if _files.is_unwritable(folder, error):
            # The run says so.
            raise
        _checks.warn(f'"{folder}/report.html" is not written ({error!r})')


def command_of(options) -> str:
    """Returns the command that repeats what was asked for."""
    again = ("--overwrite", "--resume")
    words = [word for word in options.arguments if word not in again]
    return shlex.join(["cbam-keras", *words])


def complete(
    options, output: pathlib.Path, models: Sequence[pathlib.Path], seed: int
) -> None:
    """Explains what networks of a finished run get wrong, for its report."""
    if options.no_report:
        return
    with progress_of(options), _files.writing_to(output):
        try:
            _explain(options, output / _run_folder.LOOKS, models, seed)
        except (ValueError, TypeError) as error:
            # A network of the user's may be one that cannot be explained.
            _checks.warn(f"The report does not show where it looks: {error}")
        write_report(output)
        print(f"\nReport in {output / _run_folder.REPORT}")


def _explain(options, output, models, seed):
    drawn = output / "explain.json"
    if drawn.exists() and all(
        path.stat().st_mtime < drawn.stat().st_mtime for path in models
    ):
        return
    examples = explain.from_data(
        options.data, "test", LOOKED_AT, seed, data_options_of(options)
    )
    described = {"data": options.data, "split": "test", "seed": seed}
    explain.explain_run(models, examples, output, described)
