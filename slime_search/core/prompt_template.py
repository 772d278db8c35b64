"""Prompt templates whose variable text comes from a model."""

from collections.abc import Mapping
from typing import Any

from slime_search.core.chat_prompt import chat_prompt
from slime_search.core.tokens import TokenCodec
from slime_search.errors import ConfigError

_MARK = "\N{OBJECT REPLACEMENT CHARACTER}here\N{OBJECT REPLACEMENT CHARACTER}"


class PromptTemplate:
    """Encodes one template with different texts in its placeholder, none of which can become a control token or a tag.

    Args:
        template: holds ``placeholder`` once, such as ``{question}``.
        chat: options of the tokenizer's chat template, which renders the template as a user's message; None where
            prompts are plain text.

    Raises:
        ConfigError: the template does not hold the placeholder exactly once.
    """

    def __init__(self, codec: TokenCodec, template: str, placeholder: str, chat: Mapping[str, Any] | None) -> None:
        if template.count(placeholder) != 1:
            raise ConfigError(f"prompt = {template!r}: write {placeholder} in it, once")
        self._codec = codec
        text = template.replace(placeholder, _MARK)
        if chat is not None:
            messages = [{"role": "user", "content": text}]
            text = chat_prompt(codec.tokenizer, messages, **chat)
        if text.count(_MARK) != 1:
            raise ConfigError(f"prompt: the chat template writes a message {text.count(_MARK)} times, not once")
        before, _, after = text.partition(_MARK)
        self._before, self._after = codec.trusted(before), codec.trusted(after)

    def token_ids(self, text: str) -> list[int]:
        """The prompt with ``text`` in the placeholder."""
        return [*self._before, *self._codec.untrusted(text), *self._after]
