"""Who is asked: a recipe on an engine, with everything its hooks want to know."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from slime_search.engines.endpoint import Endpoint
from slime_search.errors import ConfigError
from slime_search.hooks.runtime import load_tokenizer
from slime_search.rollouts.driving import Recipe
from slime_search.rollouts.questions import Question, sample_of
from slime_search.rollouts.recipes import RECIPES, Message
from slime_search.tokens import TokenCodec


@dataclass(frozen=True)
class Target:
    """A recipe and the ``args`` that slime would pass to its hooks. ``name`` is the recipe's.

    ``prompt`` writes a question's messages in place of the recipe, and of what the question's row brings.
    """

    name: str
    recipe: Recipe
    args: Namespace
    prompt: Callable[[str], list[Message]] | None = None

    @property
    def codec(self) -> TokenCodec:
        """Of the policy's tokenizer, for display."""
        return TokenCodec(load_tokenizer(self.args.hf_checkpoint))

    def sample(self, question: Question) -> Any:
        """A question as a sample to roll out, its prompt rendered as the recipe wants it."""
        entry = RECIPES[self.name]
        tokenizer = load_tokenizer(self.args.hf_checkpoint)

        def render(messages: Any) -> str:
            text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
            return str(text)

        if self.prompt is not None or entry.brings_prompt:
            question = replace(question, messages=None)
        return sample_of(question, self.prompt or entry.prompt, None if entry.calls_tools else render)


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
        name: of the recipe, one of ``RECIPES``.
        tokenizer: a Hugging Face folder or name, the policy's.
        config: the recipe's dict. It is overlaid with the environment, as in training.
        concurrency: rollouts at a time.
        apply_chat_template: slime's flag, for what a recipe renders itself, such as a task for an executor.

    Raises:
        ConfigError: there is no such recipe, or a key of its config is wrong.
    """
    if name not in RECIPES:
        raise ConfigError(f"recipe: {name!r} is not one of {', '.join(RECIPES)}")
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
    )
    return Target(name, RECIPES[name].build(config), args)
