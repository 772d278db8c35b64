"""The rollout that the benchmark plays: two searches and an answer, over synthetic text and its own tokenizer."""

import itertools
import random
from dataclasses import dataclass
from pathlib import Path

import orjson
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PROMPT_TOKENS = 200
SAMPLES_PER_PROMPT = 8
"""As GRPO draws them, and next to each other, as slime submits them."""
PASSAGES = 3
PASSAGE_WORDS = 100
SEARCHES = 2
ENGINE_CALLS = SEARCHES + 1

FINDS_PER_RESULT = 4
"""How often a search result comes back before the next one does: samples of a group ask much the same."""

_SEARCH_RESULTS = 64
_NUMBER = b"@number@"
_THOUGHT_WORDS = 24
_VOCABULARY = 4_000
_LEXICON = 6_000
_OBSERVATION_END = "</information>\n\n"


@dataclass(frozen=True, slots=True)
class Script:
    """What the servers answer, ready to send.

    The engine's answer to a request is ``turns[n]``, n being how often the ``observation_ends`` occur in its body: once
    for each search so far, as text or as token ids, whichever the client sends. The retriever's answers are
    in ``search_result``.
    """

    turns: tuple[bytes, ...]
    observation_ends: tuple[bytes, ...]
    search_results: tuple[bytes, ...]

    def search_result(self, request: int) -> bytes:
        """The answer to the retriever's ``request``-th request; new text after every FINDS_PER_RESULT of them."""
        number = request // FINDS_PER_RESULT
        return self.search_results[number % len(self.search_results)].replace(_NUMBER, b"%08d" % number)


@dataclass(frozen=True, slots=True)
class Scenario:
    """``checkpoint`` is the folder of the tokenizer; ``prompts`` holds one, of about PROMPT_TOKENS, a trajectory."""

    checkpoint: Path
    prompts: tuple[str, ...]
    script: Script


def build_scenario(folder: Path, *, trajectories: int) -> Scenario:
    """Trains the tokenizer into ``folder`` and writes the script; each call writes the same."""
    prose = _Prose(seed=0)
    tokenizer = _train_tokenizer(prose)
    tokenizer.save_pretrained(folder)
    script = _script(prose, tokenizer)
    distinct = [_prompt(prose, tokenizer) for _ in range(0, trajectories, SAMPLES_PER_PROMPT)]
    return Scenario(folder, tuple(distinct[i // SAMPLES_PER_PROMPT] for i in range(trajectories)), script)


class _Prose:
    """Sentences of made-up words whose frequencies follow Zipf's law, so that tokens and words relate as in English."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        syllables = [c + v + e for c in "bcdfglmnprstvw" for v in "aeiou" for e in ("", "n", "r", "s", "st")]
        lengths = (1, 2, 2, 3, 3, 4)
        self._lexicon = sorted(
            {"".join(self._random.choices(syllables, k=self._random.choice(lengths))) for _ in range(_LEXICON)},
            key=len,
        )
        self._weights = list(itertools.accumulate(1 / rank for rank in range(1, len(self._lexicon) + 1)))

    def __call__(self, words: int) -> str:
        drawn = self._random.choices(self._lexicon, cum_weights=self._weights, k=words)
        sentences = [" ".join(drawn[start : start + 12]).capitalize() for start in range(0, words, 12)]
        return ". ".join(sentences)


def _train_tokenizer(prose: _Prose) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    markers = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=markers,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((prose(200) for _ in range(300)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=markers
    )


def _prompt(prose: _Prose, tokenizer: PreTrainedTokenizerFast) -> str:
    opening = "<|im_start|>user\nAnswer the question. Search with <search> query </search> as often as you want. "
    closing = "?<|im_end|>\n<|im_start|>assistant\n"
    room = PROMPT_TOKENS - len(_ids(tokenizer, opening)) - len(_ids(tokenizer, closing))
    body = tokenizer.decode(_ids(tokenizer, prose(PROMPT_TOKENS))[:room])
    return f"{opening}{body}{closing}"


def _script(prose: _Prose, tokenizer: PreTrainedTokenizerFast) -> Script:
    actions = [("search", prose(6))] * SEARCHES + [("answer", prose(2))]
    end_ids = ",".join(map(str, _ids(tokenizer, _OBSERVATION_END)))
    return Script(
        turns=tuple(_engine_answer(f"<think> {prose(_THOUGHT_WORDS)} </think>\n", *a, tokenizer) for a in actions),
        observation_ends=(_OBSERVATION_END.strip().encode(), f",{end_ids}".encode()),
        search_results=tuple(_search_result(prose) for _ in range(_SEARCH_RESULTS)),
    )


def _search_result(prose: _Prose) -> bytes:
    """An answer of ``/retrieve`` to one query, without scores."""
    rows = [
        {"id": str(n), "contents": f'"{prose(3)}"\n{_NUMBER.decode()} {prose(PASSAGE_WORDS)}'} for n in range(PASSAGES)
    ]
    return orjson.dumps({"result": [rows]})


def _engine_answer(thought: str, tag: str, content: str, tokenizer: PreTrainedTokenizerFast) -> bytes:
    """SGLang's answer to ``/generate`` with ``return_logprob``."""
    text = f"{thought}<{tag}> {content} </{tag}>"
    ids = _ids(tokenizer, text)
    meta = {
        "id": "6b1f0c0e5a7d4f5f9a35f4c1f3a0d2b7",
        "finish_reason": {"type": "stop", "matched": f"</{tag}>"},
        "weight_version": "default",
        "completion_tokens": len(ids),
        "cached_tokens": 0,
        "output_token_logprobs": [[-1 / (3 + position % 7), i, None] for position, i in enumerate(ids)],
        "e2e_latency": 1.0,
    }
    return orjson.dumps({"text": text, "output_ids": ids, "meta_info": meta})


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))
