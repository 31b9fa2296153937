"""What does `AttentionMonitor` cost?

    python -m benchmarks.monitor --mode jax --repeats 4

Trains the small network with CBAM on the cluttered digits, and measures how
long each epoch takes and the monitor after it, so what else the machine does
meets both. The first epoch, in which some backends compile, is reported
separately. Prints a table, and writes what is in it to `monitor-MODE.json` in
the output folder.
"""

import os
import sys

from benchmarks import modes

os.environ["KERAS_BACKEND"] = modes.backend_of(sys.argv)

import statistics
import time

from benchmarks import arguments, results
from cbam_keras import AttentionMonitor, _terminal, data
from cbam_keras.models.by_name import NETWORKS


def measure(epochs):
    """Returns the seconds of the monitor and of all, for each epoch."""
    images = data.load("cluttered_mnist")
    network = NETWORKS["small"](images, "cbam")
    network.compile("sgd", "sparse_categorical_crossentropy")
    monitor = AttentionMonitor(images.validation[0][0])
    monitor.set_model(network)
    own, whole = [], []
    for epoch in range(epochs):
        start = time.perf_counter()
        network.fit(
            images.train,
            validation_data=images.validation,
            verbose=0,
            shuffle=False,
        )
        trained = time.perf_counter()
        if epoch == 0:
            monitor.on_train_begin()
        monitor.on_epoch_end(epoch, {})
        end = time.perf_counter()
        own.append(end - trained)
        whole.append(end - start)
    return own, whole


def table(own, whole):
    """Returns the seconds and shares as a Markdown table."""
    shares = [100 * a / b for a, b in zip(own, whole, strict=True)]
    others = [statistics.median(x[1:]) for x in (own, whole, shares)]
    rows = [
        (title, *(f"{number:.2f}" for number in numbers))
        for title, numbers in (
            ("first", (own[0], whole[0], shares[0])),
            ("median of the others", others),
        )
    ]
    columns = {"epoch": "left", "monitor (s)": "right", "epoch (s)": "right"}
    columns |= {"share (%)": "right"}
    return _terminal.render(columns, [rows], markdown=True)


def main():
    parser = arguments.parser(__doc__.splitlines()[0], repeats=6)
    options = parser.parse_args()
    own, whole = measure(max(options.repeats, 2))
    record = {
        **results.conditions(options),
        "monitor_seconds": own,
        "epoch_seconds": whole,
    }
    results.write("monitor", options, record, [table(own, whole)])


if __name__ == "__main__":
    main()
