"""Messages, written as a model's own chat template writes them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slime_search.errors import ConfigError

if TYPE_CHECKING:
    from slime_search.core.tokens import Tokenizer


def chat_prompt(tokenizer: "Tokenizer", messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
    """The text of ``messages``, up to where the model's next one begins.

    Args:
        options: of the template, such as ``enable_thinking``.

    Raises:
        ConfigError: the tokenizer has no chat template, or the template refuses the messages.
    """
    need_chat_template(tokenizer)
    try:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False, **options)
    except Exception as error:
        # jinja2, which need not be installed, says so where a template calls raise_exception.
        if not isinstance(error, ValueError) and type(error).__module__.partition(".")[0] != "jinja2":
            raise
        roles = ", ".join(str(message.get("role")) for message in messages)
        raise ConfigError(
            f"{_name_of(tokenizer)}: its chat template refuses messages of {roles} ({error})",
            "name another checkpoint, or write other messages with --prompt-template",
        ) from None
    return str(text)


def need_chat_template(tokenizer: "Tokenizer") -> None:
    """Raises ConfigError where the tokenizer has no chat template."""
    if getattr(tokenizer, "chat_template", "") is None:
        raise ConfigError(
            f"{_name_of(tokenizer)}: its tokenizer has no chat template, which the prompt is written with",
            "name a checkpoint that has one, an instruct model's for example, or put its chat_template.jinja there",
        )


def _name_of(tokenizer: "Tokenizer") -> str:
    return getattr(tokenizer, "name_or_path", "") or "the checkpoint"
