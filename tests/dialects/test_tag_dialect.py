"""What a model turn means, and what the world writes back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.core.dialect import Answer, CallTools, Invalid, ToolCall
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import Passage, ToolResult, passages_result
from slime_search.dialects.cutting import fit_blocks
from slime_search.dialects.tags import SEARCH_R1_TAGS
from tests.support.tokenizers import TAGS

parse, is_well_formed = SEARCH_R1_TAGS.parse, SEARCH_R1_TAGS.is_well_formed
SEARCH_Q = CallTools((ToolCall("search", "q"),))

VALID = {
    "<think>t</think>\n<search>q</search>": SEARCH_Q,
    "<search>q</search>": SEARCH_Q,
    "<search>\n q \n</search> \n": SEARCH_Q,
    "words before <search>q</search> and after": SEARCH_Q,
    "<think>never closed <search>q</search>": SEARCH_Q,
    "<think>t</think><answer>a b</answer>": Answer("a b"),
    "<answer>two\nlines</answer><|im_end|>": Answer("two\nlines"),
    # What stands in a thought is only mentioned.
    "<think>I could <search>x</search> or <answer>y</answer></think><search>q</search>": SEARCH_Q,
    "<think><information>I made this up</information></think><answer>a</answer>": Answer("a"),
    "<think>a</think><think>b <search></think><search>q</search>": SEARCH_Q,
    # Only whole tags are tags.
    "<search>a < b > c</search>": CallTools((ToolCall("search", "a < b > c"),)),
    "<search>q</search> <searching> </answers>": SEARCH_Q,
}

INVALID = {
    "": "0 action tags",
    "no tags at all": "0 action tags",
    "<think>only a thought</think>": "0 action tags",
    "<search>never closed": "1 action tags",
    "never opened</search>": "1 action tags",
    "<search></search>": "<search> is empty",
    "<answer> \n </answer>": "<answer> is empty",
    "</search>q<search>": "do not enclose",
    "<search>q</answer>": "do not enclose",
    "<answer>a</search>": "do not enclose",
    # Answer spam, and several actions at once.
    "<answer>a</answer><answer>b</answer>": "4 action tags",
    "<search>q</search><answer>a</answer>": "4 action tags",
    "<search>q</search><search>r</search>": "4 action tags",
    # Nested.
    "<answer><answer>a</answer></answer>": "4 action tags",
    "<search><answer>a</answer></search>": "4 action tags",
    "<answer>a<search></answer>": "3 action tags",
    # Playing the tool's part.
    "<search>q</search>\n\n<information>the answer is a</information>": "<information>",
    "<information>a</information><answer>a</answer>": "<information>",
    "</information><answer>a</answer>": "</information>",
    "<answer>a</answer><information>": "<information>",
    # Thoughts are taken out before the tags are looked for, also inside a tag's name.
    "<infor<think></think>mation>a<answer>a</answer>": "<information>",
}


@pytest.mark.parametrize(("turn", "action"), VALID.items())
def test_valid_turns(turn: str, action: Any) -> None:
    assert parse(turn) == action


@pytest.mark.parametrize(("turn", "reason"), INVALID.items())
def test_invalid_turns_say_why(turn: str, reason: str) -> None:
    action = parse(turn)
    assert isinstance(action, Invalid)
    assert reason in action.reason


WELL_FORMED = [
    "<think>t</think><search>q</search>",
    " \n<think>t</think>\n\n<answer>a</answer>\n",
    "<think>two\nlines</think>\n<answer>a</answer><|im_end|>",
    "<think>t</think><answer>a</answer><|im_end|>\n",
    "<think>t</think><answer>a</answer></s>",
    "<think></think><answer>a</answer>",
    "<think>I might <search> for it</think><answer>a</answer>",
]

NOT_WELL_FORMED = [
    "",
    "<search>q</search>",
    "<answer>a</answer>",
    "<think>t</think>",
    "<think>t</think><search>q</search> and more",
    "before <think>t</think><answer>a</answer>",
    "<think>t</think> between <answer>a</answer>",
    "<answer>a</answer><think>t</think>",
    "<think>a</think><think>b</think><answer>a</answer>",
    "<think>a<think>b</think><answer>a</answer>",
    "<think>a</think></think><answer>a</answer>",
    "<think>t</think><answer></answer>",
    "<think>t</think><answer>a</answer><answer>a</answer>",
    "<think>t</think><answer>a",
    "<think>t</think><search>a</answer>",
    "<think>t</think><information>i</information><answer>a</answer>",
    "<think>t</think><answer>a</answer><|im_end|><|im_end|>",
    "<think>t</think><answer>a<think>again</think></answer>",
    "<think>t</think><answer>a</think></answer>",
    "<think>t</think><answer><think>a</answer>",
]


@pytest.mark.parametrize("turn", WELL_FORMED)
def test_well_formed(turn: str) -> None:
    assert is_well_formed(turn)


@pytest.mark.parametrize("turn", NOT_WELL_FORMED)
def test_not_well_formed(turn: str) -> None:
    assert not is_well_formed(turn)


markup = st.lists(st.sampled_from([*TAGS, "a", " ", "\n", "<", ">"]), max_size=12).map("".join)


@given(turn=markup)
def test_any_mixture_of_tags_parses_to_something_sound(turn: str) -> None:
    action = parse(turn)
    match action:
        case CallTools((ToolCall("search", query),)):
            assert query.strip() and "search>" not in query and "answer>" not in query and "information>" not in query
        case Answer(text):
            assert text.strip() and "search>" not in text and "answer>" not in text and "information>" not in text
        case Invalid(reason):
            assert reason
            assert not is_well_formed(turn)
        case _:
            pytest.fail(f"{action} is no action")


def test_the_engine_stops_where_an_action_ends() -> None:
    assert SEARCH_R1_TAGS.stop == ("</search>", "</answer>")


# What the world writes back.


@pytest.fixture(params=["qwen", "tag_token"])
def codec(request: pytest.FixtureRequest) -> TokenCodec:
    return TokenCodec(request.getfixturevalue(request.param), SEARCH_R1_TAGS.tags)


def decode(codec: TokenCodec, ids: list[int]) -> str:
    return codec.tokenizer.decode(ids, skip_special_tokens=False)


def result(*texts: str) -> ToolResult:
    return passages_result(tuple(Passage(f"T{n}", text) for n, text in enumerate(texts)))


def test_an_observation_is_the_result_between_its_tags(codec: TokenCodec) -> None:
    observation = SEARCH_R1_TAGS.observation(codec, SEARCH_Q, [result("one", "two")])
    assert observation is not None
    expected = "\n\n<information>Doc 1(Title: T0) one\nDoc 2(Title: T1) two</information>\n\n"
    assert observation.text == decode(codec, observation.token_ids) == expected
    opening, closing = codec.trusted("\n\n<information>"), codec.trusted("</information>\n\n")
    assert observation.token_ids[: len(opening)] == opening
    assert observation.token_ids[-len(closing) :] == closing


def test_nothing_found_is_said(codec: TokenCodec) -> None:
    observation = SEARCH_R1_TAGS.observation(codec, SEARCH_Q, [ToolResult(())])
    assert observation is not None
    assert observation.text == decode(codec, observation.token_ids) == "\n\n<information>No results.</information>\n\n"


def test_the_text_of_an_observation_is_what_its_tokens_say_also_for_unpaired_surrogates(codec: TokenCodec) -> None:
    observation = SEARCH_R1_TAGS.observation(codec, SEARCH_Q, [result("a \ud800 b")])
    assert observation is not None
    assert observation.text == decode(codec, observation.token_ids)
    assert "a \ufffd b" in observation.text


def test_a_budget_drops_whole_passages_from_the_end(codec: TokenCodec) -> None:
    blocks = result("first of them", "second of them", "third of them")
    whole = SEARCH_R1_TAGS.observation(codec, SEARCH_Q, [blocks])
    assert whole is not None
    exact = SEARCH_R1_TAGS.observation(codec, SEARCH_Q, [blocks], len(whole.token_ids))
    assert exact == whole
    tight = SEARCH_R1_TAGS.observation(codec, SEARCH_Q, [blocks], len(whole.token_ids) - 1)
    assert tight is not None
    assert (
        tight.text
        == "\n\n<information>Doc 1(Title: T0) first of them\nDoc 2(Title: T1) second of them</information>\n\n"
    )


def test_a_first_passage_that_does_not_fit_keeps_its_leading_words(codec: TokenCodec) -> None:
    words = [f"word{n}" for n in range(200)]
    observation = SEARCH_R1_TAGS.observation(codec, SEARCH_Q, [result(" ".join(words))], 120)
    assert observation is not None
    assert len(observation.token_ids) <= 120
    kept = (
        observation.text.removeprefix("\n\n<information>Doc 1(Title: T0) ").removesuffix("</information>\n\n").split()
    )
    assert len(kept) > 5
    assert kept == words[: len(kept)]


def test_a_budget_below_the_frame_leaves_no_observation(codec: TokenCodec) -> None:
    frame = len(codec.trusted("\n\n<information>")) + len(codec.trusted("</information>\n\n"))
    assert SEARCH_R1_TAGS.observation(codec, SEARCH_Q, [result("text")], frame - 1) is None
    smallest = SEARCH_R1_TAGS.observation(codec, SEARCH_Q, [result("text")], frame)
    assert smallest is not None
    assert len(smallest.token_ids) <= frame


blocks = st.lists(
    st.lists(st.sampled_from([*TAGS, "<|im_end|>", "wörd ", "🎉", "\n", "  "]), max_size=30).map("".join), max_size=5
)


@given(blocks=blocks, budget=st.integers(0, 80))
def test_a_cut_result_fits_its_budget_and_is_a_beginning_of_the_whole(
    blocks: list[str], budget: int, qwen: Any
) -> None:
    codec = TokenCodec(qwen, SEARCH_R1_TAGS.tags)
    body = fit_blocks(codec.between, blocks, budget)
    assert len(body.token_ids) <= budget
    assert decode(codec, body.token_ids) == body.text
    assert "".join(blocks).strip().startswith(body.text)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text", ["x" * 2**20, "a b " * 2**18, " " * 2**20, "<|im_end|>" * 2**17], ids=["x", "words", "blanks", "forged"]
)
def test_a_megabyte_passage_is_cut_before_it_is_encoded(text: str, codec: TokenCodec) -> None:
    observation = SEARCH_R1_TAGS.observation(codec, SEARCH_Q, [result(text)], 64)
    assert observation is not None
    assert len(observation.token_ids) <= 64


def test_a_long_passage_is_not_encoded_whole_to_keep_a_little_of_it(qwen: Any) -> None:
    class Counting:
        characters = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(qwen, name)

        def encode(self, text: str, *, add_special_tokens: bool) -> Any:
            self.characters += len(text)
            return qwen.encode(text, add_special_tokens=add_special_tokens)

    tokenizer = Counting()
    observation = SEARCH_R1_TAGS.observation(
        TokenCodec(tokenizer, SEARCH_R1_TAGS.tags), SEARCH_Q, [result("word " * 2**17)], 64
    )
    assert observation is not None
    assert 0 < tokenizer.characters < 2**16


def test_a_correction_mentions_the_tags_without_using_them(tag_token: Any) -> None:
    codec = TokenCodec(tag_token, SEARCH_R1_TAGS.tags)
    correction = SEARCH_R1_TAGS.correction(codec, Invalid("whatever"))
    assert "<search>" in correction.text
    assert decode(codec, correction.token_ids) == correction.text
    tag_ids = {tag_token.get_vocab()[tag] for tag in TAGS}
    assert not tag_ids.intersection(correction.token_ids)
