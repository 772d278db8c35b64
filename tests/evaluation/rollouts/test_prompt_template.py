from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.errors import DataError
from slime_search.evaluation.questions import read_prompt_template


def template(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_a_question_is_set_in_word_for_word(tmp_path_factory: pytest.TempPathFactory, question: str) -> None:
    prompt = read_prompt_template(template(tmp_path_factory.mktemp("t") / "p.txt", "{braces} Q: {question}\n"))
    (message,) = prompt(question + "?")
    assert message == {"role": "user", "content": f"{{braces}} Q: {(question + '?').strip()}\n"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "no place", r"p\.txt: write \{question\} in it"),
        ("p.json", "{question", "not JSON"),
        ("p.json", '{"role": "user", "content": "{question}"}', "write a list of messages"),
        ("p.json", "[]", "write a list of messages"),
        ("p.json", '[{"role": "user"}]', "write a list of messages"),
        ("p.json", '[{"role": "user", "content": "?"}]', r"write \{question\} in it"),
    ],
)
def test_a_template_that_can_not_be_used_is_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_prompt_template(template(tmp_path / name, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(b"\xff\xfe{question}")
    with pytest.raises(DataError, match="is no UTF-8 text"):
        read_prompt_template(path)
