"""Who is asked: a recipe on an engine, with everything its hooks want to know."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slime_search.engines.endpoint import Endpoint
from slime_search.errors import DataError
from slime_search.hooks.runtime import load_tokenizer
from slime_search.rollouts.driving import Recipe
from slime_search.rollouts.questions import Question, sample_of
from slime_search.rollouts.recipes import Entry, Message, entry_of
from slime_search.tokens import TokenCodec


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
        """
        tokenizer = load_tokenizer(self.args.hf_checkpoint)

        def render(messages: Any) -> str:
            text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
            return str(text)

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
