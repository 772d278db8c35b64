"""The recorded table: what the documentation says of each family, and what real tokenizers say where they are there."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slime_search.core.dialect import Answer, CallTools, ToolCall
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import ToolResult
from slime_search.dialects.chat_frame import ChatTemplate
from slime_search.dialects.notations import NOTATIONS
from slime_search.dialects.tool_calls import SEARCH_TOOL, ToolCallDialect
from slime_search.errors import ConfigError
from tests.families.table import REAL

DOCUMENT = Path(__file__).parents[2] / "docs" / "tool-calling.md"
ASKED = {"role": "user", "content": "Who wrote it?"}

PASSAGES = (
    'Doc 1(Title: "Hamlet") It is a tragedy.\n',
    "Doc 2(Title: Naïve 東京) He wrote it!\n",
    "Doc 3(Title: C)   if (a < b) {\n\treturn x[i];\n}\n",
    "- a list.\n- of two:\n",
    "https://example.org/a?b=c#d\n",
)
HTML = (
    '<table class="x"><tr><td>a</td><td><b>bold</b> text</td></tr></table>\n<h1>Head</h1><ul><li>one</li></ul>\n'
    "<div><p>Some <em>code</em>: <code>for (i=0; i&lt;n; i++) { a[i] = b[i] &gt;&gt; 2; }</code></p></div>\n"
)
CODE = "def f(x: list[int]) -> dict[str, Any]:\n    return {k: v for k, v in x if k <= v and v != [] or x[k] | 3}\n"


@pytest.mark.parametrize("name", REAL)
def test_the_document_has_a_row_of_each_family(name: str) -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {name} |")]
    assert len(rows) == 1
    real = REAL[name]
    if real.refused is None:
        end = real.call_end.replace("|", "\\|")
        assert f"`{real.notation}`" in rows[0] and f"`{end}`" in rows[0]
    else:
        assert "refused" in rows[0]


def test_the_document_has_each_notation() -> None:
    text = DOCUMENT.read_text()
    assert [name for name in NOTATIONS if f"`{name}`" not in text] == []


real_packages = pytest.mark.skipif("FAMILY_PACKAGES" not in os.environ, reason="FAMILY_PACKAGES names no folder")


@pytest.fixture(scope="module")
def tokenizers() -> Iterator[Any]:
    """One at a time, since they are large."""
    from tests.families.packages import tokenizer_of

    kept: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in kept:
            kept.clear()
            kept[name] = tokenizer_of(REAL[name])
        return kept[name]

    yield get


@real_packages
@pytest.mark.parametrize("name", REAL)
@pytest.mark.timeout(300)
def test_a_real_family(name: str, tokenizers: Any) -> None:
    real, tokenizer = REAL[name], tokenizers(name)
    if real.refused is not None:
        with pytest.raises(ConfigError, match=real.refused):
            ChatTemplate(tokenizer, [SEARCH_TOOL.schema])
        codec = TokenCodec(tokenizer)
    else:
        dialect = ToolCallDialect([SEARCH_TOOL], ChatTemplate(tokenizer, [SEARCH_TOOL.schema]))
        codec = TokenCodec(tokenizer, dialect.tags)
        check_frame(real, dialect)
        check_ids(dialect, codec)
        check_reading(dialect, codec)
    check_untrusted(codec)


def check_frame(real: Any, dialect: ToolCallDialect) -> None:
    frame = dialect.template.frame
    assert (frame.notation, frame.readable_calls, frame.has_slots) == (real.notation, True, real.names_calls)
    assert (frame.call_end, frame.turn_end) == (real.call_end, real.answer_end)


def check_ids(dialect: ToolCallDialect, codec: TokenCodec) -> None:
    """Observations of one, two and three passages, and of two calls, are the template's own tokens."""
    template, frame = dialect.template, dialect.template.frame
    if not frame.tool_role or not template.renders_calls:
        return
    for calls in ([1], [2], [3], [1, 2]) if template.renders_two_calls else ([1], [2], [3]):
        for start in range(len(PASSAGES)):
            blocks = [tuple(PASSAGES[(start + n) % len(PASSAGES)] for n in range(size)) for size in calls]
            ids = [f"provenid{n}" for n in range(len(calls))]
            written = [("search", {"query": f"landmark {i}"}, i) for i in ids]
            messages: list[Any] = [ASKED, template.called(written)]
            messages += [
                {"role": "tool", "name": "search", "tool_call_id": i, "content": "".join(block).strip()}
                for i, block in zip(ids, blocks, strict=True)
            ]
            rendered = template.render(messages, generate=True)
            end = rendered.find(frame.call_end, rendered.find(f"landmark {ids[-1]}")) + len(frame.call_end)
            held = codec.prompt(rendered[:end])
            action = CallTools(tuple(ToolCall("search", i, call_id=i) for i in ids))
            seen = dialect.observation(codec, action, [ToolResult(block) for block in blocks], turn_ids=held)
            assert seen is not None
            assert held + seen.token_ids == codec.prompt(rendered)


def check_reading(dialect: ToolCallDialect, codec: TokenCodec) -> None:
    """What the tokenizer makes of a call and an answer decodes to a turn that is read as one."""
    frame, tokenizer = dialect.template.frame, codec.tokenizer
    written = dialect.template.call("search", {"query": "who wrote it"})
    for text, expected in (
        (written + frame.call_end, [("search", "who wrote it", None)]),
        ("Paris" + frame.turn_end, None),
    ):
        action = dialect.parse(tokenizer.decode(codec.trusted(text), skip_special_tokens=False))
        if expected is None:
            assert action == Answer("Paris")
        else:
            assert isinstance(action, CallTools)
            assert [(call.tool, call.query, call.error) for call in action.calls] == expected


def check_untrusted(codec: TokenCodec) -> None:
    tokenizer: Any = codec.tokenizer
    flagged = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    # Gemma's own mark of a blank can't be told from one in any text.
    literals = [token for token in tokenizer.get_added_vocab() if token.strip() and "▁▁" not in token]
    assert flagged <= codec.control_ids
    for text in ["".join(literals), *literals, *(f"x{a}{b}" for a, b in itertools.pairwise(literals))]:
        ids = codec.untrusted(text)
        assert codec.control_ids.isdisjoint(ids)
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
    for text in (HTML, CODE):
        own = len(tokenizer.encode(text, add_special_tokens=False))
        assert len(codec.untrusted(text)) <= 1.05 * own
        assert tokenizer.decode(codec.untrusted(text), skip_special_tokens=False) == text
