"""A recipe on a running engine, opened by what the command line names."""

import json
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from slime_search.core.chat_prompt import chat_prompt
from slime_search.core.tokens import TokenCodec
from slime_search.data.questions import Message, Question
from slime_search.engines.endpoint import Endpoint, Protocol
from slime_search.errors import ConfigError, DataError
from slime_search.evaluation.questions import sample_of
from slime_search.evaluation.recipes import RECIPES, Entry, entry_of
from slime_search.hooks.driving import Recipe
from slime_search.hooks.runtime import load_tokenizer
from slime_search.transport.readiness import ask
from slime_search.validation import check_http_url

TURN_TOKENS = 512
"""Tokens that a turn may have, where neither the user nor the policy says otherwise."""


@dataclass(frozen=True)
class Target:
    """A recipe and the ``args`` that slime would pass to its hooks. ``name`` is the recipe's.

    ``prompt`` writes a question's messages in place of the recipe, and of what the question's row brings.
    """

    name: str
    entry: Entry
    recipe: Recipe
    args: Namespace
    prompt: Callable[[str], list[Message]] | None = None

    @property
    def codec(self) -> TokenCodec:
        """Of the policy's tokenizer, for display."""
        return TokenCodec(load_tokenizer(self.args.hf_checkpoint))

    def sample(self, question: Question) -> Any:
        """A question as a sample to roll out, its prompt rendered as the recipe wants it.

        Raises:
            DataError: neither the recipe nor the question's row says how it is asked.
            ConfigError: the tokenizer's chat template can't write it.
        """
        tokenizer = load_tokenizer(self.args.hf_checkpoint)

        def render(messages: Any) -> str:
            return chat_prompt(tokenizer, messages)

        if self.prompt is not None:
            messages: list[Message] | None = self.prompt(question.text)
        else:
            messages = self.entry.asks_with(question.text, question.messages)
        if messages is None:
            raise DataError(
                f"{question.id}: the recipe {self.name} has no prompt of its own; put the messages into the file's "
                "prompt column, or name a --prompt-template"
            )
        return sample_of(question, messages, None if self.entry.calls_tools else render)


def open_target(
    name: str,
    endpoint: Endpoint,
    *,
    tokenizer: str,
    config: Mapping[str, Any],
    concurrency: int,
    apply_chat_template: bool = True,
) -> Target:
    """A recipe on an engine outside slime.

    Args:
        name: of the recipe, one of ``RECIPES``, or of the module that holds one.
        tokenizer: a Hugging Face folder or name, the policy's.
        config: the recipe's dict. It is overlaid with the environment, as in training.
        concurrency: rollouts at a time.
        apply_chat_template: slime's flag, for what a recipe renders itself, such as a task for an executor.

    Raises:
        ConfigError: there is no such recipe, or a key of its config is wrong.
    """
    entry = entry_of(name)
    if endpoint.protocol == "completions":
        config = {**config, "return_logprob": False}
    args = Namespace(
        endpoint=endpoint,
        hf_checkpoint=tokenizer,
        sglang_server_concurrency=concurrency,
        rollout_num_engines=1,
        apply_chat_template=apply_chat_template,
        reward_key=None,
        # The failure monitor's window.
        rollout_batch_size=max(concurrency, 64),
        n_samples_per_prompt=1,
        # A module's recipe was built with a dict of its own, and reads this one as it reads slime's YAML file.
        slime_search=config,
    )
    return Target(name, entry, entry.build(config), args)


class Opened(NamedTuple):
    """A target, and what its source knows to ask of it."""

    target: Target
    turn_tokens: int
    """Tokens that a turn may have, unless the user says otherwise."""
    test_set: Path | None = None
    """Questions that were held out of its training, where they are known."""


@dataclass(frozen=True)
class Policy:
    """A recipe, and where its model is.

    ``engine_url`` is a running server. Without it the embedded engine serves ``checkpoint``, which is for tiny models
    on a CPU; with it ``checkpoint`` gives the tokenizer, and without that the server is asked for its model's folder.
    """

    recipe: str = "search-r1"
    engine_url: str | None = None
    checkpoint: str | None = None
    protocol: Protocol = "generate"
    model: str = "default"
    token: str | None = field(default=None, repr=False)
    config: Mapping[str, Any] = field(default_factory=dict)
    apply_chat_template: bool = True
    concurrency: int = 64


