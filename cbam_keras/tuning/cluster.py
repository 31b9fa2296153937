"""The names by which the processes of a search find each other."""

import os

from cbam_keras._checks import parse_address

# Set by the supervisor for the processes that it starts.
SUPERVISOR = "CBAM_KERAS_SUPERVISOR"

WORKERS = "CBAM_KERAS_WORKERS"

# KerasTuner's own names for the same.
TUNER, HOST, PORT = (
    "KERASTUNER_TUNER_ID",
    "KERASTUNER_ORACLE_IP",
    "KERASTUNER_ORACLE_PORT",
)


def join(role: str, address: str) -> None:
    """Makes this process the chief, or a worker of that name, of a search."""
    host, port = parse_address(address)
    os.environ.update({TUNER: role, HOST: host, PORT: str(port)})
