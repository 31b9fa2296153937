"""Keeps what TensorFlow logs at its start away from users of the command.

TensorFlow writes some lines before it reads its own log level, so they are
caught while it is imported.
"""

import contextlib
import glob
import logging
import os
import re
import tempfile
from collections.abc import Iterator

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Lines of level "I", for information, with what introduces or continues them.
NOISE = (
    rb"I\d{4} ",
    rb"WARNING: All log messages before absl::InitializeLog",
    rb"To enable the following instructions:",
)
# An error only for those who have a GPU.
NO_GPU = rb"E\d{4} .*failed call to cuInit"


def is_noise(line: bytes) -> bool:
    """Returns whether a line that TensorFlow logs tells users nothing."""
    patterns = list(NOISE)
    if not glob.glob("/dev/nvidia*"):
        patterns.append(NO_GPU)
    return any(re.match(pattern, line) for pattern in patterns)


def is_no_retracing(record: logging.LogRecord) -> bool:
    """Returns whether to keep what TensorFlow's logger says."""
    return "triggered tf.function retracing" not in record.getMessage()


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Context in which stderr is caught; at its end all but noise follows."""
    try:
        real = os.dup(2)
    except OSError:
        # The process has no stderr.
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            caught.seek(0)
            for line in caught:
                if not is_noise(line):
                    os.write(2, line)


def import_quietly() -> None:
    """Imports Keras with its backend; a log level of the user's is kept."""
    if LEVEL in os.environ:
        return
    # Without level "I"; warnings and errors remain.
    os.environ[LEVEL] = "1"
    with without_noise():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Looks for GPUs, and logs if there are none.
            tf.config.list_physical_devices()
            # Every network that is trained is traced, and tracing counts by
            # the name of Keras' function.
            tf.get_logger().addFilter(is_no_retracing)
