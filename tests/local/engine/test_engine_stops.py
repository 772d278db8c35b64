"""Where completions end, and what text is left of them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from slime_search.local.engine.params import SamplingParams
from slime_search.local.engine.sequences import LengthReached, Stopped, StopStrings, visible_text
from tests.local.engine.engine_serving import EOS, SEARCH, TEXT, Client, TinyModel


def _fragments() -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(lambda start, size: TEXT[start : start + size], st.integers(0, len(TEXT) - 1), st.integers(1, 12)),
        st.sampled_from([SEARCH, EOS, "h>", "橋", "é", " "]),
    )


@settings(deadline=None, max_examples=150)
@given(data=st.data(), stops=st.lists(_fragments(), min_size=1, max_size=3))
def test_a_stop_string_is_found_with_the_token_that_completes_it(
    qwen2: TinyModel, data: st.DataObject, stops: list[str]
) -> None:
    tokenizer = qwen2.tokenizer
    text = data.draw(st.lists(st.one_of(_fragments(), st.sampled_from(stops), st.text(max_size=4)), max_size=8))
    if data.draw(st.booleans()):
        ids = tokenizer.encode("".join(text))
    else:  # a model may spell a string in other tokens than the tokenizer would
        ids = [token for piece in text for character in piece for token in tokenizer.encode(character)]
    rules = StopStrings(tokenizer, stops)
    found = next((size for size in range(1, len(ids) + 1) if rules.match(ids[:size])), None)
    complete = (size for size in range(1, len(ids) + 1) if any(stop in tokenizer.decode(ids[:size]) for stop in stops))
    assert found == next(complete, None)


def test_the_text_ends_where_sglang_ends_it(qwen2: TinyModel) -> None:
    tokenizer = qwen2.tokenizer
    encode = tokenizer.encode
    eos = tokenizer.eos_token_id

    def text(ids: list[int], finish: Stopped | LengthReached, **params: object) -> str:
        return visible_text(tokenizer, [5], ids, finish, SamplingParams(**params))  # type: ignore[arg-type]

    built = encode("the bridge was built")
    assert text(built, Stopped("was")) == "the bridge "
    assert text(built, Stopped("was"), no_stop_trim=True) == "the bridge was"
    assert text([*built, eos], Stopped(eos)) == "the bridge was built"
    assert text([*built, eos], Stopped(eos), skip_special_tokens=False) == "the bridge was built"
    assert text([*built, eos], Stopped(eos), no_stop_trim=True) == "the bridge was built"
    assert (
        text([*built, eos], Stopped(eos), no_stop_trim=True, skip_special_tokens=False) == "the bridge was built" + EOS
    )
    assert text([*built, 1000], LengthReached(9)) == "the bridge was built"  # an id beyond the tokenizer's
    tagged = [*encode("a"), tokenizer.convert_tokens_to_ids(SEARCH)]
    assert text(tagged, Stopped(SEARCH), skip_special_tokens=False) == "a"
    assert text(tagged, Stopped(SEARCH), skip_special_tokens=False, no_stop_trim=True) == "a" + SEARCH
    assert text(tagged, Stopped(SEARCH), no_stop_trim=True) == "a"  # gone with the special tokens


def test_a_tokenizer_that_drops_the_first_words_blank() -> None:
    words = {"<unk>": 0, "▁the": 1, "▁old": 2, "▁bridge": 3}
    backend = Tokenizer(WordLevel(words, unk_token="<unk>"))
    backend.decoder = Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert tokenizer.decode([2, 3]) == "old bridge"

    rules = StopStrings(tokenizer, ["old "])
    assert [rules.match([1, 2, 3][:size]) for size in (1, 2, 3)] == [None, None, "old "]
    assert visible_text(tokenizer, [1], [2, 3], LengthReached(2), SamplingParams()) == " old bridge"


async def _sample(client: Client, **params: object) -> dict:
    return await client.generate([5], max_new_tokens=200, sampling_seed=11, ignore_eos=True, **params)


@pytest.mark.parametrize("no_stop_trim", [False, True])
async def test_a_stop_string_over_several_tokens_whose_last_token_says_more(
    client: Client, qwen2: TinyModel, no_stop_trim: bool
) -> None:
    free = await _sample(client)
    pieces = [qwen2.tokenizer.decode([token]) for token in free["output_ids"]]
    # Three neighbours in plain letters: the stop string takes the second and a part of the first and third.
    middle = next(
        index
        for index in range(20, len(pieces) - 1)
        if all(re.fullmatch(r"[ -~]{2,}", piece) for piece in (pieces[index - 1], pieces[index + 1]))
        and re.fullmatch(r"[ -~]+", pieces[index])
        and "".join(pieces).count(pieces[index - 1][1:] + pieces[index] + pieces[index + 1][:1]) == 1
    )
    stop = pieces[middle - 1][1:] + pieces[middle] + pieces[middle + 1][:1]

    answer = await _sample(client, stop=["not there", stop], no_stop_trim=no_stop_trim)
    assert answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": stop}
    assert answer["output_ids"] == free["output_ids"][: middle + 2]
    assert len(answer["meta_info"]["output_token_logprobs"]) == middle + 2
    whole = qwen2.tokenizer.decode(answer["output_ids"], skip_special_tokens=True)
    kept = whole[: whole.index(stop)]
    assert answer["text"] == (kept + stop if no_stop_trim else kept)
    assert whole.startswith(kept + stop) and len(whole) > len(kept + stop)


async def test_a_stop_token_ends_the_completion(client: Client, qwen2: TinyModel) -> None:
    free = await _sample(client)
    token = free["output_ids"][30]
    end = free["output_ids"].index(token) + 1
    params = {"max_new_tokens": 200, "sampling_seed": 11, "stop_token_ids": [token]}
    answer = await client.generate([5], **params)
    assert answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": token}
    assert answer["output_ids"] == free["output_ids"][:end]
    assert answer["text"] == qwen2.tokenizer.decode(free["output_ids"][: end - 1], skip_special_tokens=True)
    ignored = await client.generate([5], **params, ignore_eos=True)
    assert ignored["output_ids"] == free["output_ids"]


async def test_one_stop_string_need_not_be_in_a_list(client: Client) -> None:
    free = await _sample(client, skip_special_tokens=False)
    letter = next(character for character in free["text"] if character.isascii() and character.isalpha())
    answer = await _sample(client, stop=letter)
    assert answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": letter}
    assert letter not in answer["text"]
