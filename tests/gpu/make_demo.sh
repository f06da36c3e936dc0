#!/bin/sh
# make_demo.sh - makes tests/gpu/demo.safetensors: what the cpu device in fp32 does with the shipped
# model, stage by stage. From the repository's root, after `make`. Its last bits depend on the processor.
set -eu
dump=$(mktemp -d)
trap 'rm -rf "$dump"' EXIT
SLUICE_CACHE_BYTES=0 build/sluice generate -m assets/demo --device cpu --precision fp32 --seed 1 --steps 8 \
    --size 64x64 --dump-stages "$dump/stages.safetensors" -o "$dump/picture.png" "a red apple on a blue background"
cp "$dump/stages.safetensors" tests/gpu/demo.safetensors
