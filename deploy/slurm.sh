#!/bin/bash
# A client's job in 20 parts, as a Slurm array:
#   sbatch --wait deploy/slurm.sh && sirnn merge --output predictions.csv
# Parts that are done are not computed again, so that a job that lost some tasks may simply be submitted again.
#SBATCH --job-name=sirnn
#SBATCH --array=0-19
#SBATCH --cpus-per-task=1
#SBATCH --mem=5G
#SBATCH --requeue
set -euo pipefail

# Slurm says which part this is, and how many there are.
exec sirnn infer --shard auto \
    --connect sirnn-a.example:7700 --connect sirnn-b.example:7700 --retry 600 \
    --certificate tls/certificate.pem --key tls/key.pem --peer-fingerprint-file tls/servers \
    --input items.npy --output predictions.csv
