#!/bin/sh
# Puts the headers of SIMDe (Debian package libsimde-dev; no root needed) into the folder $1, and
# prints where to look for them. Prints why, and returns 1, where they cannot be had.
set -u
folder=${1:?usage: get_simde.sh FOLDER}

for include in ${SIMDE_INCLUDE:+"$SIMDE_INCLUDE"} /usr/include /usr/local/include \
    "$folder/usr/include"; do
    if [ -f "$include/simde/x86/avx512.h" ] && [ -f "$include/simde/arm/neon.h" ]; then
        echo "$include"
        exit 0
    fi
done

fail() {
    echo "no SIMDe: $1; install libsimde-dev or set SIMDE_INCLUDE to its include folder" >&2
    exit 1
}

command -v apt-get >/dev/null || fail "apt-get is not here"
command -v dpkg >/dev/null || fail "dpkg is not here"
mkdir -p "$folder" || fail "cannot write $folder"
work=$(mktemp -d "$folder/simde.XXXXXX") || fail "cannot write $folder"
trap 'rm -rf "$work"' EXIT
(cd "$work" && timeout 60 apt-get download libsimde-dev >&2) || fail "apt-get download failed"
dpkg -x "$work"/libsimde-dev_*.deb "$folder" || fail "the package does not unpack"
echo "$folder/usr/include"
