"""The subcommand `explain`, and the page of a run with what it shows."""

import dataclasses
import hashlib
import json
import pathlib

from _cbam_keras_command.parser import Options
from cbam_keras import _checks, _files, report, study
from cbam_keras._terminal import say
from cbam_keras.cli.arguments import import_object, progress_of

# Options without effect where predictions of masks are drawn.
OF_HEAT = (
    *("images", "mistakes", "wanted", "method", "layer", "output", "split"),
    *("count", "seed", "batch_size", "regions"),
)


def explain(options: Options) -> None:
    for module in options.modules:
        import_object("import", module, "a module")
    fields = dataclasses.fields(report.Settings)
    settings = report.Settings(
        **{field.name: getattr(options, field.name) for field in fields}
    )
    run = report.read_run(pathlib.Path(options.run).expanduser())
    if run.has_masks:
        options.refuse(
            OF_HEAT, "for a run on masks, whose predictions it draws"
        )
        with progress_of(options):
            folder = report.draw_predictions(run, settings.draw)
            if not options.no_report:
                report.try_to_write(run.folder)
        say(f"Predictions in {folder}")
        return
    if settings.images:
        options.refuse(["split"], "with `images`")
    with progress_of(options):
        explanation, folder = report.explain_run(
            run, settings, output=options.output, command=options.line
        )
        if not options.no_report:
            report.try_to_write(folder)
    say(explanation)
    say(f"\nFiles in {folder}")


def explain_for_report(options: Options, output: pathlib.Path) -> None:
    """Explains what networks get wrong for the report, unless it is done."""
    folder = output / study.EXPLANATIONS
    with _files.writing_to(output):
        try:
            run = report.read_run(output)
            run = dataclasses.replace(
                run, files=run.files[: report.MAX_NETWORKS]
            )
            hashes = {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
                for path in run.files
            }
            described = {"networks": hashes, "regions": options.regions}
            if run.has_masks:
                report.draw_predictions(run)
            elif not _is_explained(folder, described):
                settings = report.Settings(
                    mistakes=True, count=64, regions=options.regions
                )
                report.explain_run(
                    run,
                    settings,
                    output=output,
                    command=options.line,
                    described=described,
                )
        except _files.InUse:
            # Another process writes the same.
            return
        except (ValueError, TypeError) as error:
            # A network of the user may be one that cannot be.
            _checks.warn(f"The report does not show where it looks: {error}")
        if report.try_to_write(output):
            say(f"\nReport in {output / study.REPORT}")


def _is_explained(folder, described):
    """Returns whether a folder holds the explanations described like this."""
    try:
        content = json.loads((folder / _files.EXPLAINED).read_text("utf-8"))
        return content["settings"].items() >= described.items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
