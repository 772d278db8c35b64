"""Run by the Python that trains, as text, so that it needs nothing installed there. Prints JSON."""

import importlib
import importlib.metadata
import importlib.util
import json
import sys

names, module = sys.argv[1].split(","), sys.argv[2]
# A script does not find what lies in the current folder.
sys.path[:] = [path for path in sys.path if path]
versions = {}
for name in names:
    try:
        there = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        there = False
    try:
        versions[name] = importlib.metadata.version(name) if there else None
    except importlib.metadata.PackageNotFoundError:
        versions[name] = "from a checkout"


def failure(name: str) -> "str | None":
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 -- it is what is asked for
        return f"{type(error).__name__}: {error}".strip()
    return None


try:
    spec = importlib.util.find_spec("slime.rollout")
except ImportError:
    spec = None
found = {
    "python": sys.version.split()[0],
    "executable": sys.executable,
    "versions": versions,
    "slime_at": [spec.origin] if spec and spec.origin else [],
    "plugin": failure("slime_search.config"),
    "pyarrow": failure("pyarrow") if versions.get("pyarrow") else None,
    "slime": failure(module) if spec else "it is not there",
}
print("\n" + json.dumps(found))  # noqa: T201
