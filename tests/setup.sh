#!/bin/sh
# setup.sh PACKAGE... - installs the Debian packages that are missing; silent when all are there.
set -eu
if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    echo "not a Debian system: what these packages hold must be there already: $*" >&2
    exit 0
fi
missing=
for p in "$@"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    echo "sluice needs these Debian packages:$missing; install them as root (apt-get install$missing)" >&2
    exit 1
fi
echo "installing:$missing"
# One source that cannot be reached must not keep the others from being used.
$as_root apt-get update -q || echo "apt-get update failed; trying with the lists that are there" >&2
# As an argument, since sudo drops the environment.
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing || {
    echo "these Debian packages could not be installed:$missing" >&2
    exit 1
}
