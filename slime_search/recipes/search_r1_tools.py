"""Search-R1 with tool calling: the policy calls a ``search`` function in its own chat markup.

What it is asked stands in ``data/prompts.py``, since training files hold it.
"""

import logging
from collections.abc import Callable, Sequence

from slime_search.config import SearchConfig
from slime_search.core.agent import Agent
from slime_search.core.dialect import Format
from slime_search.core.tokens import Tokenizer
from slime_search.core.trajectory import Trajectory
from slime_search.dialects.chat_frame import ChatTemplate, Message
from slime_search.dialects.notations import NOTATIONS
from slime_search.dialects.thoughts import ThoughtDropper
from slime_search.dialects.tool_calls import SEARCH_TOOL, FunctionTool, ToolCallDialect, ToolCallFormat
from slime_search.errors import ConfigError, DataError
from slime_search.hooks.contract import Args, Messages, Sample, option
from slime_search.hooks.runtime import policy_chat
from slime_search.hooks.samples import RECORD_KEY, record_of, write_back_parts
from slime_search.hooks.slime_options import check_several
from slime_search.recipes.base import Parts, Rollout, SearchRecipe

logger = logging.getLogger(__name__)

NOTATION_KEY = "notation"
"""Set in a sample's record: how its calls were read."""

TOOLS = (SEARCH_TOOL,)
TOOL_SCHEMAS = [tool.schema for tool in TOOLS]
"""The tools as the model is shown them, and as a training file's tools column holds them."""


class SearchR1Tools(SearchRecipe["ChatParts"]):
    """The hooks of Search-R1 with tool calling.

    A sample's prompt is a list of chat messages, or text that slime rendered from them with the tools in it
    (``--apply-chat-template --tool-key tools``). A recipe with other tools names them, the format that reads them,
    and in ``toolbox`` what each calls.
    """

    tools: tuple[FunctionTool, ...] = TOOLS
    format: Format = ToolCallFormat(TOOLS)

    async def _run(self, parts: "ChatParts", rollout: Rollout) -> None:
        def messages() -> list[Message]:
            return parts.dialect.messages(_messages(rollout), rollout.trajectory.segments)

        engine = parts.chat.conversation(messages)
        await rollout.run(Agent(engine, parts.dialect, parts.toolbox, parts.codec, context=parts.context))

    def _prompt_ids(self, parts: "ChatParts", prompt: str | Messages) -> list[int]:
        return parts.codec.prompt(prompt if isinstance(prompt, str) else parts.dialect.template.prompt(prompt))

    def _write_back(self, parts: "ChatParts", rollout: Rollout) -> Sample | list[Sample]:
        """Into ``sample`` where each turn extends the context; where contexts may fork, one sample for each of them."""
        made: Sample | list[Sample]
        if parts.chat.renders_messages or parts.config.chat.thoughts == "template":
            with_log_probs = parts.config.return_logprob
            made = write_back_parts(rollout.args, rollout.sample, rollout.trajectory, with_log_probs=with_log_probs)
        else:
            made = super()._write_back(parts, rollout)
        for sample in made if isinstance(made, list) else [made]:
            sample.metadata[RECORD_KEY][NOTATION_KEY] = parts.dialect.notation.name
        return made

    def _format_of(self, rollout: list[Sample]) -> Format:
        """The reward reads calls as the loop did, also where there is no tokenizer to tell how."""
        name = record_of(rollout[0]).get(NOTATION_KEY)
        if name is None or not isinstance(self.format, ToolCallFormat):
            return self.format
        return self.format.reading(NOTATIONS[name])

    def several_samples(self, config: SearchConfig) -> str:
        if config.chat.thoughts != "template":
            return ""
        return 'chat.thoughts = "template" makes one of each context that is cut; "keep" has one alone'

    def _build(self, args: Args, config: SearchConfig, tokenizer: Tokenizer) -> "ChatParts":
        return ChatParts(args, config, tokenizer, self.tools)


class ChatParts(Parts):
    """With the chat route, and the dialect of the policy's own chat template."""

    def __init__(self, args: Args, config: SearchConfig, tokenizer: Tokenizer, tools: Sequence[FunctionTool]) -> None:
        self.tools = tools
        kwargs = config.chat.template_kwargs or option(args, "apply_chat_template_kwargs") or {}
        schemas = [tool.schema for tool in tools]
        notation = None if config.chat.notation == "auto" else config.chat.notation
        template = ChatTemplate(tokenizer, schemas, kwargs, notation)
        _log_what_matters(template, config)
        self.dialect = ToolCallDialect(tools, template)
        super().__init__(args, config, tokenizer, self.dialect.tags)
        self.context = self._dropping(template) if config.chat.thoughts == "template" else None
        # A server that renders must be told the same.
        chat = config.chat.model_copy(update={"template_kwargs": kwargs})
        self.chat = policy_chat(args, config.model_copy(update={"chat": chat}), schemas)

    def _dropping(self, template: ChatTemplate) -> Callable[[Trajectory], list[int]] | None:
        """What a turn is conditioned on without earlier thoughts; None where the template keeps them, too."""
        dropper = ThoughtDropper(template, self.codec)
        return None if dropper.keeps_all else dropper.context


def _log_what_matters(template: ChatTemplate, config: SearchConfig) -> None:
    if not template.frame.keeps_turns and config.chat.thoughts == "keep":
        logger.info(
            "the chat template leaves out earlier thoughts when it renders a conversation again; here turns are "
            "appended and never rendered again, so the policy keeps its thoughts and is trained on them"
        )
    if not template.frame.readable_calls and config.chat.notation == "auto":
        logger.warning(
            "the chat template writes calls in a notation that is not known here, so they count as malformed or as "
            "answers; chat.notation names one, docs/tool-calling.md has the table"
        )


def _messages(rollout: Rollout) -> list[Message]:
    """The sample's prompt for a server that renders it itself.

    Raises:
        ConfigError: --partial-rollout asks to resume, or another option can't do with several samples of a rollout.
        DataError: the prompt is text.
    """
    if option(rollout.args, "partial_rollout"):
        raise ConfigError(
            "--partial-rollout: the server renders messages itself, so it can't go on inside an interrupted turn. "
            "Serve with SGLang, which takes token ids, or leave the flag out."
        )
    check_several(rollout.args, "This server renders messages itself, and a rendering of its own begins another one")
    prompt = rollout.sample.prompt
    if isinstance(prompt, str):
        raise DataError(
            f"sample {rollout.sample.index}: the prompt is text, and this server renders messages itself. Leave out "
            "--apply-chat-template, so that the sample keeps its messages."
        )
    return list(prompt)
