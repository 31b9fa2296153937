"""The calls between the chief of a search and its workers.

They are KerasTuner's. Its server, its client and their protocol are private,
so this file alone imports them, and pyproject.toml keeps KerasTuner below the
next minor version.
"""

import os
import time
from concurrent import futures

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer
from keras_tuner.src.distribute.oracle_client import OracleClient

from cbam_keras.tuning.workers import HOST, PORT

# Without an answer for so long, there will be none.
SECONDS_WITHOUT_ANSWER = 600.0
SECONDS_PER_CALL = 30.0
SECONDS_BETWEEN_CALLS = 1.0
# The chief is being restarted.
PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


def start_server(oracle, address):
    """Returns a running server, which passes calls on to the oracle."""
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=1),
        # Otherwise a second chief would share the port, and the workers.
        options=[("grpc.so_reuseport", 0)],
    )
    protos.get_service_grpc().add_OracleServicer_to_server(
        OracleServicer(oracle), server
    )
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise ValueError(
            "The chief must listen on a free port of its own machine. "
            f"Received: address={address!r}, which cannot be bound"
        ) from error
    server.start()
    return server


class Client(OracleClient):
    """KerasTuner's client, which repeats calls while the chief restarts.

    A `DurableOracle` takes a call that is repeated as one call.
    """

    def __init__(self, oracle):
        super().__init__(oracle)
        # Where KerasTuner looks for the chief, too.
        address = f"{os.environ[HOST]}:{os.environ[PORT]}"
        self.stub = _Repeating(self.stub, address)


class _Repeating:
    """Repeats each call until it is answered."""

    def __init__(self, stub, address):
        self.stub = stub
        self.address = address

    def __getattr__(self, name):
        call = getattr(self.stub, name)
        return lambda request, **_: self._repeat(call, request)

    def _repeat(self, call, request):
        end = time.monotonic() + SECONDS_WITHOUT_ANSWER
        announced = False
        while True:
            try:
                return call(
                    request, wait_for_ready=True, timeout=SECONDS_PER_CALL
                )
            except grpc.RpcError as error:
                self._check(error, end)
            if not announced:
                print(
                    f"The chief does not answer at {self.address}; asking "
                    f"again for {SECONDS_WITHOUT_ANSWER:.0f} s",
                    flush=True,
                )
                announced = True
            time.sleep(SECONDS_BETWEEN_CALLS)

    def _check(self, error, end):
        """Raises unless the call is worth repeating."""
        if error.code() not in PASSING:
            raise RuntimeError(
                f"The chief of the search failed: {error.details()}"
            ) from error
        if time.monotonic() > end:
            raise RuntimeError(
                "The chief of the search has not answered for "
                f"{SECONDS_WITHOUT_ANSWER:.0f} s at {self.address}. The "
                "trials are safe; start the chief again, then the workers"
            ) from error
