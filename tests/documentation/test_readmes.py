"""The Chinese README says what the English one says."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text() for name in ("README.md", "README_zh.md"))

_BLOCK = re.compile(r"```.*?```", re.DOTALL)


def prose(page: str) -> str:
    return _BLOCK.sub("", page)


def headings(page: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(page), re.MULTILINE)]


def code_blocks(page: str) -> list[str]:
    """Without their comments, which are translated."""
    return [re.sub(r" +# .*", "", block) for block in _BLOCK.findall(page)]


def links(page: str) -> list[str]:
    """Targets, images' included, in order; without those from one language to the other."""
    return [link for link in re.findall(r"\]\(([^)]+)\)", prose(page)) if not re.fullmatch(r"README\w*\.md", link)]


def images(page: str) -> list[str]:
    return re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)


def inline_code(page: str) -> Counter[str]:
    return Counter(" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page)))


def numbers(page: str) -> Counter[str]:
    return Counter(re.findall(r"\d*\.?\d+", re.sub(r"\]\([^)]*\)", "", prose(page))))


def table_rows(page: str) -> list[int]:
    """The cells of each row."""
    return [line.count("|") for line in prose(page).splitlines() if line.startswith("|")]


@pytest.mark.parametrize("part", [headings, code_blocks, images, table_rows, inline_code, numbers, links])
def test_both_readmes_have_the_same(part: object) -> None:
    assert callable(part)
    assert part(ENGLISH)
    assert part(CHINESE) == part(ENGLISH)


def test_each_readme_leads_to_the_other() -> None:
    assert "[中文](README_zh.md)" in ENGLISH.partition("\n## ")[0]
    assert "[English](README.md)" in CHINESE.partition("\n## ")[0]
