#!/bin/sh
# sixel_xterm_check.sh - pictures in a real xterm under Xvfb, pixels counted.
#
# The studio with the fake engine (test_studio --play) draws a red disc on a
# blue-green ground. In an xterm that says it has sixel (-ti vt340) it must come
# out in pixels (hundreds of colours); in one that does not, in half-blocks (few
# colours, but the same disc). It must still be there, in as many colours, while
# somebody types, and after other text has lain over it and gone, and after the
# window has another size; nothing of it may be left where a text screen covers it,
# nor after ^Q. Of the gallery and the contact sheet every tile must be there: more
# than the 16 pictures that xterm remembers. Some screenshots stay in $SLUICE_BUILD.
set -u
. tests/x11.sh
x11_begin sixel_in_xterm 1000x700 xterm

begin() # TERMINAL-ID GEOMETRY STEP_MS
{
    FAKE_ENGINE_STEP_MS=$3 xterm -ti "$1" -T sluice-check -tn xterm-256color -fn 6x13 -geometry "$2+0+0" \
        -bg black -fg white -cr gray20 -xrm 'XTerm.vt100.metaSendsEscape: true' \
        -e sh -c "'$player' --play auto '$dir'; sleep 60" 2>/dev/null &
    terminal=$!
    sleep 1.5
    xdotool mousemove 200 200 >/dev/null 2>&1
}

begin vt340 80x24 40
type_text "a disc"
press Return
sees sixel_in_xterm 150 100000
cp "$dir/sixel_in_xterm.png" "$build/sixel_xterm.png" 2>/dev/null
type_text " that stays where it is"
sees sixel_while_typing 150 100000
press ctrl+s
sleep 0.5
press Escape
sees sixel_after_a_dialog 150 100000
press F1
sees_none sixel_gone_under_help
press Escape
sees sixel_after_help 150 100000
press F4
sees_none sixel_gone_on_a_text_screen
window=$(xdotool search --name '^sluice-check$' 2>/dev/null | head -n 1)
xdotool windowunmap "$window" >/dev/null 2>&1 # xterm brings back what was only cleared when it shows again
sleep 0.5
xdotool windowmap "$window" >/dev/null 2>&1
sleep 1
sees_none sixel_gone_after_the_window_was_away
xdotool windowfocus "$window" >/dev/null 2>&1
press Escape
sees sixel_after_a_text_screen 150 100000
xdotool windowsize "$window" 444 295 >/dev/null 2>&1
sees sixel_after_a_resize 150 100000
xdotool windowsize "$window" 490 320 >/dev/null 2>&1
sees sixel_after_another 150 100000
end sixel

begin vt340 160x50 4
sees_tiles sixel 150
cp "$dir/sixel_gallery.png" "$build/sixel_xterm_gallery.png" 2>/dev/null
end sixel_tiles

begin vt100 80x24 40
type_text "a disc"
press Return
sees half_blocks_in_xterm 10 120
end half_blocks
exit $failed
