#!/bin/sh
# registers.sh BUILD - what nvcc's assembler said of the kernels in BUILD/cuda/kernels/*.registers
# as a table: kernel, architecture, registers, shared memory, spilled bytes. Exit 1 if one spills,
# 2 if there is no such report.
set -u
set -- "${1:-build}"/cuda/kernels/*.registers
[ -e "$1" ] || { echo "no nvcc has built the kernels here"; exit 2; }
names=cat
command -v c++filt >/dev/null && names=c++filt
cat "$@" | $names | awk '
/Compiling entry function/ {
    match($0, /\047.*\047 for/); kernel = substr($0, RSTART + 1, RLENGTH - 6)
    sub(/^void /, "", kernel); sub(/\(.*$/, "", kernel)
    match($0, /sm_[0-9]+/); arch = substr($0, RSTART, RLENGTH)
    stack = stores = loads = 0
}
/bytes stack frame/ {
    for (i = 2; i <= NF; i++) if ($i == "bytes") {
        if ($(i + 1) == "stack") stack = $(i - 1)
        if ($(i + 2) ~ /^stores/) stores = $(i - 1)
        if ($(i + 2) ~ /^loads/) loads = $(i - 1)
    }
}
/Used [0-9]+ registers/ {
    registers = shared = 0
    for (i = 2; i <= NF; i++) {
        if ($i ~ /^registers/) registers = $(i - 1)
        if ($i == "bytes" && $(i + 1) ~ /^smem/) shared = $(i - 1)
    }
    line[++n] = sprintf("%-90s %-7s %4d %7d %6d", kernel, arch, registers, shared, stores + loads)
    spills += stores + loads > 0
}
END {
    printf "%-90s %-7s %4s %7s %6s\n", "kernel", "card", "regs", "shared", "spills"
    for (i = 1; i <= n; i++) print line[i] | "sort"
    close("sort")
    printf "%d kernels, %d spill\n", n, spills
    exit spills > 0
}'
