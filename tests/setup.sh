#!/bin/sh
# setup.sh PACKAGE... - installs the Debian packages that are missing; silent when all are there.
set -eu
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
$as_root apt-get update -q
DEBIAN_FRONTEND=noninteractive
export DEBIAN_FRONTEND
# shellcheck disable=SC2086
$as_root apt-get install -y -q --no-install-recommends $missing
