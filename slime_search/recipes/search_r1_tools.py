"""Search-R1 with OpenAI's tool calling: the policy calls a ``search`` function over ``/v1/chat/completions``."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slime_search.config import SearchConfig
from slime_search.core.agent import Agent
from slime_search.core.dialect import Format
from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Trajectory
from slime_search.dialects.chat_frame import ChatTemplate, Message
from slime_search.dialects.notations import NOTATIONS
from slime_search.dialects.thoughts import ThoughtDropper
from slime_search.dialects.tool_calls import SEARCH_TOOL, FunctionTool, ToolCallDialect, ToolCallFormat
from slime_search.errors import ConfigError, DataError
from slime_search.hooks.runtime import policy_chat, runtime
from slime_search.hooks.samples import RECORD_KEY, open_trajectory, write_back, write_back_parts
from slime_search.recipes.base import Parts, SearchRecipe, budget_of

logger = logging.getLogger(__name__)

NOTATION_KEY = "notation"
"""Set in a sample's record: how its calls were read."""

TOOLS = (SEARCH_TOOL,)
TOOL_SCHEMAS = [tool.schema for tool in TOOLS]
"""What the model is told, and what a training file's tools column holds."""


class SearchR1Tools(SearchRecipe["ChatParts"]):
    """The hooks of Search-R1 with tool calling.

    A sample's prompt is a list of chat messages, or text that slime rendered from them with the tools in it
    (``--apply-chat-template --tool-key tools``). A recipe with other tools names them, the format that reads them,
    and in ``toolbox`` what each calls.
    """

    tools: tuple[FunctionTool, ...] = TOOLS
    format: Format = ToolCallFormat(TOOLS)

    async def generate(
        self, args: Any, sample: Any, sampling_params: Mapping[str, Any], evaluation: bool = False
    ) -> Any:
        """slime's ``--custom-generate-function-path``: runs or resumes one trajectory.

        Returns ``sample`` where the server takes token ids. Where it renders messages itself, returns a list of the
        samples that the rollout became, mostly one; in an evaluation, which counts samples, the last of them, scored.

        Raises:
            TooManyFailures: the share of failed trajectories is over ``max_failure_share``.
            ProtocolError: the engine's answers can't be trained on.
            ConfigError: the server takes no token ids, and --partial-rollout asks to resume.
            DataError: it needs messages, and the prompt is text.
        """
        here = runtime(args)
        parts = self._parts(args).ready(args, here.tokenizer)
        trajectory = open_trajectory(sample, parts.prompt_ids)
        known_segments = len(trajectory.segments)

        def messages() -> list[Message]:
            return parts.dialect.messages(_messages(args, sample), trajectory.segments)

        engine = parts.engine.conversation(messages)
        await Agent(engine, parts.dialect, parts.toolbox, parts.codec, context=parts.context).run(
            trajectory,
            sampling_params,
            budget_of(args, parts.config, sampling_params),
            session_id=sample.session_id,
            cancelled=here.cancelled,
        )
        parts.failures.observe(trajectory)
        with_log_probs = parts.config.return_logprob
        if parts.engine.renders_messages or parts.config.chat.thoughts == "template":
            siblings = write_back_parts(args, sample, trajectory, with_log_probs=with_log_probs)
            for sibling in siblings:
                sibling.metadata[RECORD_KEY][NOTATION_KEY] = parts.dialect.notation.name
            if not evaluation:
                return siblings
            if siblings[-1].reward is None:
                siblings[-1].reward = self._reward(args, siblings)
            return siblings[-1]
        write_back(args, sample, trajectory, known_segments=known_segments, with_log_probs=with_log_probs)
        sample.metadata[RECORD_KEY][NOTATION_KEY] = parts.dialect.notation.name
        return sample

    def _format_of(self, rollout: list[Any]) -> Format:
        """The reward reads calls as the loop did, also where there is no tokenizer to tell how."""
        name = rollout[0].metadata[RECORD_KEY].get(NOTATION_KEY)
        if name is None or not isinstance(self.format, ToolCallFormat):
            return self.format
        return self.format.reading(NOTATIONS[name])

    def _build(self, args: Any, config: SearchConfig) -> "ChatParts":
        return ChatParts(args, config, self.tools)


class ChatParts(Parts):
    """``ready`` adds what depends on the tokenizer, which slime loads after the recipe's module."""

    codec: TokenCodec
    dialect: ToolCallDialect
    context: Callable[[Trajectory], list[int]] | None

    def __init__(self, args: Any, config: SearchConfig, tools: Sequence[FunctionTool]) -> None:
        super().__init__(args, config)
        self.tools = tools
        self._tokenizer: Any = None

    def ready(self, args: Any, tokenizer: Any) -> "ChatParts":
        if self._tokenizer is tokenizer:
            return self
        kwargs = self.config.chat.template_kwargs or getattr(args, "apply_chat_template_kwargs", None) or {}
        # A server that renders must be told the same.
        chat = self.config.chat.model_copy(update={"template_kwargs": kwargs})
        config = self.config.model_copy(update={"chat": chat})
        schemas = [tool.schema for tool in self.tools]
        notation = None if config.chat.notation == "auto" else config.chat.notation
        template = ChatTemplate(tokenizer, schemas, kwargs, notation)
        if not template.frame.keeps_turns and config.chat.thoughts == "keep":
            logger.info(
                "the chat template leaves out earlier thoughts when it renders a conversation again; here turns are "
                "appended and never rendered again, so the policy keeps its thoughts and is trained on them"
            )
        if not template.frame.readable_calls and notation is None:
            logger.warning(
                "the chat template writes calls in a notation that is not known here, so they count as malformed or as "
                "answers; chat.notation names one, docs/tool-calling.md has the table"
            )
        self.dialect = ToolCallDialect(self.tools, template)
        self.codec = TokenCodec(tokenizer, self.dialect.tags)
        self.context = self._dropping(args, template) if config.chat.thoughts == "template" else None
        self.engine = policy_chat(args, config, self._decode, schemas)
        self._tokenizer = tokenizer
        return self

    def _dropping(self, args: Any, template: ChatTemplate) -> Callable[[Trajectory], list[int]] | None:
        """What a turn is conditioned on without earlier thoughts; None where the template keeps them, too."""
        if getattr(args, "partial_rollout", False):
            raise ConfigError(
                '--partial-rollout: with chat.thoughts = "template" a rollout becomes several samples, and slime '
                'resumes single ones only. Leave the flag out, or set chat.thoughts to "keep".'
            )
        dropper = ThoughtDropper(template, self.codec)
        return None if dropper.keeps_all else dropper.context

    def prompt_ids(self, prompt: str | Sequence[Message]) -> list[int]:
        return self.codec.prompt(prompt if isinstance(prompt, str) else self.dialect.template.prompt(prompt))

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=False)  # type: ignore[no-any-return]


def _messages(args: Any, sample: Any) -> list[Message]:
    """The sample's prompt for a server that renders it itself."""
    if getattr(args, "partial_rollout", False):
        raise ConfigError(
            "--partial-rollout: the server renders messages itself, so it can't go on inside an interrupted turn. "
            "Serve with SGLang of July 2026 or later, or leave the flag out."
        )
    if isinstance(sample.prompt, str):
        raise DataError(
            f"sample {sample.index}: the prompt is text, and this server renders messages itself. Leave out "
            "--apply-chat-template, so that the sample keeps its messages."
        )
    return list(sample.prompt)
