#!/bin/sh
# setup_check.sh - setup.sh on machines that are not this one: as root, with
# sudo, with neither, without a network, without Debian. Every command that it
# would run is a stand-in that writes down how it was called.
set -u
setup=$(cd "$(dirname "$0")" && pwd)/setup.sh
sh=$(command -v sh)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
faults=0
unset DEBIAN_FRONTEND

stand_in() # NAME; its text from standard input
{
    { echo "#!$sh"; cat; } >"$dir/bin/$1"
    chmod +x "$dir/bin/$1"
}

# A machine: UID, installed packages; then what else it has.
machine()
{
    rm -rf "${dir:?}/bin" "$dir/log"
    mkdir "$dir/bin"
    : >"$dir/log"
    for tool in grep env cat; do ln -s "$(command -v $tool)" "$dir/bin/$tool"; done
    echo "echo $1" | stand_in id
    # as dpkg-query: an unknown package is a failure, a removed one has another status
    stand_in dpkg-query <<END
for p; do :; done
case \$p in removed) echo 'deinstall ok config-files'; exit 0 ;; esac
for i in $2; do [ "\$i" = "\$p" ] && { echo 'install ok installed'; exit 0; }; done
echo "dpkg-query: no packages found matching \$p" >&2
exit 1
END
    stand_in apt-get <<END
echo "apt-get \$* [\${DEBIAN_FRONTEND-}]" >>"$dir/log"
case \$1 in update) exit \${FAKE_UPDATE:-0} ;; *) exit \${FAKE_INSTALL:-0} ;; esac
END
    # sudo starts with a clean environment
    stand_in sudo <<END
echo "sudo \$1" >>"$dir/log"
exec env -u DEBIAN_FRONTEND "\$@"
END
}

# expect NAME STATUS LOG SAYS PACKAGE...: SAYS is a pattern of all that is printed
expect()
{
    name=$1 status=$2 log=$3 says=$4
    shift 4
    text=$(PATH="$dir/bin" "$sh" "$setup" "$@" 2>&1)
    rc=$?
    got=$(cat "$dir/log")
    # shellcheck disable=SC2254
    case $text in $says) said=1 ;; *) said=0 ;; esac
    if [ $rc -ne "$status" ] || [ "$got" != "$log" ] || [ $said -eq 0 ]; then
        printf '%s: status %d, expected %d; it ran\n%s\nexpected\n%s\nand printed "%s"\n' \
            "$name" $rc "$status" "$got" "$log" "$text"
        faults=$((faults + 1))
    fi
}

update='apt-get update -q []'
install='apt-get install -y -q --no-install-recommends'

machine 0 "a b c"
expect "all there" 0 "" "" a b c

machine 0 "a"
expect "root" 0 "$update
$install b removed [noninteractive]" "installing: b removed" a b removed

machine 1000 "a"
expect "sudo" 0 "sudo apt-get
$update
sudo env
$install b c [noninteractive]" "installing: b c" a b c

machine 1000 "a b c"
expect "a user, all there" 0 "" "" a b c

machine 1000 "a"
rm "$dir/bin/sudo"
expect "no sudo" 1 "" "sluice needs these Debian packages: b c; install them as root (apt-get install b c)" a b c

machine 0 ""
export FAKE_UPDATE=100
expect "a source is down" 0 "$update
$install a [noninteractive]" "*apt-get update failed*" a
unset FAKE_UPDATE

machine 0 ""
export FAKE_INSTALL=100
expect "not to be had" 1 "$update
$install a [noninteractive]" "*could not be installed: a" a
unset FAKE_INSTALL

machine 1000 ""
rm "$dir/bin/apt-get" "$dir/bin/dpkg-query"
expect "not Debian" 0 "" "not a Debian system*: a b" a b

[ $faults -eq 0 ] && echo "setup.sh is right on every machine"
