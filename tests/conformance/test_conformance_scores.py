"""Prompt log-probabilities of real engines through the teacher's client, against a plain forward pass."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from slime_search.recipes.distillation.alignment import transfer
from slime_search.recipes.distillation.config import TeacherConfig
from slime_search.recipes.distillation.prompt_log_probs import Span
from slime_search.recipes.distillation.rendering import TeacherView
from slime_search.recipes.distillation.scoring import Scorer
from slime_search.recipes.distillation.teacher import Teacher
from slime_search.transport.client import close_sessions
from tests.conformance.conformance_client import Reference, assert_close
from tests.conformance.engine_processes import Server
from tests.support.students import ASKED, TOOLS, Student, call
from tests.support.teacher_tokenizers import save_kind


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    yield server.url
    await close_sessions()


def config(url: str, **others: Any) -> TeacherConfig:
    return TeacherConfig(**{"url": url, "cache_tokens": 0, "timeout_s": 200.0, "attempts": 2, **others})


async def test_what_a_teacher_says_is_what_its_model_computes(url: str, tokenizer: Any, reference: Reference) -> None:
    await says_what_its_model_computes(url, tokenizer, reference)


async def test_what_vllm_says_is_what_its_model_computes(
    vllm_server: Server, tokenizer: Any, reference: Reference
) -> None:
    try:
        await says_what_its_model_computes(vllm_server.url, tokenizer, reference)
    finally:
        await close_sessions()


async def says_what_its_model_computes(url: str, tokenizer: Any, reference: Reference) -> None:
    """Prompts of all lengths at once, each from another place on, so that most go in batches where they may."""
    rng = random.Random(0)
    teacher = Teacher(config(url, concurrency=2), tokenizer)
    prompts = [[rng.randrange(len(tokenizer)) for _ in range(rng.randint(2, 300))] for _ in range(24)]
    spans = [Span(prompt, rng.randrange(1, len(prompt))) for prompt in prompts]
    scored = await asyncio.gather(*map(teacher.log_probs, spans))
    for span, (log_probs, _) in zip(spans, scored, strict=True):
        assert_close(log_probs, reference.log_probs(list(span.token_ids[: span.start]), list(span.scored)))


async def test_a_continued_prefix_is_scored_alike(url: str, tokenizer: Any, reference: Reference) -> None:
    """What the server or the client remember of a prefix changes nothing."""
    rng = random.Random(1)
    teacher = Teacher(config(url, cache_tokens=10_000), tokenizer)
    long = [rng.randrange(len(tokenizer)) for _ in range(200)]
    remembered = []
    for end in (90, 200, 150, 200):
        scored = await teacher.log_probs(Span(long[:end], 20))
        assert_close(scored.log_probs, reference.log_probs(long[:20], long[20:end]))
        remembered.append(scored.remembered)
    assert remembered == [0, 64, 128, 180]


@pytest.mark.parametrize("kind", ["byte-level, other cuts", "byte-level, NFC", "sentencepiece"])
async def test_two_tokenizers_from_end_to_end(
    kind: str, url: str, tiny_folder: Path, tokenizer: Any, reference: Reference, tmp_path: Path
) -> None:
    """A student with a vocabulary and a template of its own, and the served model as its teacher."""
    student = Student(AutoTokenizer.from_pretrained(save_kind(tmp_path, kind, family="llama3")))
    turns = (f"I look up 東京.\n{call('the tragedy')}<|eot_id|>", "It was <answer>Zoë 🎉</answer><|eot_id|>")
    trajectory = student.trajectory(*turns)
    named = config(url, tokenizer=str(tiny_folder))
    scorer = Scorer(named, tokenizer=student.tokenizer, template=student.template, tools=TOOLS)
    verdict = await scorer.score(trajectory, ASKED)

    view = TeacherView(
        tokenizer, {}, student_tokenizer=student.tokenizer, student_template=student.template, tools=TOOLS
    )
    rendered = view.render(ASKED, trajectory.segments)
    expected: list[float | None] = []
    for segment, turn in zip(trajectory.segments[::2], rendered.turns, strict=True):
        own = rendered.token_ids[turn.start :][: len(turn.teacher_sizes)]
        told = reference.log_probs(rendered.token_ids[: turn.start], own).tolist()
        expected += transfer(turn.student_sizes, turn.teacher_sizes, turn.runs, told)
        assert len(turn.student_sizes) == len(segment.token_ids)
    mask = trajectory.loss_mask
    found = [value for value, trains in zip(verdict.log_probs, mask, strict=True) if trains]
    assert [value is None for value in found] == [value is None for value in expected]
    known = [(one, other) for one, other in zip(found, expected, strict=True) if one is not None and other is not None]
    assert len(known) > len(found) / 2
    torch.testing.assert_close(*map(torch.tensor, zip(*known, strict=True)), atol=1e-4, rtol=0)
    assert all(value is None for value, trains in zip(verdict.log_probs, mask, strict=True) if not trains)
