"""Prompts of ours with a place in which text of a model is set."""

from collections.abc import Mapping
from typing import Any

from slime_search.core.tokens import TokenCodec
from slime_search.errors import ConfigError

_PLACE = "\N{OBJECT REPLACEMENT CHARACTER}here\N{OBJECT REPLACEMENT CHARACTER}"


class FilledPrompt:
    """Encodes one prompt with different texts in it, none of which can become a control token or a tag.

    Args:
        template: holds ``place`` once, such as ``{question}``.
        chat: options of the tokenizer's chat template, which renders the template as a user's message; None where
            prompts are plain text.

    Raises:
        ConfigError: the place is not there once.
    """

    def __init__(self, codec: TokenCodec, template: str, place: str, chat: Mapping[str, Any] | None) -> None:
        if template.count(place) != 1:
            raise ConfigError(f"prompt = {template!r}: write {place} in it, once")
        self._codec = codec
        text = template.replace(place, _PLACE)
        if chat is not None:
            messages = [{"role": "user", "content": text}]
            text = codec.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **chat)
        if text.count(_PLACE) != 1:
            raise ConfigError(f"prompt: the chat template writes a message {text.count(_PLACE)} times, not once")
        before, _, after = text.partition(_PLACE)
        self._before, self._after = codec.trusted(before), codec.trusted(after)

    def token_ids(self, text: str) -> list[int]:
        """The prompt with ``text`` in its place."""
        return [*self._before, *self._codec.untrusted(text), *self._after]
