#!/bin/sh
# sixel_xterm_check.sh - pictures in a real xterm under Xvfb, pixels counted.
#
# The studio with the fake engine (test_studio --play) draws a red disc on a
# blue-green ground. In an xterm that says it has sixel (-ti vt340) it must come
# out in pixels (hundreds of colours); in one that does not, in half-blocks (few
# colours, but the same disc). It must still be there, in as many colours, while
# somebody types, and after other text has lain over it and gone, and after the
# window has another size; nothing of it may be left where a text screen covers it,
# nor after ^Q. The first screenshot stays in $SLUICE_BUILD/sixel_xterm.png.
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
disc()
{
    convert "$1" -color-matrix '1 0 -1  0 0 0  0 0 0' -channel R -separate -threshold 25% \
        -format '%[fx:int(mean*w*h+0.5)]' info:
}
colours() { convert "$1" -format %k info:; }

# Waits until a screenshot shows a disc of so many colours (or none), 15 s at most, and says so.
sees() # NAME yes|no [LEAST MOST]
{
    n=0 ok=1
    while [ $n -lt 30 ] && [ $ok -ne 0 ]; do
        [ $n -eq 0 ] || sleep 0.5
        n=$((n + 1))
        shot "$dir/$1.png"
        d=$(disc "$dir/$1.png") c=$(colours "$dir/$1.png")
        if [ "$2" = no ]; then
            [ "$d" -eq 0 ]
        else
            [ "$d" -gt 1000 ] && [ "$c" -ge "$3" ] && [ "$c" -le "$4" ]
        fi
        ok=$?
    done
    verdict "$1" $ok "$d pixels of the disc, $c colours"
}

press() { xdotool key "$@" >/dev/null 2>&1; }

begin() # TERMINAL-ID
{
    xterm -ti "$1" -T sluice-check -tn xterm-256color -fn 6x13 -geometry 80x24+0+0 -bg black -fg white -cr gray20 \
        -e sh -c "'$player' --play auto '$dir'; sleep 60" 2>/dev/null &
    xterm=$!
    sleep 1.5
    xdotool mousemove 200 200 >/dev/null 2>&1
    xdotool type --delay 20 "a disc" >/dev/null 2>&1
    press Return
}

end() # NAME
{
    press ctrl+q
    sees "$1_gone_after_quit" no
    kill "$xterm" 2>/dev/null
    wait "$xterm" 2>/dev/null
    xterm=''
}

begin vt340
sees sixel_in_xterm yes 150 100000
cp "$dir/sixel_in_xterm.png" "$build/sixel_xterm.png" 2>/dev/null
xdotool type --delay 30 " that stays where it is" >/dev/null 2>&1
sees sixel_while_typing yes 150 100000
press ctrl+s
sleep 0.5
press Escape
sees sixel_after_a_dialog yes 150 100000
press F1
sees sixel_gone_under_help no
press Escape
sees sixel_after_help yes 150 100000
press F7
sees sixel_gone_on_a_text_screen no
press Escape
sees sixel_after_a_text_screen yes 150 100000
window=$(xdotool search --name '^sluice-check$' 2>/dev/null | head -n 1)
xdotool windowsize "$window" 444 295 >/dev/null 2>&1
sees sixel_after_a_resize yes 150 100000
xdotool windowsize "$window" 490 320 >/dev/null 2>&1
sees sixel_after_another yes 150 100000
end sixel

begin vt100
sees half_blocks_in_xterm yes 10 120
end half_blocks
exit $failed
