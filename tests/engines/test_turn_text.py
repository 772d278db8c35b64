"""A segment's text is its decoded ids, whatever the engine makes of a stop string inside a token."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from slime_search.core.agent import Agent, Budget
from slime_search.core.decoding import decoded, text_that_follows
from slime_search.core.engine import Completion, ContextLimits, Finish
from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Trajectory
from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.hooks.samples import RECORD_KEY
from tests.support.loopback import edited
from tests.support.rollouts import arguments, generate, new_sample, recipe
from tests.support.scripted_engine import MemoryEngine, ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever


@pytest.fixture(scope="module")
def dummy_prefix() -> PreTrainedTokenizerFast:
    """Of SentencePiece's kind: decoding drops the blank of the first word."""
    words = {"<unk>": 0, "▁Hello": 1, "▁world": 2, "s": 3, "<0xC3>": 4, "<0xA9>": 5, "▁": 6}
    core = Tokenizer(models.BPE(words, [], unk_token="<unk>", byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def in_segments(tokenizer: Any, ids: list[int], cuts: list[int], after: int | None) -> list[str]:
    """The texts of a turn of ``ids`` that was interrupted at ``cuts``."""
    texts = list[str]()
    borders = [0, *cuts, len(ids)]
    for start, end in itertools.pairwise(borders):
        texts.append(
            text_that_follows(tokenizer, "".join(texts), ids[:start], ids[start:end], after=after, last=end == len(ids))
        )
    return texts


@settings(deadline=None)
@given(text=st.text(max_size=30), data=st.data())
def test_an_interrupted_turn_says_what_its_ids_say(text: str, data: st.DataObject, qwen: Any) -> None:
    ids = [i for c in text.encode() for i in [byte_token(qwen, c)]]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=3)))
    after = data.draw(st.sampled_from([None, qwen.eos_token_id, qwen.encode("x ")[-1]]))
    assert "".join(in_segments(qwen, ids, cuts, after)) == qwen.decode(ids, skip_special_tokens=False)


@given(data=st.data())
def test_byte_level_ids_are_decoded_as_their_tokenizer_does(data: st.DataObject, qwen: Any) -> None:
    qwen.add_tokens(["<mark é>", "<mark Ā>", "東京"])
    ids = data.draw(st.lists(st.integers(0, len(qwen) + 3), max_size=12))
    assert decoded(qwen, ids, after=ids[0] if ids else None) == qwen.decode(ids, skip_special_tokens=False)


def byte_token(tokenizer: Any, byte: int) -> int:
    """The token of one byte of a byte-level tokenizer, which has one for each."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    token: int = tokenizer.convert_tokens_to_ids(bytes_to_unicode()[byte])
    return token


def test_the_blank_of_a_first_word_stays(dummy_prefix: Any) -> None:
    assert dummy_prefix.decode([2]) == "world"
    assert decoded(dummy_prefix, [2, 3], after=1) == " worlds"
    assert in_segments(dummy_prefix, [1, 2, 3], [1, 2], 0) == [" Hello", " world", "s"]
    assert in_segments(dummy_prefix, [1, 4, 5, 3], [2], 0) == [" Hello", "és"]


def test_a_character_that_is_never_finished_is_shown_so(dummy_prefix: Any) -> None:
    assert in_segments(dummy_prefix, [1, 4], [], 0) == [" Hello\N{REPLACEMENT CHARACTER}"]


class Saying:
    """An engine that samples these ids, whatever it is asked."""

    def __init__(self, *turns: list[int]) -> None:
        self._turns = list(turns)

    async def generate(self, *args: Any, **kwargs: Any) -> Completion:
        ids = self._turns.pop(0)
        return Completion(ids, [-1.0] * len(ids), Finish.STOP)

    async def context_limits(self) -> ContextLimits | None:
        return None


def test_a_stop_string_that_ends_inside_a_token_leaves_the_token_whole(qwen: Any, qwen_folder: Path) -> None:
    """The last token is ``>`` and a line end; SGLang's text would end behind the ``>``."""
    text = "<think> x </think>\n<answer> name-7 </answer"
    ids = qwen.encode(text)
    tokenizer = AutoTokenizer.from_pretrained(qwen_folder)
    tokenizer.add_tokens([">\n"])
    trajectory = Trajectory(tokenizer.encode("Who?"))
    engine = Saying([*ids, tokenizer.convert_tokens_to_ids(">\n")])
    agent = Agent(engine, SEARCH_R1_TAGS, {}, TokenCodec(tokenizer, SEARCH_R1_TAGS.tags))
    asyncio.run(agent.run(trajectory, {}, Budget(tool_turns=1, corrections=0, turn_tokens=99)))
    assert trajectory.response == text + ">\n" == tokenizer.decode(trajectory.response_ids)
    assert trajectory.answer == "name-7"


def test_what_the_engine_says_of_its_text_is_not_read(
    qwen: Any, qwen_folder: Path, retriever: ScriptedRetriever
) -> None:
    from tests.support.policies import think_answer

    with ScriptedEngine(qwen, lambda context: think_answer("name-7")) as engine:
        engine.script = lambda exchange: edited(lambda answer: {**answer, "text": "<answer> another </answer>"})
        (sample,) = generate(recipe(retriever), arguments(engine, qwen_folder), [new_sample()])
    assert sample.response == think_answer("name-7") == qwen.decode(sample.tokens[-sample.response_length :])
    assert (sample.reward, sample.metadata[RECORD_KEY]["answer"]) == (1.0, "name-7")


def test_the_memory_engine_tells_no_limits(qwen: Any) -> None:
    assert asyncio.run(MemoryEngine(qwen, lambda context: "x").context_limits()) is None
