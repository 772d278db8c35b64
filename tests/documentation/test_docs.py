"""What the documentation says of settings and files is so."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from slime_search.config import load_config
from slime_search.reference.configuration import REFERENCE, reference

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/search_r1"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("benchmarks/*.md")]


def test_the_reference_of_the_configuration_is_current() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    assert page == reference(), "run: python -m slime_search.reference.configuration > docs/configuration.md"


@pytest.mark.parametrize("title", REFERENCE)
def test_every_key_is_explained(title: str) -> None:
    part = reference().partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if row.split("|")[-2].strip() == ""] == []


def test_the_reference_has_the_keys_of_sections_with_what_is_allowed() -> None:
    rows = [line.split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    found = {row[0].removeprefix("| "): row[1:3] for row in rows}
    assert found["`google.page_chars`<br>`SLIME_SEARCH_GOOGLE__PAGE_CHARS`"] == ["integer ≥ 100", "`2000`"]
    assert found["`max_failure_share`<br>`SLIME_SEARCH_MAX_FAILURE_SHARE`"] == ["number ≥ 0, ≤ 1", "`0.5`"]
    assert found["`max_context_tokens`<br>`SLIME_SEARCH_MAX_CONTEXT_TOKENS`"] == ["integer ≥ 64, or null", "`null`"]
    assert found["`search_backend`<br>`SLIME_SEARCH_SEARCH_BACKEND`"][0] == "`local`, `google`"


def test_the_example_of_a_yaml_file_is_one() -> None:
    block = re.search(r"```yaml\n(.*?)```", reference(), re.DOTALL)
    assert block is not None
    overlay = yaml.safe_load(dedent(block[1].rstrip()))["slime_search"]
    assert load_config({}, overlay).max_turns == 3


@pytest.mark.parametrize("script", ["run_with_retrieval.sh", "training.sh"])
def test_every_variable_of_a_script_stands_in_its_table_with_its_default(script: str) -> None:
    page = (ROOT / "docs/run-scripts.md").read_text()
    rows = {
        name: default.strip(" `") for name, default in re.findall(r"^\| `([A-Z_]+)` \|([^|]*)\|", page, re.MULTILINE)
    }
    body = (EXAMPLE / script).read_text()
    body = "\n".join(line for line in body.splitlines() if not line.startswith("#"))
    of_others = r"(?!SLIME_SEARCH_|RAY_RUNTIME_ENV_HOOK|[A-Z]+_PROXY)"
    assert set(re.findall(rf"\$\{{{of_others}([A-Z_]+):-", body)) <= rows.keys()
    plain = dict(re.findall(rf"\$\{{{of_others}([A-Z_]+):-([\w./-]+)\}}", body))
    assert {name: rows[name] for name in plain} == plain


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_everything_that_is_looked_for_stands_where_contributing_says() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where is")[2]
    rows = re.findall(r"^\| (.+?) \| `(.+?)::(.+?)` \|$", table, re.MULTILINE)
    assert len(rows) == table.count("\n| ") - 1
    missing = [f"{what}: {file} has no {name}" for what, file, name in rows if name not in (ROOT / file).read_text()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_package_that_are_named_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    rooms = [path.name for path in (ROOT / "slime_search").iterdir() if path.is_dir()]
    for name in re.findall(rf"`(?:slime_search/)?((?:{'|'.join(rooms)})/(?:[\w/]+\.py|(?:[\w]+/)*))`", text):
        found = [base / name for base in (ROOT / "slime_search", ROOT, page.parent) if (base / name).exists()]
        assert found, f"{page.name}: {name}"


def test_modules_that_are_named_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"\bslime_search((?:\.[a-z]\w*)+)", page.read_text()):
            *folders, last = name[1:].split(".")
            module = ROOT.joinpath("slime_search", *folders)
            there = (module / last).is_dir() or module.with_suffix(".py").exists() or (module / f"{last}.py").exists()
            assert there, f"{page.name}: slime_search{name}"


def test_only_the_rooms_that_contributing_names_import_torch() -> None:
    heavy = {
        path.relative_to(ROOT / "slime_search").parts
        for path in (ROOT / "slime_search").rglob("*.py")
        if re.search(r"^\s*(import|from) torch\b", path.read_text(), re.MULTILINE)
    }
    assert {parts[0] for parts in heavy} == {"local", "rehearsal", "retrieval", "records", "hooks"}
    assert {parts[1] for parts in heavy if parts[0] == "hooks"} == {"red"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_holds_both_sides_of_a_merge(page: Path) -> None:
    assert re.findall(r"^(?:<{7}|>{7}) .*", page.read_text(), re.MULTILINE) == []
