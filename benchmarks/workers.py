"""What workers cost: the time beside the training, and their memory.

    python -m benchmarks.workers [--dask]

Cells that do nothing are recorded by two workers, 10, 100 and 1,000 of them:
by processes of this machine, or by Dask's `LocalCluster`. The first cell also
waits for the workers to import Keras.
"""

import argparse
import contextlib
import functools
import pathlib
import subprocess
import tempfile
import time

from cbam_keras import study
from cbam_keras.models.by_name import NETWORKS

WORKERS = 2


def planned():
    build = functools.partial(NETWORKS["tiny"], attention=None)
    variants = [study.Variant("nothing", build)]
    task = study.Classification("mnist5k")
    return study.Study(task, variants, seeds=range(1000))


def recorder(output):
    """Returns the trainer of cells that do nothing."""
    plan = planned()
    folder = study.StudyFolder(output, plan, plan.task.load(plan.recipe))
    folder.join()

    def record(variant, seed):
        with folder.claim(variant, seed):
            outcome = study.Outcome(variant, seed, "over budget")
            folder.record(outcome, folder.cell(variant, seed))

    return record


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
    plan = planned()
    data = plan.task.load(plan.recipe)
    start = time.perf_counter()
    with executors(options.dask) as executor:
        print(f"workers: {time.perf_counter() - start:.2f} s to start")
        for count in (10, 100, 1000):
            with tempfile.TemporaryDirectory() as output:
                folder = study.StudyFolder(pathlib.Path(output), plan, data)
                make = functools.partial(recorder, folder.path)
                with (
                    folder.opened(),
                    study.pool_of(executor, folder, make) as pool,
                    contextlib.redirect_stdout(None),
                ):
                    start = time.perf_counter()
                    pool.submit("nothing", 999)
                    pool.outcome("nothing", 999)
                    first = time.perf_counter() - start
                    start = time.perf_counter()
                    for seed in range(count):
                        pool.submit("nothing", seed)
                    for seed in range(count):
                        pool.outcome("nothing", seed)
                    seconds = (time.perf_counter() - start) / count
            print(
                f"{count:5} cells: the first {first:.2f} s, then "
                f"{1000 * seconds:.0f} ms each"
            )
        print("MB per training process:", resident("study.worker import"))


if __name__ == "__main__":
    main()
