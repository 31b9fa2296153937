"""What does `AttentionMonitor` cost?

    python -m benchmarks.monitor --mode jax --repeats 4

Trains the small network with CBAM on the cluttered digits, and measures how
long each epoch takes and the monitor after it, so what else the machine does
meets both. The first epoch, in which some backends compile, is reported
separately.
"""

import statistics
import time

from benchmarks import arguments, results
from cbam_keras import AttentionMonitor, data
from cbam_keras.models.by_name import NETWORKS


def measure(epochs):
    """Returns the seconds of the monitor and of all, for each epoch."""
    images = data.load("cluttered_mnist")
    network = NETWORKS["small"](images, "cbam")
    network.compile("sgd", "sparse_categorical_crossentropy")
    monitor = AttentionMonitor(images.validation[0][0])
    monitor.set_model(network)
    measured = []
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
        measured.append((end - trained, end - start))
    return measured


def row(title, seconds):
    """Returns medians of the seconds of some epochs."""
    own, whole = map(statistics.median, zip(*seconds, strict=True))
    return {
        "epoch": title,
        "monitor (s)": f"{own:.2f}",
        "epoch (s)": f"{whole:.2f}",
        "share (%)": f"{100 * own / whole:.2f}",
    }


def main():
    options = arguments.parser(__doc__, repeats=6).parse_args()
    seconds = measure(max(options.repeats, 2))
    rows = [row("first", seconds[:1]), row("median of the others", seconds[1:])]
    record = {"seconds_of_monitor_and_epoch": seconds}
    results.write("monitor", options, record, [results.table(rows)])


if __name__ == "__main__":
    main()
