#!/usr/bin/env bash
# What has to be seen on a machine with an NVIDIA GPU and can't be seen without one. Takes about ten minutes.
#
#   make gpu-check                      # or: OUT=FOLDER scripts/gpu_check.sh
#
# The engines and a training by their tests, then the quickstart for one round on vLLM's GPU build, with
# `train.accelerate: auto`. Everything written is kept in $OUT. It goes on after a failure and says what failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-$(mktemp -d)}
nvidia-smi | tee "$OUT/nvidia-smi.txt" || { echo "gpu-check: nvidia-smi finds no GPU." >&2; exit 2; }

failed=()
step() {
  local name=$1
  shift
  echo "== $name: $*"
  "$@" 2>&1 | tee "$OUT/$name.log" || failed+=("$name")
}

step launch .venv/bin/python -m pytest -q tests/test_launch.py tests/train/test_trainers.py
step quickstart .venv/bin/synthloop run configs/quickstart.yaml --run-dir "$OUT/quickstart" rounds=1
step engines .venv/bin/python -m pytest -q tests/engines
step training .venv/bin/python -m pytest -q tests/train/test_run.py tests/train/test_sft.py

echo "gpu-check: ${#failed[@]} of 4 steps failed${failed[*]:+: ${failed[*]}}. Logs: $OUT"
exit $((${#failed[@]} > 0))
