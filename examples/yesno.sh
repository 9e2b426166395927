#!/usr/bin/env bash
# The smoke test of the field: Hebrew yes and no (OpenSLR 1), 30 recordings to train on, 30 to test, in under a minute.
# With the environment active (make install; . .venv/bin/activate), in the project's folder:
#   bash examples/yesno.sh FOLDER_WITH_THE_60_RECORDINGS [OUT]
set -euo pipefail
speech=${1:-${ANADIL_SHARED:-../shared}/speech/yesno}
out=${2:-runs/yesno}
python examples/yesno_manifests.py "$speech" "$out/data"
anadil train configs/yesno.yaml data.train="$out/data/train.jsonl" --out "$out/run" --force
anadil evaluate "$out/run/last" "$out/data/test.jsonl"
