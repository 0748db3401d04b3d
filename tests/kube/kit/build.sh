#!/usr/bin/env bash
# Builds the kit where it is not built yet, and prints the folder with `kit` and `shim`.
#
# The folder's name is a hash of the sources and of Go's version. The first build takes some minutes and fetches about
# 700 MB of modules; runs at the same time wait for each other. LONGSHORE_CACHE names another cache folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cache=${LONGSHORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/longshore}/kube
needed=$(sed -n 's/^go \([0-9.]*\)$/\1/p' go.mod)
# What is fetched where Go is older; Go publishes itself as modules, which its checksum database covers as any other.
fetched=1.26.0

fail() {
    echo "the kit cannot be built: $1" >&2
    exit 1
}

# Whether the version $1 is $2 or later.
at_least() {
    [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# Makes `go` one that is new enough. From 1.21 on, Go does so by itself where it is let.
find_go() {
    command -v go >/dev/null || fail "there is no Go; Debian's golang-go will do, or Go $needed or later from go.dev/dl"
    local present
    # Outside of this module, so that no version is asked for.
    present=$(cd / && go env GOVERSION)
    present=${present#go}
    if at_least "$present" "$needed"; then return; fi
    if at_least "$present" 1.21 && go env GOVERSION >/dev/null 2>&1; then return; fi

    local root=$cache/go-$fetched module
    if [ ! -x "$root/bin/go" ]; then
        echo "Go $present is older than $needed: fetching $fetched" >&2
        module=golang.org/toolchain@v0.0.1-go$fetched.$(cd / && go env GOOS)-$(cd / && go env GOARCH)
        local folder fresh
        folder=$(cd / && GOTOOLCHAIN=local go mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
        [ -d "$folder" ] || fail "this is Go $present; it needs Go $needed or later, see go.dev/dl"
        fresh=$(mktemp -d "$cache/new.XXXXXX")
        cp -r "$folder/." "$fresh"
        chmod -R u+w "$fresh"
        # Modules' files are not executable; these are.
        chmod +x "$fresh"/bin/* "$fresh"/pkg/tool/*/*
        chmod 755 "$fresh"
        mv "$fresh" "$root"
    fi
    unset GOROOT
    export PATH=$root/bin:$PATH
}

mkdir -p "$cache"
exec 9>"$cache/build.lock"
flock 9
find_go
key=$({
    go env GOVERSION
    find . -type f \( -name '*.go' -o -name go.mod -o -name go.sum -o -name build.sh \) -print0 | sort -z | xargs -0 sha256sum
} | sha256sum | cut -c1-16)
folder=$cache/build-$key
if [ ! -x "$folder/kit" ]; then
    version=$(sed -n 's#^\tk8s.io/kubernetes \(v.*\)#\1#p' go.mod)
    fresh=$(mktemp -d "$cache/new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    flags="-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitVersion=$version"
    # Without cgo the binaries need no library of the machine.
    CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags "$flags" -o "$fresh/" . ./shim >&2
    mv "$fresh/kube-kit" "$fresh/kit"
    chmod 755 "$fresh"
    # As a whole: whoever sees the folder sees it complete.
    mv "$fresh" "$folder"
    # Builds are 130 MB each; those that nobody has asked for in two weeks go, and attempts that were cut off.
    find "$cache" -mindepth 1 -maxdepth 1 -type d \( -name 'build-*' -o -name 'new.*' \) -mtime +14 -exec rm -rf {} +
fi
# Old builds go by when they were last asked for.
touch "$folder"
echo "$folder"
