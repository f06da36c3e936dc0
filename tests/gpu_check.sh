#!/bin/sh
# gpu_check.sh - gpu-check itself works: all of it, small, on the pretended card (tests/cuda); and without a
# card it says so.
set -u
build=${SLUICE_BUILD:-build}
out="$build/gpu-check-small"
rm -rf "$out"
ulimit -c 0
if SLUICE_CUDA='' "$build/gpu-check" --small --out "$out" >"$out.none" 2>&1; then
    echo "gpu-check without a card: expected a failure"; exit 1
fi
grep -q '^gpu-check: .' "$out.none" || { echo "gpu-check without a card does not say why"; cat "$out.none"; exit 1; }
SLUICE_CUDA="$build/fake/libsluice-cuda.so" "$build/gpu-check" --small --out "$out" || exit 1
for part in operations golden demo quality budgets full; do
    grep -q "\"part\": \"$part\", \"outcome\": \"\(passed\|measured\)\"" "$out/report.json" ||
        { echo "the report has nothing of $part"; exit 1; }
done
for goal in 'resident step over products' 'over its floor' 'recorded as one' 'VAE decoder' '| T5'; do
    grep -q "$goal" "$out/report.md" || { echo "the report lacks: $goal"; exit 1; }
done
