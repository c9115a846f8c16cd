"""Looks at a model's folder as a polling server does: what has a number for a name is loaded."""

import hashlib
import json
import time


def watch(folder, done):
    """Polls until `done` and once more: (looks, what each look saw: version -> whether whole)."""
    looks, seen, last = 0, [], False
    while not last:
        last = done.is_set()
        numbered = [path for path in folder.glob("*") if path.name.isdecimal()]
        seen.append({path.name: is_whole(path) for path in numbered})
        looks += 1
        time.sleep(0.01)
    return looks, seen


def is_whole(version):
    """Whether a version has exactly the files that it says, with their contents."""
    sums = version / "assets.extra" / "checksums.json"
    if not sums.exists():
        return False
    files = {
        path.relative_to(version).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in version.rglob("*")
        if path.is_file() and path != sums
    }
    return files == json.loads(sums.read_text()) and "saved_model.pb" in files
