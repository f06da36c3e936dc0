#!/bin/sh
# screenshot.sh [FOLDER] - makes the README's pictures in FOLDER (assets): the real program on the
# shipped model, in an xterm with sixel under Xvfb. Not a test; look at what it makes.
#   screenshot.png            the main screen with a picture
#   screenshot-gallery.png    the gallery
#   screenshot-sheet.png      a contact sheet, two of it marked
#   screenshot-picture.png    two pictures beside each other, on the whole screen
#   screenshot-queue.png      the queue, at work
#   screenshot-profiles.png   the profile editor
#   screenshot-doctor.png     the doctor
set -eu
folder=${1:-assets}
for tool in Xvfb xterm xdotool import convert; do
    command -v "$tool" >/dev/null || { echo "screenshot.sh: $tool is missing (make check installs it)" >&2; exit 1; }
done
dir=$(mktemp -d)
xvfb='' xterm=''
cleanup() {
    [ -z "$xterm" ] || kill "$xterm" 2>/dev/null || true
    [ -z "$xvfb" ] || kill "$xvfb" 2>/dev/null || true
    wait
    rm -rf "$dir"
}
trap cleanup EXIT
Xvfb -displayfd 3 -screen 0 1280x900x24 -nolisten tcp 3>"$dir/display" 2>/dev/null &
xvfb=$!
while [ ! -s "$dir/display" ]; do sleep 0.2; done
DISPLAY=:$(cat "$dir/display")
export DISPLAY LC_ALL=C.UTF-8
mkdir -p "$dir/home"
unset TMUX COLORTERM NO_COLOR XDG_CONFIG_HOME XDG_DATA_HOME XDG_PICTURES_DIR
# Lines and blocks drawn by xterm itself meet from row to row; the font's do not.
SLUICE_CUDA='' HOME="$dir/home" XDG_STATE_HOME="$dir/state" XDG_CACHE_HOME="$dir/cache" xterm -T sluice-shot -ti vt340 \
    -tn xterm-256color -fa 'DejaVu Sans Mono' -fs 12 -bg '#14161a' -fg '#d8d8d8' -cr '#d8d8d8' \
    -xrm 'XTerm.vt100.forceBoxChars: true' -xrm 'XTerm.vt100.metaSendsEscape: true' -b 6 -geometry "${GEOMETRY:-120x36}+0+0" -e "${SLUICE_BUILD:-build}/sluice" &
xterm=$!

window='' n=0
while [ -z "$window" ]; do
    sleep 0.2
    n=$((n + 1))
    [ $n -lt 50 ] || { echo "screenshot.sh: xterm does not open a window" >&2; exit 1; }
    window=$(xdotool search --onlyvisible --name '^sluice-shot$' | head -n 1)
done
xdotool windowfocus "$window"

# Until nothing moves for a second, half a minute at most.
settle() {
    before='' same=0 n=0
    while [ $same -lt 3 ] && [ $n -lt 100 ]; do
        sleep 0.3
        now=$(import -window "$window" rgb:- | cksum)
        if [ "$now" = "$before" ]; then same=$((same + 1)); else same=0; fi
        before=$now n=$((n + 1))
    done
}

keys() { xdotool key --delay 60 "$@"; }
say() { xdotool type --delay 10 "$1"; }

# A prompt in the place of the one before, and its picture.
draw() {
    keys ctrl+a ctrl+k
    say "$1"
    keys Return
    settle
}

# 256 colours keep it small; the pictures in it have no more than that.
shot() {
    import -window "$window" "$dir/shot.png"
    convert "$dir/shot.png" -strip +dither -colors 256 -define png:compression-level=9 PNG8:"$folder/$1.png"
    ls -l "$folder/$1.png"
}

settle
draw 'a {panda face|penguin|hamburger} on a {blue|pink} background'
draw 'a {rocket|red apple} on a yellow background'
draw 'a tiger face on a black background'
shot screenshot
keys F5
settle
shot screenshot-gallery
keys Escape
settle
draw 'a tiger face on a green background'
keys F6 c
settle
shot screenshot-picture
keys Escape
settle
keys ctrl+a ctrl+k
say 'a penguin on a blue background'
keys alt+k
settle
keys Return
settle
keys Right space Down space
settle
shot screenshot-sheet
keys Escape
settle
keys F3
settle
keys Down Tab
settle
shot screenshot-profiles
keys Escape
settle
keys Escape F7
settle
shot screenshot-doctor
keys Escape
settle
keys ctrl+a ctrl+k
say 'a {snowman|sun|tree|fish} on a {blue|pink} background'
keys Tab Tab ctrl+u
say 600
keys Return F4
sleep 3
shot screenshot-queue
