"""What does `AttentionMonitor` cost?

    python -m benchmarks.monitor --output runs/monitor

Trains the small network with CBAM on the cluttered digits, and measures in
each epoch how much of it the monitor takes: the same epoch has both times, so
what else the machine does meets both. The first epoch, in which some backends
compile, is reported separately. Prints a table and writes what is in it to
`monitor.json` in the output folder, for the backend of `KERAS_BACKEND`.
"""

import argparse
import os
import pathlib
import platform
import statistics
import time

import keras

from cbam_keras import AttentionMonitor, _files, _terminal, data, study
from cbam_keras.models.by_name import NETWORKS


class Timed(AttentionMonitor):
    """A monitor that notes how long it takes, and its epochs."""

    def __init__(self, images):
        super().__init__(images)
        self.own, self.epochs = [], []

    def on_train_begin(self, logs=None):
        start = time.perf_counter()
        super().on_train_begin(logs)
        self.before = time.perf_counter() - start

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        end = time.perf_counter()
        super().on_epoch_end(epoch, logs)
        self.own.append(time.perf_counter() - end + self.before)
        self.before = 0
        self.epochs.append(time.perf_counter() - self.start)


def measure(model, epochs):
    """Returns the seconds of the monitor and of all, for each epoch."""
    images = data.load("cluttered_mnist")
    network = NETWORKS[model](images, "cbam")
    network.compile("sgd", "sparse_categorical_crossentropy")
    monitor = Timed(images.validation[0][0])
    network.fit(
        images.train,
        validation_data=images.validation,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[monitor],
    )
    return monitor.own, monitor.epochs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="small", choices=NETWORKS)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("runs/monitor")
    )
    options = parser.parse_args()
    output = _files.output_folder(options.output)
    own, epochs = measure(options.model, options.epochs)
    _files.write_json(
        output / "monitor.json",
        {
            "versions": study.versions(),
            "backend": keras.backend.backend(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "model": options.model,
            "monitor_seconds": own,
            "epoch_seconds": epochs,
        },
    )
    shares = [100 * a / b for a, b in zip(own, epochs, strict=True)]
    rows = [
        (title, *(f"{number:.2f}" for number in numbers))
        for title, numbers in (
            ("first", (own[0], epochs[0], shares[0])),
            (
                "median of the others",
                [statistics.median(x[1:]) for x in (own, epochs, shares)],
            ),
        )
    ]
    columns = {"epoch": "left", "monitor (s)": "right", "epoch (s)": "right"}
    columns |= {"share (%)": "right"}
    print(_terminal.render(columns, [rows], markdown=True))


if __name__ == "__main__":
    main()
