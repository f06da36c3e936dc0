#!/bin/sh
# tmux_check.sh - the real program in a real tmux, with the shipped model: a prompt
# is typed and a picture made, help, other sizes, ^Z and fg, the end; what is on
# the screen at each of these.
set -u
program=$PWD/${SLUICE_BUILD:-build}/sluice
skip() { echo "[  SKIPPED ] studio_in_tmux"; echo "skipped: $1"; exit 0; }
command -v tmux >/dev/null 2>&1 || skip "tmux is not installed"
[ -x "$program" ] || skip "$program is not built"
[ -r assets/demo/model_index.json ] || skip "the shipped model is not here"

dir=$(mktemp -d) || exit 1
tmux() { command tmux -S "$dir/socket" -f /dev/null "$@"; }
trap 'tmux kill-server 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
unset TMUX NO_COLOR COLORTERM
# Nothing of the user's is read or written.
export HOME="$dir" XDG_CONFIG_HOME="$dir/config" XDG_STATE_HOME="$dir/state" XDG_DATA_HOME="$dir/data" \
    XDG_CACHE_HOME="$dir/cache" XDG_PICTURES_DIR="$dir/pictures" LC_ALL=C.UTF-8 PS1='shell> ' ENV=

failed=0
# What is on the screen within 20 s: every text that is given. Names the stage.
shows() # STAGE TEXT...
{
    stage=$1 n=0
    shift
    while :; do
        screen=$(tmux capture-pane -p) missing=
        for text; do case $screen in *"$text"*) ;; *) missing=$text ;; esac; done
        [ -z "$missing" ] && { echo "[       OK ] tmux_$stage"; return; }
        [ $n -eq 80 ] && break
        n=$((n + 1))
        sleep 0.25
    done
    echo "[  FAILED  ] tmux_$stage"
    printf '"%s" is not on the screen:\n%s\n' "$missing" "$screen"
    failed=1
}
press() { tmux send-keys "$@"; }
size() { tmux resize-window -x "$1" -y "$2"; }

tmux new-session -d -x 80 -y 24 sh -i 2>"$dir/error" || skip "tmux does not start: $(cat "$dir/error")"
shows shell 'shell>'
press -l "$program" && press Enter
shows main 'Describe a picture' 'Settings' 'Memory' '^Q Quit'
press -l 'a red apple on a blue background'
shows typed '│ a red apple on a blue background '
press Enter
shows generated 'Saved ~/pictures/sluice/' '▀▀▀▀▀▀'
press F1
shows help '┌─ Keys ' 'type to search'
press Escape
shows help_closed 'a red apple on' '▀▀▀▀▀▀'
press F7
shows doctor 'nothing that sluice needs is missing' 'tmux'
press Escape
size 40 12
shows small '» a red apple' 'Size 128x128' '▀▀▀▀'
size 20 5
shows too_small 'terminal too small'
size 80 24
shows size_restored '┌─ Prompt' 'Memory' '▀▀▀▀▀▀' '^Q Quit'
press C-z
shows stopped 'Stopped'
press -l fg && press Enter
shows continued '┌─ Prompt' 'a red apple on' '▀▀▀▀▀▀'
press -l '!'
shows still_typing 'a red apple on a blue background!'
press C-q
shows ended 'shell>'
press -l 'echo "it is $((6 * 7)), $?"' && press Enter
shows terminal_restored 'it is 42, 0'
case $(tmux capture-pane -p) in
    *▀*|*┌*) echo "[  FAILED  ] tmux_screen_restored"; failed=1 ;;
    *) echo "[       OK ] tmux_screen_restored" ;;
esac
exit $failed
