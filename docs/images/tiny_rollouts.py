"""Rollouts of a tiny model whose vocabulary is so small that names fall into several tokens, as in a real model's.

Its tokenizer cuts text where Qwen's does, and the tags are plain text to both. The model imitates a teacher that
searches, and is then sampled at temperature 1.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import track
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from slime_search.core.tokens import TokenCodec
from slime_search.local.cold_start import cold_start
from slime_search.local.dataset import write_dataset
from slime_search.local.demonstrations import ONLY_ROLE, SKILLED, Demonstration, read_demonstrations
from slime_search.local.policy import MAX_CONTEXT, build_model, save_policy
from slime_search.local.policy_format import EOS, PAD, TAGS
from slime_search.local.presets import SEARCH_R1, Role
from slime_search.local.rollouts import load_prompts
from slime_search.local.stack import LocalStack, RetrieverProcess
from slime_search.local.world import WorldSize, invent_encyclopedia
from slime_search.records.from_samples import rollout_record
from slime_search.records.rollout import Rollout

CUTS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Qwen2.5's."""
FURTHER_PASSAGES = re.compile(r"\nDoc [23].*?(?=\n|</information>)")
SEED = 0
VOCABULARY = 640
STEPS = 450
FORMAT = replace(TAGS, markup=())
PRESET = replace(
    SEARCH_R1,
    policy_format=FORMAT,
    roles={ONLY_ROLE: Role(FORMAT, SKILLED, hops=(1,))},
    config={"max_turns": 3, "topk": 1},
)


def roll_out(folder: Path) -> list[Rollout]:
    """One rollout for each of 200 questions, in a few minutes on two cores. ``folder`` keeps the model."""
    size = WorldSize(people=120, towns=30, companies=30)
    encyclopedia = invent_encyclopedia(SEED, size, size, size)
    data = write_dataset(folder / "data", SEED, encyclopedia=encyclopedia, preset=PRESET, demonstrations=3000)
    shown = [with_one_passage(one) for one in read_demonstrations(data.demonstrations)]
    tokenizer = tokenizer_of(shown)
    model = build_model(tokenizer, SEED)
    steps = iter(track(range(STEPS), "Imitating"))
    cold_start(
        model,
        tokenizer,
        shown,
        steps=STEPS,
        seed=SEED,
        formats={ONLY_ROLE: FORMAT},
        on_step=lambda step, loss: next(steps, None),
    )
    save_policy(folder / "model", model, tokenizer)
    prompts = load_prompts(data.test, FORMAT.renderer(tokenizer))
    with RetrieverProcess(data.corpus, folder / "retriever.log") as retriever:
        retriever.wait_ready()
        stack = LocalStack(
            None,
            tokenizer,
            model_path=folder / "model",
            weights_path=folder / "model",
            logs=folder,
            retriever=retriever,
            seed=SEED,
            rollout_size=len(prompts),
            preset=PRESET,
        )
        with stack:
            samples = stack.rollouts.collect(prompts, n=1, temperature=1.0)
    codec = TokenCodec(tokenizer)
    return [rollout_record([sample], codec, id=str(n), group=str(n)) for n, sample in enumerate(samples)]


def tokenizer_of(demonstrations: Sequence[Demonstration]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that learned its merges from whole trajectories."""
    core = Tokenizer(models.BPE())
    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CUTS), "isolated"), bytes_alone])
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PAD, EOS], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(map(text_of, demonstrations), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=EOS,
        model_max_length=MAX_CONTEXT,
        chat_template=FORMAT.chat_template,
    )


def with_one_passage(demonstration: Demonstration) -> Demonstration:
    """As it is with ``topk`` 1, which keeps the picture small."""
    turns = (replace(turn, text=FURTHER_PASSAGES.sub("", turn.text)) for turn in demonstration.segments)
    return replace(demonstration, segments=tuple(turns))


def text_of(demonstration: Demonstration) -> str:
    return f"Question: {demonstration.question}\n" + "".join(turn.text for turn in demonstration.segments)


def rollouts_in(folder: Path) -> tuple[list[Rollout], TokenCodec]:
    """The rollouts that ``folder`` keeps, made first where it keeps none, and the codec of their tokenizer."""
    path = folder / "rollouts.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(rollout.line() for rollout in roll_out(folder)))
    rollouts = [Rollout.model_validate_json(line) for line in path.read_bytes().splitlines()]
    return rollouts, TokenCodec(AutoTokenizer.from_pretrained(folder / "model"))
