#!/bin/sh
# screenshot.sh [OUT.png] - makes assets/screenshot.png for the README: the real
# program on the shipped model, in an xterm with sixel under Xvfb. Not a test.
# PROMPT, SEED and GEOMETRY in the environment choose what is seen.
set -eu
out=${1:-assets/screenshot.png}
prompt=${PROMPT:-a red apple on a blue background}
dir=$(mktemp -d)
xvfb='' xterm=''
cleanup() {
    [ -z "$xterm" ] || kill "$xterm" 2>/dev/null || true
    [ -z "$xvfb" ] || kill "$xvfb" 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
Xvfb -displayfd 3 -screen 0 1280x900x24 -nolisten tcp 3>"$dir/display" 2>/dev/null &
xvfb=$!
while [ ! -s "$dir/display" ]; do sleep 0.2; done
DISPLAY=:$(cat "$dir/display")
export DISPLAY LC_ALL=C.UTF-8
mkdir -p "$dir/home"
unset TMUX COLORTERM NO_COLOR
HOME="$dir/home" xterm -T sluice-shot -ti vt340 -tn xterm-256color -fa 'DejaVu Sans Mono' -fs 11 -bg '#14161a' -fg '#d8d8d8' \
    -cr '#d8d8d8' -geometry "${GEOMETRY:-100x30}+0+0" -e "${SLUICE_BUILD:-build}/sluice" &
xterm=$!
sleep 3
window=$(xdotool search --name '^sluice-shot$' | head -n 1)
xdotool windowfocus "$window" type --delay 10 "$prompt"
if [ -n "${SEED:-}" ]; then
    xdotool key shift+Tab shift+Tab key ctrl+u type --delay 10 "$SEED"
    xdotool key Tab Tab
fi
xdotool key Return
sleep "${SECONDS_TO_WAIT:-6}"
import -window "$window" "$dir/shot.png"
# 256 colours keep it small; the picture in it has no more than that.
convert "$dir/shot.png" -strip +dither -colors 256 -define png:compression-level=9 PNG8:"$out"
ls -l "$out"
