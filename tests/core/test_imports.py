"""The architecture's one-way arrows, read from the code's own imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "slime_search"
HEAVY = {"torch", "transformers", "ray", "matplotlib", "pyarrow", "fastapi", "uvicorn", "bm25s", "numpy", "jinja2"}
SOCKETS = ("engines", "dialects", "tools", "rewards")


def imports_of(path: Path) -> set[str]:
    """Absolute modules that ``path`` imports anywhere, ``TYPE_CHECKING`` blocks and functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((PACKAGE / folder).rglob("*.py"))]
    assert found
    return found


def offenders(paths: list[Path], forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in paths
        for name in imports_of(path)
        if any(name == f or name.startswith(f"{f}.") for f in forbidden)
    ]


@pytest.mark.parametrize("folder", SOCKETS)
def test_sockets_know_neither_the_loop_nor_slime(folder: str) -> None:
    above = ("slime", "slime_search.core.agent", "slime_search.hooks", "slime_search.recipes", "slime_search.local")
    assert offenders(files(folder), above) == []


def test_retrieval_stands_alone() -> None:
    inside = {n for p in files("retrieval") for n in imports_of(p) if n.split(".")[0] == "slime_search"}
    assert all(name.startswith("slime_search.retrieval") for name in inside), inside


def test_nothing_but_the_command_line_knows_the_viewer() -> None:
    viewer, command = PACKAGE / "viewer", PACKAGE / "cli.py"
    rest = [p for p in PACKAGE.rglob("*.py") if viewer not in p.parents and p != command]
    assert offenders(rest, ("slime_search.viewer",)) == []


def test_only_hooks_and_the_embedded_sample_know_slime() -> None:
    hooks, sample = PACKAGE / "hooks", PACKAGE / "local" / "sample.py"
    rest = [p for p in PACKAGE.rglob("*.py") if hooks not in p.parents and p != sample]
    assert offenders(rest, ("slime",)) == []


def test_the_plugin_imports_without_the_heavy_packages() -> None:
    """What slime's rollout workers load must work in an environment that has only the plain dependencies."""
    code = (
        "import sys\n"
        f"class Absent:\n    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {HEAVY!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import slime_search.recipes.search_r1, slime_search.recipes.thinker_searcher.recipe\n"
        "import slime_search.hooks.groups, slime_search.cli.main\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
