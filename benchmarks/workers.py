"""What workers cost: the time beside the training, and their memory.

    python -m benchmarks.workers [--dask]

Cells that do nothing are recorded by two workers, 10, 100 and 1,000 of them:
by processes of this machine, or by Dask's `LocalCluster`. The first cell also
waits for the workers to import Keras.
"""

import argparse
import contextlib
import functools
import subprocess
import tempfile
import time

from cbam_keras import study
from cbam_keras.models.by_name import NETWORKS

WORKERS = 2


class Nothing(study.Cells):
    """Cells that are recorded untrained."""

    def train(self, cell):
        outcome = study.Outcome(*cell.key, "over budget")
        self.folder.record(outcome, self.folder.cell(*cell.key))


def nothing(count, output):
    """Returns so many cells in an output folder."""
    build = functools.partial(NETWORKS["tiny"], attention=None)
    task = study.Classification("mnist5k")
    plan = study.Study(
        task, [study.Variant("nothing", build)], seeds=range(count)
    )
    data = task.load(plan.recipe)
    folder = study.StudyFolder(output, plan, data)
    return Nothing(plan, folder, lambda seed: data, tensorboard=False)


def resident(pattern):
    """Returns the megabytes of each process whose command has a pattern."""
    found = subprocess.run(
        ["ps", "-eo", "rss,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    return [int(x.split()[0]) // 1024 for x in found if pattern in x]


@contextlib.contextmanager
def executors(is_dask):
    if not is_dask:
        with study.executor_of(WORKERS, None) as executor:
            yield executor
        return
    from dask.distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": None}
    with (
        LocalCluster(n_workers=WORKERS, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dask", action="store_true")
    options = parser.parse_args()
    start = time.perf_counter()
    with executors(options.dask) as executor:
        print(f"workers: {time.perf_counter() - start:.2f} s to start")
        for count in (10, 100, 1000):
            with tempfile.TemporaryDirectory() as output:
                make = functools.partial(nothing, count + 1, output)
                cells = make()
                with (
                    cells.folder.opened(),
                    study.training_by(executor, cells, make) as train_or_wait,
                    contextlib.redirect_stdout(None),
                ):
                    start = time.perf_counter()
                    while len(cells.missing()) > count:
                        train_or_wait()
                    first = time.perf_counter() - start
                    start = time.perf_counter()
                    while cells.missing():
                        train_or_wait()
                    seconds = (time.perf_counter() - start) / count
            print(
                f"{count:5} cells: the first {first:.2f} s, then "
                f"{1000 * seconds:.0f} ms each"
            )
        print("MB per training process:", resident("study.worker import"))


if __name__ == "__main__":
    main()
