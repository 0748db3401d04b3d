"""Downloads with the real huggingface_hub client, and says as JSON what came of it.

    huggingface.py snapshot REPO REVISION CACHE
    huggingface.py file REPO REVISION CACHE NAME

HF_ENDPOINT and HF_TOKEN say where, and as whom. The output is {"files": {path: sha256}}, or {"error": kind, "message": text}.
"""

import hashlib
import json
import pathlib
import sys

from huggingface_hub import hf_hub_download, snapshot_download


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(what, repo, revision, cache, *names):
    try:
        if what == "snapshot":
            root = pathlib.Path(snapshot_download(repo, revision=revision, cache_dir=cache))
            paths = sorted(path for path in root.rglob("*") if path.is_file())
            files = {str(path.relative_to(root)): digest(path) for path in paths}
        else:
            files = {name: digest(pathlib.Path(hf_hub_download(repo, name, revision=revision, cache_dir=cache))) for name in names}
    except Exception as error:  # Its kind is what is asked for.
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
    else:
        print(json.dumps({"files": files}))


main(*sys.argv[1:])
