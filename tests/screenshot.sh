#!/bin/sh
# screenshot.sh [FOLDER] - makes the README's pictures in FOLDER (assets): the real program on the
# shipped model, in an xterm with sixel under Xvfb. Not a test; look at what it makes.
#   screenshot.png            the main screen with a picture
#   screenshot-gallery.png    the gallery
#   screenshot-profiles.png   the profile editor
set -eu
folder=${1:-assets}
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
SLUICE_CUDA='' HOME="$dir/home" XDG_STATE_HOME="$dir/state" XDG_CACHE_HOME="$dir/cache" xterm -T sluice-shot -ti vt340 \
    -tn xterm-256color -fa 'DejaVu Sans Mono' -fs 11 -bg '#14161a' -fg '#d8d8d8' -cr '#d8d8d8' \
    -geometry "${GEOMETRY:-120x36}+0+0" -e "${SLUICE_BUILD:-build}/sluice" &
xterm=$!
sleep 3
window=$(xdotool search --name '^sluice-shot$' | head -n 1)
xdotool windowfocus "$window"

keys() { xdotool key --delay 60 "$@"; }

# A prompt in the place of the one before, with its seed, and its picture.
draw() {
    keys ctrl+a ctrl+k
    xdotool type --delay 10 "$1"
    keys Return
    sleep "${SECONDS_TO_WAIT:-4}"
}

# 256 colours keep it small; the pictures in it have no more than that.
shot() {
    sleep 2
    import -window "$window" "$dir/shot.png"
    convert "$dir/shot.png" -strip +dither -colors 256 -define png:compression-level=9 PNG8:"$folder/$1.png"
    ls -l "$folder/$1.png"
}

draw 'a {panda face|penguin|hamburger} on a {blue|pink} background'
draw 'a {rocket|red apple} on a yellow background'
draw 'a tiger face on a black background'
shot screenshot
keys F5
shot screenshot-gallery
keys Escape F3
sleep 1
keys Down Tab
shot screenshot-profiles
