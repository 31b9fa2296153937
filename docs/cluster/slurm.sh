#!/bin/bash
# A search on a SLURM cluster: one chief, and a worker for each GPU.
#
#   sbatch docs/cluster/slurm.sh
#
# The folder given with --output must be on a file system that all nodes see:
# models are kept there, and the search is resumed from there. When the job
# runs out of time, submit it again: the search resumes.
#SBATCH --job-name=cbam-search
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

search=(
    cbam-keras tune
    --data cifar10 --data-dir "$HOME/tensorflow_datasets"
    --model resnet18 --recipe small_images --epochs 20
    --algorithm hyperband
    --output "$PWD/runs/tune-cifar10"
)
# The chief runs on the first node, beside the workers, and takes no GPU.
address="$(hostname):8765"

CUDA_VISIBLE_DEVICES= "${search[@]}" --chief --address "$address" &
chief=$!
srun "${search[@]}" --worker --address "$address" &
workers=$!

# The chief ends, with the table of results, when every trial is done. A worker
# that dies is missed after a minute, and its trial goes to another one.
status=0
wait "$chief" || status=$?
wait "$workers" || true
exit "$status"
