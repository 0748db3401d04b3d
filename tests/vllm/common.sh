# Where things are. Sourced by setup.sh and serve.sh, after VERSION is set.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
merges=$here/../../crates/testkit/src/tiny/merges.txt
lock=$here/requirements-$VERSION.lock

if [ ! -f "$lock" ]; then
    echo "there is no lock file for vLLM $VERSION; known: $(cd "$here" && ls requirements-*.lock | sed 's/requirements-//; s/\.lock//' | xargs)" >&2
    exit 2
fi

# Whatever decides what is installed is in the name, so that a change makes a new directory.
hash=$(cat "$lock" "$here/setup.sh" "$here/cuda_stubs.py" "$here/tiny_model.py" "$merges" | sha256sum | cut -c1-12)
cache=${LONGSHORE_CACHE:-$HOME/.cache/longshore}/vllm
root=$cache/$VERSION-$hash
venv=$root/venv
model=$root/tiny-model
# Written last: a directory without it is a broken attempt.
complete=$root/complete
