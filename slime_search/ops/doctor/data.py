"""The questions: columns, labels, and prompts against the budget of the context."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slime_search.core.tokens import TokenCodec
from slime_search.data.questions import ANSWERS, PROMPTS, located_rows, messages_of, question_of, read_questions
from slime_search.dialects.chat_frame import ChatTemplate
from slime_search.errors import ConfigError, DataError
from slime_search.ops.doctor.results import Result, Waits, failed, passed, skipped, warned
from slime_search.ops.doctor.settings import TURN_TOKENS
from slime_search.ops.doctor.setup import Setup
from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS
from slime_search.rewards.labels import gold_answers

_SAMPLE = 2_000
"""Prompts of a file that are tokenised at most, from all over it."""
_MAKE = "slime-search prepare-data"


class Columns(NamedTuple):
    """What slime's flags name."""

    prompt: str
    label: str
    tools: str | None = None


TAGS = Columns("prompt", "reward_model")
TOOLS = Columns("messages", "label", "tools")


def columns_of(setup: Setup) -> Columns:
    """As the training script names them; else those of our run scripts."""
    usual = TOOLS if setup.calls_tools else TAGS
    named = [setup.run.flag(flag) for flag in ("--input-key", "--label-key", "--tool-key")]
    return Columns(named[0] or usual.prompt, named[1] or usual.label, named[2] or usual.tools)


class Prompts:
    """Prompts from all over a file: every one, then every second, every fourth and so on, so that there are few."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self._step = 1

    def add(self, number: int, prompt: Any) -> None:
        if number % self._step:
            return
        if len(self.kept) == _SAMPLE:
            self.kept, self._step = self.kept[::2], self._step * 2
        self.kept.append(prompt)


def files(setup: Setup) -> Iterator[Result]:
    """Each file can be read, every row has a prompt and gold answers, and the prompts fit in the context."""
    yield from _of_file(setup, "train data", setup.train_data)
    if not setup.eval_data:
        yield skipped("test data", f"none in {setup.train_data.parent / 'test'}; training runs without evaluation")
    for path in setup.eval_data:
        yield from _of_file(setup, f"test data {path.stem}", path)


def _of_file(setup: Setup, name: str, path: Path) -> Iterator[Result]:
    columns = columns_of(setup)
    form = " --format chat" if setup.calls_tools else ""
    if not path.exists():
        yield failed(name, f"{path} does not exist", f"{_MAKE} --output {setup.run.data}{form}, or set DATA")
        return
    prompts, count = Prompts(), 0
    try:
        for where, row in located_rows(path):
            try:
                _check_row(row, columns)
            except ValueError as error:
                raise DataError(f"{where}: {error}") from None
            prompts.add(count, row[columns.prompt])
            count += 1
    except ImportError:
        yield failed(name, f"{path}: pyarrow is not installed", "pip install 'slime-search[data]'")
        return
    except (DataError, OSError) as error:
        read = f"the recipe {setup.recipe_name} reads {columns.prompt} and {columns.label}"
        yield failed(name, str(error), f"make it again: {_MAKE}{form} ({read})")
        return
    if not count:
        yield failed(name, f"{path} has no rows", f"make it again: {_MAKE}{form}")
        return
    yield passed(name, f"{path}: {count:,} questions, each with gold answers")
    yield _lengths_of(setup, f"{name.replace(' data', '')} prompts", prompts.kept)


def _check_row(row: Mapping[str, Any], columns: Columns) -> None:
    """Raises DataError unless slime can make a sample of it, and ``evaluate`` a question where it knows the columns."""
    for column in (columns.prompt, columns.label, *([columns.tools] if columns.tools else ())):
        if row.get(column) is None:
            raise DataError(f"it has no {column!r} among {', '.join(row)}")
    gold_answers(row[columns.label])
    messages_of(columns.prompt, row[columns.prompt])
    if columns.prompt in PROMPTS and columns.label in ANSWERS:
        question_of(row)
    if columns.tools and not isinstance(json.loads(str(row[columns.tools])), list):
        raise DataError(f"{columns.tools}: {str(row[columns.tools])[:80]!r} is not a list in JSON")


def _lengths_of(setup: Setup, name: str, prompts: Sequence[Any]) -> Result:
    """Whether they fit in the context."""
    try:
        lengths = sorted(_lengths(setup, prompts))
    except Waits as reason:
        return skipped(name, str(reason))
    except (ConfigError, TypeError, KeyError, ValueError) as error:
        return failed(name, f"the chat template can't render them: {error}", f"make the file again: {_MAKE}")
    setup.longest_prompt = max(setup.longest_prompt, lengths[-1])
    limit = _context(setup)
    over = sum(length >= limit for length in lengths)
    finding = f"{lengths[len(lengths) // 2]:,} tokens in the middle, {lengths[-1]:,} at most (of {len(lengths):,})"
    if not over:
        return passed(name, finding)
    report = failed if over == len(lengths) else warned
    share = f"{over / len(lengths):.1%} do not fit in a context of {limit:,} tokens"
    return report(name, f"{finding}; {share}", "raise MAX_CONTEXT_LEN, or leave these questions out")


def context(setup: Setup) -> Iterator[Result]:
    """The model was made for contexts of this length, and the longest prompt leaves room for a whole trajectory."""
    config, positions = setup.config, setup.checkpoint.positions
    length = config.max_context_tokens or setup.run.max_context_len
    if positions is not None and length > positions:
        finding = f"{length:,} tokens, and the model was made for {positions:,}"
        yield failed("context", finding, f"export MAX_CONTEXT_LEN={positions}")
        return
    if not setup.longest_prompt:
        raise Waits("prompts have to be readable first")
    searches = setup.tool_turns * (config.max_observation_tokens or 0)
    longest = setup.longest_prompt + (setup.tool_turns + 1) * TURN_TOKENS + searches
    finding = (
        f"{length:,} tokens; {setup.tool_turns + 1} turns of {TURN_TOKENS} and {setup.tool_turns} results of "
        f"{config.max_observation_tokens or 'any number'} after the longest prompt take {longest:,}"
    )
    if longest <= length and config.max_observation_tokens is not None:
        yield passed("context", finding)
        return
    longer = positions is None or longest <= positions
    fix = f"raise MAX_CONTEXT_LEN to {longest}, or lower" if longer else "lower"
    yield warned("context", f"{finding}: such trajectories end truncated", f"{fix} max_observation_tokens or max_turns")


def _context(setup: Setup) -> int:
    length = setup.config.max_context_tokens or setup.run.max_context_len
    return min(length, setup.checkpoint.positions or length)


def _lengths(setup: Setup, prompts: Sequence[Any]) -> list[int]:
    codec = TokenCodec(setup.tokenizer)
    if setup.calls_tools:
        template = ChatTemplate(setup.tokenizer, TOOL_SCHEMAS, setup.config.chat.template_kwargs)
        return [len(codec.trusted(template.prompt(messages))) for messages in prompts]
    rendered = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
    return [len(codec.prompt(messages)) for messages in rendered]


def a_question(setup: Setup) -> str:
    """One that the data asks, or a well-known one."""
    try:
        return next(read_questions(setup.train_data)).text
    except (DataError, ImportError):
        return "Who wrote Hamlet?"


CHECKS = (files, context)