@contextmanager
def opened(policy: Policy) -> Iterator[Opened]:
    """The policy's target, with an engine that runs as long as the block does.

    Raises:
        ConfigError: neither a server nor a checkpoint is named, or there is no tokenizer.
        ServiceDied: the embedded engine did not start.
    """
    if policy.engine_url is not None:
        try:
            check_http_url(policy.engine_url)
        except ValueError as error:
            raise ConfigError(f"--engine-url: {error}") from None
    with ExitStack() as stack:
        if policy.checkpoint is not None:
            checkpoint = policy.checkpoint
        elif policy.engine_url is not None:
            checkpoint = _model_path(policy.engine_url)
        else:
            raise ConfigError("engine: name a running server with --engine-url, or a tiny model with --checkpoint")
        _check_tokenizer(checkpoint)
        url = policy.engine_url or stack.enter_context(embedded_engine(checkpoint))
        endpoint = Endpoint(url, policy.protocol, policy.model, policy.token)
        target = open_target(
            policy.recipe,
            endpoint,
            tokenizer=checkpoint,
            config=policy.config,
            concurrency=policy.concurrency,
            apply_chat_template=policy.apply_chat_template,
        )
        yield Opened(target, TURN_TOKENS)


@contextmanager
def opened_quickstart(folder: Path, *, before: bool = False) -> Iterator[Opened]:
    """The policy that a quickstart left in ``folder``, with its retriever, engine and second model running.

    Args:
        before: the policy as it was before reinforcement learning.

    Raises:
        DataError: no quickstart was finished there.
    """
    from transformers import AutoTokenizer

    from slime_search.local.artifacts import Artifacts
    from slime_search.local.presets import preset_of
    from slime_search.local.stack import TURN_TOKENS, LocalStack, RetrieverProcess

    artifacts = Artifacts(folder)
    model = artifacts.cold_start_model if before else artifacts.model
    if not artifacts.summary.exists() or not model.exists():
        raise DataError(f"{folder}: no quickstart was finished there; run make quickstart OUTPUT={folder}")
    summary = json.loads(artifacts.summary.read_text())
    preset = preset_of(summary["recipe"], summary["dialect"])
    with tempfile.TemporaryDirectory() as logs, ExitStack() as stack:
        retriever = RetrieverProcess(artifacts.data / "corpus.jsonl", Path(logs) / "retriever.log")
        stack.enter_context(retriever).wait_ready()
        local_stack = LocalStack(
            None,
            AutoTokenizer.from_pretrained(model),
            model_path=model,
            weights_path=model,
            logs=Path(logs),
            retriever=retriever,
            seed=summary["seed"],
            rollout_size=64,
            preset=preset,
            # A teacher is for training only.
            frozen=artifacts.frozen_model if preset.frozen is not None and preset.alone is None else None,
        )
        stack.enter_context(local_stack)
        name = "search-r1-tools" if (summary["recipe"], summary["dialect"]) == ("search-r1", "tools") else preset.name
        # The tiny model's chat template writes all there is around a question.
        target = Target(
            name,
            RECIPES[name],
            local_stack.recipe,
            local_stack.args,
            lambda question: [{"role": "user", "content": question}],
        )
        yield Opened(target, TURN_TOKENS, artifacts.data / "test.parquet")


def _model_path(url: str) -> str:
    """What a server says its model is: SGLang, alone or behind its router, or the embedded engine."""
    answer = ask(f"{url.rstrip('/')}/get_model_info", timeout_s=10)
    if not answer.ready:
        raise ConfigError(f"--engine-url {url}: does not tell its model ({answer.reason}); name it with --checkpoint")
    match answer.body:
        case {"tokenizer_path": str(path)} if path:
            return path
        case {"model_path": str(path)} if path:
            return path
    raise ConfigError(f"--engine-url {url}: does not tell its model's folder; name it with --checkpoint")


def _check_tokenizer(checkpoint: str) -> None:
    try:
        load_tokenizer(checkpoint)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{checkpoint}: no tokenizer can be read there ({reason}); name a folder or a model of the Hub that has "
            "one with --checkpoint"
        ) from None


@contextmanager
def embedded_engine(checkpoint: str) -> Iterator[str]:
    """The URL of an embedded engine that serves ``checkpoint`` as long as the block lasts.

    Raises:
        ServiceDied: it did not start.
    """
    from slime_search.local.stack import EngineProcess

    with (
        tempfile.TemporaryDirectory() as folder,
        EngineProcess(Path(checkpoint), Path(folder) / "engine.log", seed=0) as engine,
    ):
        engine.wait_ready()
        yield engine.url
