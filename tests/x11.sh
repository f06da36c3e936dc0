# x11.sh - for the tests that look at pixels, to be read with ".": a screen of its own (Xvfb), keys pressed
# on it, screenshots of it, and what is seen on them. The studio is the one with the fake engine (test_studio
# --play): its pictures are red discs on a blue-green ground.
build=${SLUICE_BUILD:-build}
player=$build/tests/test_studio
dir='' xvfb='' terminal='' failed=0

skip() # NAME REASON
{
    echo "[  SKIPPED ] $1"
    echo "skipped: $2"
    exit 0
}

x11_cleanup() {
    [ -n "$terminal" ] && kill "$terminal" 2>/dev/null
    [ -n "$xvfb" ] && kill "$xvfb" 2>/dev/null
    wait 2>/dev/null
    rm -rf "$dir"
}

# Opens a screen of that size; what is needed besides for the test NAME is named behind it.
x11_begin() # NAME WIDTHxHEIGHT TOOL...
{
    name=$1 size=$2
    shift 2
    for tool in Xvfb xdotool import convert "$@"; do
        command -v "$tool" >/dev/null 2>&1 || skip "$name" "$tool is not installed"
    done
    [ -x "$player" ] || skip "$name" "$player is not built"
    dir=$(mktemp -d) || exit 1
    trap x11_cleanup EXIT
    trap 'exit 1' INT TERM
    Xvfb -displayfd 3 -screen 0 "${size}x24" -nolisten tcp 3>"$dir/display" 2>"$dir/xvfb.log" &
    xvfb=$!
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -s "$dir/display" ] && break
        sleep 0.5
    done
    [ -s "$dir/display" ] || skip "$name" "Xvfb does not start: $(tail -n 1 "$dir/xvfb.log")"
    DISPLAY=:$(cat "$dir/display")
    export DISPLAY LC_ALL=C.UTF-8
    unset TMUX COLORTERM NO_COLOR WAYLAND_DISPLAY XDG_STATE_HOME # each studio begins with an empty gallery
}

verdict() { # name, condition's exit status, what was seen
    if [ "$2" -eq 0 ]; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1"; failed=1; fi
    echo "  $1: $3"
}

press() { xdotool key --delay 40 "$@" >/dev/null 2>&1; }
type_text() { xdotool type --delay 20 "$1" >/dev/null 2>&1; }

# Pixels of discs (red well above blue), how many discs, and colours in all.
red() # SCREENSHOT, what convert does with it
{
    of=$1
    shift
    convert "$of" -color-matrix '1 0 -1  0 0 0  0 0 0' -channel R -separate +channel -threshold 25% "$@"
}
disc() { red "$1" -format '%[fx:int(mean*w*h+0.5)]' info:; }
discs()
{
    red "$1" -define connected-components:verbose=true -connected-components 8 null: |
        awk '$5 ~ /255|white/ && $4 > 300 { n++ } END { print n + 0 }'
}
colours() { convert "$1" -format %k info:; }

# Waits until a screenshot is as `found` says, 15 s at most; then says what was seen.
wait_for() # NAME COMMAND
{
    n=0 ok=1
    while [ $n -lt 30 ] && [ $ok -ne 0 ]; do
        [ $n -eq 0 ] || sleep 0.5
        n=$((n + 1))
        import -window root "$dir/$1.png" 2>/dev/null
        d=$(disc "$dir/$1.png") c=$(colours "$dir/$1.png")
        eval "$2"
        ok=$?
    done
}

# A disc of so many colours.
sees() # NAME LEAST MOST
{
    least=$2 most=$3
    wait_for "$1" '[ "$d" -gt 1000 ] && [ "$c" -ge "$least" ] && [ "$c" -le "$most" ]'
    verdict "$1" $ok "$d pixels of the disc, $c colours"
}

sees_none() # NAME
{
    wait_for "$1" '[ "$d" -eq 0 ]'
    verdict "$1" $ok "$d pixels of the disc, $c colours"
}

# Quits: nothing may be left.
end() # NAME
{
    press ctrl+q
    sees_none "$1_gone_after_quit"
    kill "$terminal" 2>/dev/null
    wait "$terminal" 2>/dev/null
    terminal=''
}

# So many discs, of so many colours at least.
sees_discs() # NAME HOW_MANY LEAST
{
    many=$2 least=$3
    wait_for "$1" 'k=$(discs "$dir/$1.png"); [ "$k" -eq "$many" ] && [ "$c" -ge "$least" ]'
    verdict "$1" $ok "$k discs of $d pixels, $c colours"
}

# Gallery and contact sheet, in a terminal that shows pixels and has room for 18 tiles.
sees_tiles() # PREFIX LEAST
{
    type_text '{a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q|r}'
    press Return
    sleep 5
    press F5
    sees_discs "$1_gallery" 18 "$2"
    press Right Down
    sees_discs "$1_gallery_after_moving" 18 "$2"
    press d
    sees_discs "$1_gallery_after_one_has_gone" 17 "$2"
    press v
    sees_discs "$1_gallery_list" 1 "$2"
    press v F1
    sleep 1
    press Escape
    sees_discs "$1_gallery_after_help" 17 "$2"
    press Escape
    sleep 0.5
    press ctrl+u
    type_text 'a disc'
    press alt+k
    sleep 0.5
    press Return
    sees_discs "$1_contact_sheet" 12 "$2"
    press space Right
    sees_discs "$1_contact_sheet_marked" 12 "$2"
    press F7
    sees_none "$1_tiles_gone_on_a_text_screen"
}
