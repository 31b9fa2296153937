"""How a worker talks to the chief of a search, who may be gone for a while."""

import os
import time

import grpc
from keras_tuner.src.distribute.oracle_client import OracleClient

from cbam_keras.tuning.cluster import HOST, PORT

# Without an answer for so long, nobody will give one.
PATIENCE = 600.0
ONE_CALL = 30.0
PAUSE = 1.0
PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


class Client(OracleClient):
    """KerasTuner's client, which asks again while the chief is restarted.

    What it may be told twice, a `Durable` oracle takes once.
    """

    def __init__(self, oracle):
        super().__init__(oracle)
        # Where KerasTuner finds it too.
        address = f"{os.environ[HOST]}:{os.environ[PORT]}"
        self.stub = _Patient(self.stub, address)


class _Patient:
    """Repeats each call until it is answered."""

    def __init__(self, stub, address):
        self.stub = stub
        self.address = address

    def __getattr__(self, name):
        call = getattr(self.stub, name)

        def repeat(request, **_):
            end = time.monotonic() + PATIENCE
            told = False
            while True:
                try:
                    return call(request, wait_for_ready=True, timeout=ONE_CALL)
                except grpc.RpcError as error:
                    if error.code() not in PASSING:
                        raise RuntimeError(
                            f"The chief of the search failed: {error.details()}"
                        ) from error
                    if time.monotonic() > end:
                        raise RuntimeError(
                            "The chief of the search has not answered for "
                            f"{PATIENCE:.0f} s at {self.address}. The trials "
                            "are safe; start the chief again, then the "
                            "workers"
                        ) from error
                if not told:
                    print(
                        f"The chief does not answer at {self.address}; asking "
                        f"again for {PATIENCE:.0f} s",
                        flush=True,
                    )
                    told = True
                time.sleep(PAUSE)

        return repeat
