#!/bin/bash
# completion_check.sh - what the shells complete, as the shells see it. Those that
# are not installed are passed over.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${SLUICE_BUILD:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
sluice=$build/sluice
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
export XDG_CONFIG_HOME=$scratch PATH="$build:$PATH"
failures=0

# expect WHAT "EXPECTED" "FOUND"
expect() {
    [ "$2" = "$3" ] && return
    echo "$1: \"$3\", expected \"$2\""
    failures=$((failures + 1))
}

for shell in bash zsh fish; do "$sluice" completion $shell >"$scratch/$shell" || exit 1; done

# --- bash, by what it does itself on Tab
. "$scratch/bash"
complete_words() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    _sluice "$sluice" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    echo "${COMPREPLY[*]}"
}
expect "command" "generate" "$(complete_words sluice gen)"
expect "first word" "preset profile" "$(complete_words sluice pr | sed 's/plan //')"
expect "option" "--vae --vae-band --vae-tile --vae-overlap --vae-precision" "$(complete_words sluice generate --va)"
expect "value" "bands" "$(complete_words sluice generate --vae ba)"
expect "value after =" "bands" "$(complete_words sluice generate --vae = ba)"
expect "values after =" "auto whole bands tiles" "$(complete_words sluice generate --vae =)"
expect "the studio's options without its name" "--graphics --guidance" "$(complete_words sluice --g)"
expect "the studio's value" "sixel" "$(complete_words sluice --graphics s)"
expect "a switch is no option with a value" "" "$(complete_words sluice generate --json x)"
expect "decode has no prompt" "" "$(complete_words sluice decode --prom)"
expect "verb" "show" "$(complete_words sluice preset sh)"
expect "profiles" "8gb" "$(complete_words sluice generate --profile 8g)"
expect "a profile to be shown" "8gb" "$(complete_words sluice profile show 8g)"
expect "file" "README.md" "$(complete_words sluice inspect READ)"
expect "folder" "tests" "$(complete_words sluice -m tes)"
expect "help" "synth" "$(complete_words sluice help sy)"

# --- every option that a command's help names is completed
for command in $("$sluice" help | sed -n 's/^  \([a-z]*\)  .*/\1/p'); do
    [ "$command" = help ] && continue
    for option in $("$sluice" help "$command" | sed -n 's/^  \(    \|-., \)\?\(--[a-z0-9-]*\).*/\2/p'); do
        case " $(complete_words sluice "$command" -) " in
        *" $option "*) ;;
        *) expect "$command" "$option" "nothing" ;;
        esac
    done
done

# --- the others
if command -v zsh >/dev/null; then
    zsh -n "$scratch/zsh" || failures=$((failures + 1))
fi
if command -v fish >/dev/null; then
    fish -n "$scratch/fish" || failures=$((failures + 1))
    on_fish() { fish --no-config -c "source $scratch/fish; complete -C '$1'" | cut -f1 | sort | tr '\n' ' '; }
    expect "fish: value" "bands " "$(on_fish 'sluice generate --vae ba')"
    expect "fish: command" "generate " "$(on_fish 'sluice gene')"
    expect "fish: the studio's value" "sixel " "$(on_fish 'sluice --graphics s')"
    expect "fish: verb" "show " "$(on_fish 'sluice preset sho')"
fi
[ "$failures" -eq 0 ] || exit 1
echo "bash, zsh and fish complete what sluice takes, where they are installed"
