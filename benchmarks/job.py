"""How long does the first command take, and what takes the time?

    python -m benchmarks.job --mode tensorflow-graph --output runs/bench

Runs `cbam-keras train` as it is and in other ways, by turns, each in a process
of its own; then trains an epoch of each of its networks in this process, and
times the first step, which compiles, a usual one, and the last one, whose
batch is smaller.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import keras

from benchmarks import arguments, results
from cbam_keras import comparison, study
from cbam_keras.data import for_fit
from cbam_keras.study.plans.networks import build_network

COMMAND = [sys.executable, "-m", "cbam_keras", "train"]
ONE = "--workers=1"
# As TensorFlow itself on processors without AVX-512.
OLD = {"TF_ENABLE_ONEDNN_OPTS": "0"}
# The options and the environment of each way.
WAYS = {
    "as it is": ([], {}),
    "one process": ([ONE], {}),
    "one process, no oneDNN": ([ONE], OLD),
}


class Timer(keras.callbacks.Callback):
    """Collects the seconds of each step."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def run(options, environment, data):
    """Returns the seconds: all, until networks are trained, of each epoch."""
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/run"
        start, first, trained = time.perf_counter(), None, None
        with subprocess.Popen(
            [*COMMAND, *options, f"--data={data}", f"--output={output}"],
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            for line in process.stdout:
                first = first or time.perf_counter() - start
                if line.startswith("Results in"):
                    trained = time.perf_counter() - start
        if process.returncode:
            raise RuntimeError(f"cbam-keras train failed: {options}")
        every = {"all": time.perf_counter() - start, "first line": first}
        outcomes = study.Results.read(output).runs
        epochs = {f"epoch of {x.variant}": x.seconds for x in outcomes}
        every |= {"networks trained": trained} | epochs
        print(*options, environment, every, file=sys.stderr, flush=True)
        return every


def steps(planned, data):
    """Yields the seconds of the steps of each network."""
    for variant in planned.variants:
        model = build_network(planned, variant, 0, data)
        planned.task.compile(model, planned.recipe.stages[-1], data)
        timer = Timer()
        model.fit(for_fit(data.train), callbacks=[timer], verbose=0)
        first, *middle, last = timer.seconds
        yield {
            "network": variant.name,
            "first step (s)": f"{first:.1f}",
            "a step (ms)": f"{1000 * statistics.median(middle):.1f}",
            "last step (s)": f"{last:.1f}",
        }


def main():
    parser = arguments.parser(__doc__, repeats=3)
    parser.add_argument("--data", default="mnist5k")
    options = parser.parse_args()
    planned = comparison.plan(data=options.data)
    parts = [*steps(planned, planned.load(0))]
    rounds = []
    for _ in range(options.repeats):
        rounds.append({k: run(*way, options.data) for k, way in WAYS.items()})
    rows = []
    for name in WAYS:
        cells = {
            key: statistics.median(x[name][key] for x in rounds)
            for key in rounds[0][name]
        }
        texts = {f"{key} (s)": f"{x:.1f}" for key, x in cells.items()}
        rows.append({"": name, **texts})
    tables = [results.table(rows), results.table(parts)]
    results.write("job", options, {"rows": rows, "steps": parts}, tables)


if __name__ == "__main__":
    main()
