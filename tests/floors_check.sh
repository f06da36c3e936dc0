#!/bin/sh
# floors_check.sh - who may include whom, read from the #include lines.
#
# A file includes its own floor or a lower one. A file that has no floor fails:
# give it one below. Beside the floors:
#   the devices (cpu*, cuda*, ref, count) never include each other;
#   a model sees device, model and weights, nothing else;
#   values have no handles of the system in their headers;
#   the pure files of the studio include no header that knows a terminal or the system;
#   curses is term's alone, sixel graphics', oneDNN the cpu device's, nettle hash', sqlite3 store's;
#   no two files include each other, not even by way of others.
set -u
cd "$(dirname "$0")/.." || exit 1
edges=$(mktemp) || exit 1
trap 'rm -f "$edges"' EXIT

awk -v edges="$edges" '
function floors()
{
    place(1, "kernels", "act err tensor arena")
    place(2, "kernels", "device")
    place(3, "kernels", "cpu cpu_* cuda cuda_* ref count")
    place(4, "engine", "file yaml shelf cache hash config safetensors weights tok_text tok_clip tok_t5 image stb_image")
    place(4, "engine", "rng memory nvml clock")
    place(5, "engine", "model shapes sampler job job_text contact wildcard setting sheet preset preset_write profile")
    place(5, "engine", "event shelf_own")
    place(6, "engine", "queue stages synth pager record embeddings rates devices store import import_*")
    place(7, "engine", "layer clip t5 flux vae taef1")
    place(8, "engine", "plan pipeline")
    place(9, "engine", "engine doctor bench")
    place(10, "tui", "key keys keys_table edit input pace scale draw theme layout tiles presets prompts wish screen")
    place(10, "tui", "view screen_* pane_*")
    place(11, "tui", "graphics term worker service_* config studio commands cmd cmd_* main")
}

function place(floor, folder, names,    n, i, name)
{
    n = split(names, name, " ")
    for (i = 1; i <= n; i++) floor_of[folder "/" name[i]] = floor
}

# The floor of "engine/flux", 0 if it has none; "cpu_*" stands for cpu_ and anything.
function floor(stem,    family)
{
    if (stem in floor_of) return floor_of[stem]
    family = stem
    sub(/_[a-z0-9_]*$/, "_*", family)
    return family in floor_of ? floor_of[family] : 0
}

# x_internal.h is a part of x.
function stem_of(path) { sub(/(_internal)?\.[ch]u?h?$/, "", path); return path }

function device(stem) { sub(/^kernels\//, "", stem); sub(/_.*/, "", stem); return stem }

function wrong(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; faults++ }

BEGIN {
    floors()
    plain = " assert ctype errno inttypes limits math stdarg stdbool stddef stdint stdio stdlib string strings wchar " \
            "utf8proc "
}

FNR == 1 {
    files++
    me = stem_of(FILENAME)
    mine = floor(me)
    if (!mine) wrong(me " has no floor: give it one in tests/floors_check.sh")
}

/^[ \t]*#[ \t]*include[ \t]*"/ && mine {
    split($0, part, "\"")
    other = stem_of(part[2])
    theirs = floor(other)
    includes++
    if (!theirs)
        wrong("includes " part[2] ", which has no floor")
    else if (theirs > mine)
        wrong("floor " mine " includes " part[2] " of floor " theirs)
    else if (theirs == 3 && mine == 3 && device(me) != device(other))
        wrong("one device includes another: " part[2])
    else if (other ~ /^kernels\/(cpu|cuda)_/ && mine != 3)
        wrong(part[2] " is that device'\''s own")
    else if (mine == 7 && theirs != 7 && other !~ /^kernels\/(err|tensor|arena|device)$/ &&
             other !~ /^engine\/(model|weights)$/)
        wrong("a model sees device, model and weights only, not " part[2])
    if (other != me) print me, other > edges
}

/^[ \t]*#[ \t]*include[ \t]*</ && mine {
    split($0, part, /[<>]/)
    name = part[2]
    sub(/\.h$/, "", name)
    if ((mine == 10 || (mine == 5 && FILENAME ~ /\.h$/)) && !index(plain, " " name " "))
        wrong("floor " mine (mine == 5 ? " (values)" : " (pure)") " includes <" part[2] ">")
    if (name ~ /curses/ && me != "tui/term") wrong("only tui/term knows curses")
    if (name ~ /sixel/ && me != "tui/graphics") wrong("only tui/graphics knows sixel")
    if (name ~ /dnnl/ && device(me) != "cpu") wrong("only the cpu device knows oneDNN")
    if (name ~ /sqlite/ && me != "engine/store") wrong("only engine/store knows sqlite3")
    if (name ~ /nettle/ && me != "engine/hash") wrong("only engine/hash knows nettle")
}

END {
    if (!faults) printf "%d files, %d includes, every one of its own floor or a lower one\n", files, includes
    exit faults > 0
}
' $(find kernels engine tui -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort) || exit 1

# tsort names a loop on standard error.
loop=$(tsort "$edges" 2>&1 >/dev/null) || {
    echo "files that include each other:"
    echo "$loop" | sed 's,^tsort: \(.*: \)*,,'
    exit 1
}
