#!/bin/bash
# A search on a SLURM cluster: eight processes with a GPU each.
#
#   sbatch docs/cluster/slurm.sh
#
# Every process runs the same command, and trains the next trial that no other
# one trains. The folder given with --output must be on a file system that all
# nodes see. When a process runs out of time, submit it again: it resumes from
# the last finished epoch.
#SBATCH --job-name=cbam-search
#SBATCH --array=0-7
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

cbam-keras tune \
    --data cifar10 --data-dir "$HOME/tensorflow_datasets" \
    --model resnet18 --recipe small_images --epochs 20 \
    --output "$PWD/runs/tune-cifar10"
