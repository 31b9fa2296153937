"""The subcommand `check`."""

import keras

from _cbam_keras_command.parser import Options
from cbam_keras import insertion
from cbam_keras._terminal import say


def check_file(options: Options) -> int:
    """Prints what the attention in a file computes; 1 if some is wrong."""
    try:
        model = keras.saving.load_model(options.file, compile=False)
    # A file may hold anything, and Keras raises as much.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            "`file` must be a model that Keras loads, `.keras` or `.h5`. One "
            "with classes of your own: load it in Python and pass it to "
            "`cbam_keras.insertion.check`. Received: "
            f'file="{options.file}" ({type(error).__name__}: {reason})'
        ) from error
    report = insertion.check(model)
    say(report)
    return int(not report.passed)
