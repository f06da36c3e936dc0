#!/bin/sh
# sixel_xterm_check.sh - pictures in a real xterm under Xvfb, pixels counted.
#
# The studio with the fake engine (test_studio --play) draws a red disc on a
# blue-green ground. In an xterm that says it has sixel (-ti vt340) it must come
# out in pixels (hundreds of colours); in one that does not, in half-blocks (few
# colours, but the same disc); after ^Q nothing of it may be left. The first
# screenshot stays in $SLUICE_BUILD/sixel_xterm.png.
set -u
build=${SLUICE_BUILD:-build}
player=$build/tests/test_studio
for tool in Xvfb xterm xdotool import convert; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "[  SKIPPED ] sixel_in_xterm"
        echo "skipped: $tool is not installed"
        exit 0
    fi
done
[ -x "$player" ] || { echo "[  SKIPPED ] sixel_in_xterm"; echo "skipped: $player is not built"; exit 0; }

dir=$(mktemp -d) || exit 1
xvfb='' xterm=''
cleanup() {
    [ -n "$xterm" ] && kill "$xterm" 2>/dev/null
    [ -n "$xvfb" ] && kill "$xvfb" 2>/dev/null
    wait 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

Xvfb -displayfd 3 -screen 0 520x340x24 -nolisten tcp 3>"$dir/display" 2>"$dir/xvfb.log" &
xvfb=$!
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -s "$dir/display" ] && break
    sleep 0.5
done
if [ ! -s "$dir/display" ]; then
    echo "[  SKIPPED ] sixel_in_xterm"
    echo "skipped: Xvfb does not start: $(tail -n 1 "$dir/xvfb.log")"
    exit 0
fi
DISPLAY=:$(cat "$dir/display")
export DISPLAY LC_ALL=C.UTF-8
unset TMUX COLORTERM NO_COLOR

failed=0
verdict() { # name, condition's exit status, what was seen
    if [ "$2" -eq 0 ]; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1"; failed=1; fi
    echo "  $1: $3"
}

shot() { import -window root "$1" 2>/dev/null; }
# Pixels of the disc (red well above blue), and colours in all.
disc() { convert "$1" -fx '(u.r > 0.5 && u.r > u.b + 0.25) ? 1 : 0' -format '%[fx:int(mean*w*h+0.5)]' info:; }
colours() { convert "$1" -format %k info:; }

# Waits until a screenshot shows a disc (or none), 20 s at most.
until_disc() { # file, wanted: yes or no
    n=0
    while [ $n -lt 20 ]; do
        shot "$1"
        d=$(disc "$1")
        if [ "$2" = yes ] && [ "$d" -gt 1000 ]; then return 0; fi
        if [ "$2" = no ] && [ "$d" -eq 0 ]; then return 0; fi
        sleep 1
        n=$((n + 1))
    done
    return 1
}

look() { # name, terminal id, least colours, most colours
    xterm -ti "$2" -tn xterm-256color -fn 6x13 -geometry 80x24+0+0 -bg black -fg white -cr gray20 \
        -e sh -c "'$player' --play auto '$dir'; sleep 60" 2>/dev/null &
    xterm=$!
    sleep 2
    xdotool mousemove 200 200 >/dev/null 2>&1
    xdotool type --delay 20 "a disc" >/dev/null 2>&1
    xdotool key Return >/dev/null 2>&1
    until_disc "$dir/$1.png" yes
    there=$?
    sleep 2
    shot "$dir/$1.png"
    d=$(disc "$dir/$1.png") c=$(colours "$dir/$1.png")
    [ "$there" -eq 0 ] && [ "$d" -gt 1000 ] && [ "$c" -ge "$3" ] && [ "$c" -le "$4" ]
    verdict "$1" $? "$d pixels of the disc, $c colours"
    xdotool key ctrl+q >/dev/null 2>&1
    until_disc "$dir/after.png" no
    verdict "$1_gone_after_quit" $? "$(disc "$dir/after.png") pixels of the disc left"
    kill "$xterm" 2>/dev/null
    wait "$xterm" 2>/dev/null
    xterm=''
}

look sixel_in_xterm vt340 150 100000
cp "$dir/sixel_in_xterm.png" "$build/sixel_xterm.png" 2>/dev/null
look half_blocks_in_xterm vt100 10 120
exit $failed
