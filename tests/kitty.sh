#!/bin/sh
# kitty.sh - pictures in a real kitty under Xvfb (`make kitty-check`), pixels counted, as sixel_xterm_check.sh
# does in an xterm. Not a part of `make check`: kitty needs OpenGL, and the one in software is a large package.
# A preview, the finished picture while somebody types, after a dialog, a text screen, another size; gallery and
# contact sheet; nothing left where it does not belong. Screenshots stay in $SLUICE_BUILD.
set -u
. tests/x11.sh
x11_begin kitty 1000x700 kitty
export LIBGL_ALWAYS_SOFTWARE=1 FAKE_ENGINE_STEP_MS=10 KITTY_CONFIG_DIRECTORY="$dir" XDG_CACHE_HOME="$dir" \
    XDG_RUNTIME_DIR="$dir"

begin() # COLUMNS ROWS
{
    kitty --config NONE -T sluice-check -o remember_window_size=no -o "initial_window_width=$1c" \
        -o "initial_window_height=$2c" -o font_size=8 -o update_check_interval=0 -o confirm_os_window_close=0 \
        sh -c "'$player' --play auto '$dir'; sleep 60" >"$dir/kitty.log" 2>&1 &
    terminal=$!
    window='' n=0
    while [ -z "$window" ] && [ $n -lt 30 ]; do
        sleep 0.5
        n=$((n + 1))
        window=$(xdotool search --name '^sluice-check$' 2>/dev/null | head -n 1)
    done
    [ -n "$window" ] || skip kitty "kitty opens no window: $(tail -n 1 "$dir/kitty.log")"
    sleep 2
    xdotool mousemove 200 200 windowfocus "$window" >/dev/null 2>&1
}

resize() # while it is resized kitty stretches what it shows
{
    xdotool windowsize "$window" "$1" "$2" >/dev/null 2>&1
    sleep 1.5
}

begin 80 24
type_text "a disc"
press Return
sees kitty_picture 2000 100000
cp "$dir/kitty_picture.png" "$build/kitty.png" 2>/dev/null
type_text " that stays where it is"
sees kitty_while_typing 2000 100000
press ctrl+s
sleep 0.5
press Escape
sees kitty_after_a_dialog 2000 100000
press F7
sees_none kitty_gone_on_a_text_screen
press Escape
sees kitty_after_a_text_screen 2000 100000
press F6
sees kitty_whole_screen 2000 100000
press Escape
resize 560 400
sees_discs kitty_after_a_resize 1 2000
resize 700 500
sees_discs kitty_after_another 1 2000
end kitty

begin 140 44
sees_tiles kitty 2000
cp "$dir/kitty_gallery.png" "$build/kitty_gallery.png" 2>/dev/null
cp "$dir/kitty_contact_sheet_marked.png" "$build/kitty_contact_sheet.png" 2>/dev/null
end kitty_tiles
exit $failed
