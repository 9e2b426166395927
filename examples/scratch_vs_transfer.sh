#!/usr/bin/env bash
# What a source model is worth: the same narrow QuartzNet on Mboshi from random weights and from a model of other languages
# (English, and nine that espeak-ng speaks), on all of the training data and on parts of it, with the same number of steps.
# With the environment active (make install; . .venv/bin/activate), in the project's folder:
#   bash examples/scratch_vs_transfer.sh [OUT]
# Ways: scratch; map (letters start from their relatives); new (random head); frozen (map, the encoder frozen for a quarter of the steps).
# Environment: FRACTIONS="100 50 25 10" SEEDS="0 1 2" WAYS="scratch map new frozen" EPOCHS=4 SOURCE_MINUTES=14 SOURCE_HOURS=0.35.
# Runs that are there already are not made again. Two hours or more on two cores.
set -euo pipefail
shared=${ANADIL_SHARED:-../shared}
out=${1:-runs/scratch-vs-transfer}
epochs=${EPOCHS:-4} # on all of the data; parts of it are heard as often more
config=examples/scratch_vs_transfer.yaml

if [ ! -d "$out/source/best" ]; then
    python examples/source_speech.py "$shared" "$out/source-speech" --hours "${SOURCE_HOURS:-0.35}"
    list() { local IFS=,; echo "[$*]"; }
    anadil train $config name=source language=und tokenizer.labels=auto data.skip_bad=true data.language_temperature=2 \
        data.train="$(list "$out"/source-speech/*/train.jsonl)" data.valid="$(list "$out"/source-speech/*/valid.jsonl)" \
        training.max_minutes="${SOURCE_MINUTES:-14}" training.validate_every=1 --out "$out/source" --force
fi
for fraction in ${FRACTIONS:-100 50 25 10}; do
    for seed in ${SEEDS:-0 1 2}; do
        for way in ${WAYS:-scratch map new frozen}; do
            run="$out/$way-$fraction-$seed"
            [ -d "$run/best" ] && continue
            part="$out/parts/$fraction-$seed.jsonl"
            python examples/scratch_vs_transfer.py part "$shared/speech/mboshi/train.jsonl" "$fraction" "$seed" "$part"
            n=$((epochs * 100 / fraction))
            init=(init.from="$out/source/best" training.flat_start_steps=0)
            case $way in
                scratch) init=() ;;
                map) init+=(init.head=map) ;;
                new) init+=(init.head=new) ;;
                frozen) init+=(init.head=map init.freeze=encoder init.unfreeze_after=$(((n + 3) / 4))) ;;
            esac
            anadil train $config data.train="$part" data.valid="$shared/speech/mboshi/valid.jsonl" \
                training.epochs=$n training.seed="$seed" "${init[@]}" --out "$run" --force
        done
    done
done
python examples/scratch_vs_transfer.py table "$out"
