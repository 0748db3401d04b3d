#!/usr/bin/env bash
# Installs one of the Python programs that people use now, for tests that hold our stand-ins to what it does.
#
#   tests/clients/setup.sh TOOL        TOOL.txt beside this script names every package with its version
#
# The last line of its output is the directory of the virtual environment. It takes seconds the first time and nothing after
# that; runs at the same time wait for each other. LONGSHORE_CACHE names another cache directory than ~/.cache/longshore.
set -euo pipefail
tool=${1:?which tool? for example huggingface}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lock=$here/$tool.txt
if [ ! -f "$lock" ]; then
    echo "there is no $tool.txt; known: $(cd "$here" && ls ./*.txt | sed 's/^\.\///; s/\.txt$//' | xargs)" >&2
    exit 2
fi

missing=()
python3.11 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3.11 python3.11-venv)
command -v flock >/dev/null || missing+=(util-linux)
if [ ${#missing[@]} -gt 0 ]; then
    echo "$tool cannot be set up here. Install what it needs: apt-get install ${missing[*]}" >&2
    exit 1
fi

# Whatever decides what is installed is in the name, so that a change makes a new directory.
hash=$(cat "$lock" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-12)
cache=${LONGSHORE_CACHE:-$HOME/.cache/longshore}/clients
venv=$cache/$tool-$hash
# Written last: a directory without it is a broken attempt.
complete=$venv/complete

mkdir -p "$cache"
exec 9>"$cache/$tool.lock"
flock 9
if [ ! -f "$complete" ]; then
    rm -rf "$venv"
    python3.11 -m venv "$venv" >&2
    # Without dependencies: the list holds everything that is needed, so that every machine has the same.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$lock" >&2
    date -u +%FT%TZ >"$complete.partial"
    mv "$complete.partial" "$complete"
fi
echo "$venv"
