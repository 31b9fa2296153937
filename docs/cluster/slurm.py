"""A search on a SLURM cluster: up to eight jobs with a GPU each.

    pip install dask-jobqueue
    python docs/cluster/slurm.py

Run it on a login node, in a folder that all nodes see. Jobs are submitted as
there is work; when one runs out of time, its network goes on in another. Where
this script is ended, start it again: the search resumes.
"""

from dask.distributed import Client
from dask_jobqueue import SLURMCluster

from cbam_keras import tuning
from cbam_keras.study.programs.training import RECIPES

cluster = SLURMCluster(
    # One network at a time in each job, with eight cores and a GPU.
    cores=1,
    job_cpu=8,
    memory="32GB",
    walltime="24:00:00",
    job_extra_directives=["--gpus=1"],
)
cluster.adapt(maximum=8)
with Client(cluster) as client:
    print(f"Dashboard: {client.dashboard_link}")
    results = tuning.search(
        tuning.CBAMHyperModel(model="resnet18"),
        "cifar10",
        RECIPES["small_images"],
        executor=client.get_executor(),
        output="runs/tune-cifar10",
    )
print(results)
