#!/usr/bin/env bash
# Installs Azurite, Microsoft's own emulator of Azure Blob Storage, for the tests of our source against it.
#
#   tests/clients/azure.sh
#
# The last line of its output is the directory that holds it. It takes a minute the first time and nothing after that; runs at
# the same time wait for each other. LONGSHORE_CACHE names another cache directory than ~/.cache/longshore.
set -euo pipefail

version=3.37.0
# What it needs is taken as it was on this day, so that every machine has the same.
day=2026-11-15

missing=()
command -v npm >/dev/null || missing+=(nodejs npm)
command -v flock >/dev/null || missing+=(util-linux)
if [ ${#missing[@]} -gt 0 ]; then
    echo "Azurite cannot be set up here. Install what it needs: apt-get install ${missing[*]}" >&2
    exit 1
fi

# Whatever decides what is installed is in the name, so that a change makes a new directory.
hash=$(sha256sum <"${BASH_SOURCE[0]}" | cut -c1-12)
cache=${LONGSHORE_CACHE:-$HOME/.cache/longshore}/clients
root=$cache/azure-$hash
# Written last: a directory without it is a broken attempt.
complete=$root/complete

mkdir -p "$cache"
exec 9>"$cache/azure.lock"
flock 9
if [ ! -f "$complete" ]; then
    rm -rf "$root"
    mkdir -p "$root"
    npm install --prefix "$root" --no-save --no-audit --no-fund --ignore-scripts --before "$day" "azurite@$version" >&2
    date -u +%FT%TZ >"$complete.partial"
    mv "$complete.partial" "$complete"
fi
echo "$root"
