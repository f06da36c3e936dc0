#!/bin/sh
# run.sh BUILD [TEST...] - runs these or every test of BUILD/tests, from the repository root, and sums up.
# The last line is "N passed, N failed, N skipped"; exit 1 if any failed.
set -u
build=$1
shift
passed=0 failed=0 skipped=0
export SLUICE_BUILD="$build" OMP_WAIT_POLICY=passive
# Nothing of the user's is read or written; a test that is about the cache makes its own.
export XDG_CACHE_HOME="$PWD/$build/test-cache" XDG_STATE_HOME="$PWD/$build/test-state" SLUICE_CACHE_BYTES=0
export XDG_DATA_HOME="$PWD/$build/test-data"
# The processor computes, whatever this build and this machine have; a test that is about a card says so.
export SLUICE_CUDA= SLUICE_NVML=
[ $# -gt 0 ] || set -- "$build"/tests/test_* tests/*_check.sh
for t in "$@"; do
    case $t in *.o|*.d) continue ;; esac
    [ -x "$t" ] || continue
    log="$build/$(basename "$t").log"
    start=$(date +%s)
    "$t" >"$log" 2>&1
    rc=$?
    seconds=$(( $(date +%s) - start ))
    # Count whole cases where the runner tells of them, else the file as one.
    # The runner names failures twice: beside the case and again below its summary line.
    cases=$(sed '/^\[==========\] .* run/,$d' "$log" | tr -d '\0')
    p=$(printf '%s\n' "$cases" | grep -ac '^\[       OK \]') || p=0
    f=$(printf '%s\n' "$cases" | grep -ac '^\[  FAILED  \] [A-Za-z0-9_:-]*$') || f=0
    s=$(printf '%s\n' "$cases" | grep -ac '^\[  SKIPPED \] [A-Za-z0-9_:-]*$') || s=0
    if [ "$rc" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    if [ "$rc" -eq 0 ] && [ $((p + s)) -eq 0 ]; then p=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-24s %4d passed %3d failed %3d skipped %5ds\n' "$(basename "$t")" "$p" "$f" "$s" "$seconds"
    if [ "$rc" -ne 0 ]; then tail -n 40 "$log"; fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
