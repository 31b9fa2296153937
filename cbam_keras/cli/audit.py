"""The command `cbam-keras audit`."""

from cbam_keras import auditing
from cbam_keras.cli.arguments import imported


def add_options(parser):
    """Adds the options of the subcommand to its parser."""
    parser.describe(
        "Runs a layer with weights and features that tell its parts "
        "apart, and says where it departs from the paper. The exit "
        "status is 0 without departures and 1 with some.",
        "audit my_model:CBAMBlock",
    )
    parser.add_argument(
        "layer",
        metavar="MODULE:CLASS",
        help="a class of layers, or a function that takes the number of "
        "channels and returns a layer, or of a tensor that calls layers, in a "
        "module that is installed or in this folder",
    )
    parser.set_defaults(handler=_audit, prog=parser.prog)


def _audit(options):
    layer = imported("layer", options.layer, "MODULE:CLASS, a class of layers,")
    result = auditing.audit(layer)
    print(result)
    return 1 if result.departures else 0
