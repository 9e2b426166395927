#!/usr/bin/env bash
# A phonetic source model: speech of 59 voices and languages with transcripts in IPA, then training. A new language starts
# from it: anadil train configs/transfer.yaml init.from=runs/source-model/model/best language=mdw ...
# With the environment active (make install; . .venv/bin/activate), in the project's folder:
#   bash examples/source_model.sh [OUT]
# Environment: MINUTES=120 HOURS=0.13 (of each voice) ONLY=sw,fi (sentences of these languages; empty: all).
# Two hours on two cores. It leaves OUT/source-model.tar.gz, the file to give to others (9 MB).
set -euo pipefail
shared=${ANADIL_SHARED:-../shared}
out=${1:-runs/source-model}

if [ ! -f "$out/speech/valid.jsonl" ]; then
    python examples/phonetic_speech.py "$shared" "$out/speech" --hours "${HOURS:-0.13}" --only "${ONLY:-}"
fi
anadil train examples/source_model.yaml data.train="$out/speech/train.jsonl" data.valid="$out/speech/valid.jsonl" \
    training.max_minutes="${MINUTES:-120}" --out "$out/model"
tar -C "$out/model" -czf "$out/source-model.tar.gz" best
ls -l "$out/source-model.tar.gz"
