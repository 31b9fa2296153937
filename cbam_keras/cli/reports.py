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
    *("wanted", "flips", "method", "layer", "output", "data", "image_size"),
    *("split", "count", "seed", "batch_size"),
)


def explain(options: Options) -> None:
    for module in options.modules:
        import_object("import", module, "a module")
    fields = dataclasses.fields(report.Settings)
    settings = report.Settings(
        **{field.name: getattr(options, field.name) for field in fields}
    )
    paths = [pathlib.Path(path).expanduser() for path in options.paths]
    if len(paths) == 1 and report.has_masks(paths[0]):
        options.refuse(
            OF_HEAT, "for a run on masks, whose predictions it draws"
        )
        with progress_of(options):
            folder = report.draw_predictions(paths[0], settings.draw)
            if not options.no_report:
                report.try_to_write(paths[0])
        say(f"Predictions in {folder}")
        return
    with progress_of(options):
        explanation, folder = report.explain_files(
            paths,
            settings,
            output=options.output,
            data_options=options.data_options,
            described={},
            command=options.line,
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
            networks = report.find_networks(output)[0][: report.MAX_NETWORKS]
            hashes = {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
                for path in networks
            }
            if report.has_masks(output):
                report.draw_predictions(output)
            elif not _is_explained(folder, {"networks": hashes}):
                report.explain_files(
                    networks,
                    report.Settings(
                        data=options.data,
                        # The page shows those that networks get wrong.
                        count=64,
                        seed=options.seed or 0,
                    ),
                    output=output,
                    data_options=options.data_options,
                    described={"networks": hashes},
                    command=options.line,
                    mistakes=True,
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
