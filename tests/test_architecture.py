"""The plan of the package, read from the code's own imports: its rooms, their floors, and every arrow between them."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "slime_search"
HEAVY = {"torch", "transformers", "ray", "matplotlib", "pyarrow", "fastapi", "uvicorn", "bm25s", "numpy", "jinja2"}

# From the ground up. A room may import rooms of lower floors only, and imports just those that are named here.
FLOORS: list[dict[str, str]] = [
    {"errors": "", "files": "", "validation": ""},
    {"config": "errors validation", "core": "errors", "transport": "errors"},
    {
        "engines": "core errors transport",
        "dialects": "core errors",
        "tools": "config core errors transport",
        "rewards": "config core errors",
        "retrieval": "errors files transport validation",
    },
    {"hooks": "config core engines errors rewards transport validation"},
    {
        "recipes": "config core dialects engines errors hooks rewards tools transport validation",
        "records": "core errors hooks validation",
    },
    {"data": "core dialects errors files hooks recipes rewards", "viewer": "errors files hooks records"},
    {
        "local": "config core dialects errors files hooks recipes records retrieval transport validation viewer",
        "ops": "config core data dialects engines errors files hooks recipes retrieval rewards tools transport",
    },
    {
        "evaluation": "core data engines errors files hooks local recipes records rewards transport validation",
        "rehearsal": "config core dialects errors files local recipes records transport viewer",
        "reference": "config hooks ops recipes retrieval",
    },
    {"cli": "config data errors evaluation hooks local ops recipes rehearsal retrieval transport validation viewer"},
]
PLAN = {room: set(below.split()) for floor in FLOORS for room, below in floor.items()}
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def imports_of(path: Path) -> set[str]:
    """Absolute modules that ``path`` imports anywhere, ``TYPE_CHECKING`` blocks and functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def arrows() -> dict[str, dict[str, list[str]]]:
    """For each room the rooms that it imports, and the files that do."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(PACKAGE.rglob("*.py")):
        here = room_of(path)
        found[here]
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "slime_search" and len(parts) > 1 and parts[1] != here:
                found[here][parts[1]].append(str(path.relative_to(PACKAGE)))
    del found["__init__"]
    return found


def offenders(paths: list[Path], forbidden: str) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in paths
        for name in imports_of(path)
        if name == forbidden or name.startswith(f"{forbidden}.")
    ]


def test_every_room_is_in_the_plan() -> None:
    assert set(arrows()) == set(PLAN)


@pytest.mark.parametrize("room", PLAN)
def test_a_room_imports_just_what_the_plan_says(room: str) -> None:
    found = arrows()[room]
    unplanned = {below: files for below, files in found.items() if below not in PLAN[room]}
    assert unplanned == {}
    assert PLAN[room] - set(found) == set(), "arrows of the plan that no import draws"


@pytest.mark.parametrize("room", PLAN)
def test_no_arrow_runs_up_or_along_a_floor(room: str) -> None:
    assert [below for below in PLAN[room] if FLOOR_OF[below] >= FLOOR_OF[room]] == []


def test_a_room_is_as_low_as_it_can_be() -> None:
    for room, below in PLAN.items():
        assert FLOOR_OF[room] == 1 + max((FLOOR_OF[other] for other in below), default=-1), room


def test_the_documentation_has_every_room_and_its_question() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \| (.+\?) \|", text, flags=re.MULTILINE)
    assert sorted(room for room, _ in rows) == sorted(PLAN)


def test_only_hooks_know_slime() -> None:
    rest = [path for path in PACKAGE.rglob("*.py") if room_of(path) != "hooks"]
    assert offenders(rest, "slime") == []


def test_tests_import_their_helpers_in_one_way() -> None:
    """``from tests.support.scripted_engine import ScriptedEngine``: from the module, by its whole name."""
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                odd = [alias.name for alias in node.names if alias.name.split(".")[0] == "tests"]
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                of_tests = module.split(".")[0] == "tests"
                whole = ROOT.joinpath(*module.split(".")).with_suffix(".py").exists()
                odd = [f"{'.' * node.level}{module}"] if node.level or (of_tests and not whole) else []
            else:
                continue
            found += [f"{path.relative_to(ROOT)}, line {node.lineno}: {name}" for name in odd]
    assert found == []


def test_the_plugin_imports_without_the_heavy_packages() -> None:
    """What slime's rollout workers load must work in an environment that has only the plain dependencies."""
    code = (
        "import sys\n"
        f"class Absent:\n    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {HEAVY!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import slime_search.recipes.search_r1, slime_search.recipes.thinker_searcher.recipe\n"
        "import slime_search.hooks.groups, slime_search.cli\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
