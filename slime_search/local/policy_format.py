"""How the tiny policy speaks: with Search-R1's tags, or in chat turns that call a search function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from slime_search.core.call_markup import CALL_CLOSE, CALL_OPEN, RESULT_CLOSE, RESULT_OPEN
from slime_search.core.dialect import Dialect
from slime_search.core.tokens import TokenCodec
from slime_search.dialects.chat_frame import ChatTemplate
from slime_search.dialects.tags import CORRECTION, SEARCH_R1_TAGS
from slime_search.dialects.tool_calls import MARKUP, SEARCH_TOOL, ToolCallDialect
from slime_search.hooks.driving import Recipe
from slime_search.recipes.search_r1 import SearchR1
from slime_search.recipes.search_r1_tools import TOOL_SCHEMAS, TOOLS, SearchR1Tools

PAD, EOS = "<pad>", "<eos>"
Render = Callable[[Sequence[Mapping[str, Any]]], str]
"""Chat messages to the text of a prompt."""


@dataclass(frozen=True)
class PolicyFormat:
    """One recipe, and what a tokenizer and a teacher need to know of its dialect.

    ``markup`` are added tokens; ``phrases`` is text that a tokenizer should know. ``search_turn`` and ``answer_turn``
    write a whole turn of the model from a thought and a query or answer; a blank before that keeps its first word the
    token that it is everywhere else. ``cold_start_steps`` is how long imitating it takes to learn to copy reliably.
    ``tool`` is the tag or function that a searching turn calls. With ``answers_in_sentences`` an answer is read by
    another agent, which has to find the value in it. ``prompt_ids`` encodes a question where that is not the rendered
    prompt's own encoding.
    """

    name: str
    recipe: Callable[[Mapping[str, Any]], Recipe]
    dialect: Callable[[PreTrainedTokenizerBase], Dialect]
    renderer: Callable[[PreTrainedTokenizerBase], Render]
    markup: tuple[str, ...]
    chat_template: str
    phrases: tuple[str, ...]
    search_turn: Callable[[str, str], str]
    answer_turn: Callable[[str, str], str]
    cold_start_steps: int
    tool: str = "search"
    answers_in_sentences: bool = False
    prompt_ids: Callable[[TokenCodec, str], list[int]] | None = None

    def prompt_encoder(self, codec: TokenCodec, tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
        """From a question to the token ids that a rollout about it begins with."""
        if self.prompt_ids is not None:
            return partial(self.prompt_ids, codec)
        render = self.renderer(tokenizer)
        return lambda question: codec.trusted(render([{"role": "user", "content": question}]))


QUESTION = (
    "{% for message in messages %}"
    "{% if message.role != 'user' %}{{ raise_exception('this tiny model reads user messages only') }}{% endif %}"
    "Question: {{ message.content }}\n"
    "{% endfor %}"
)
_CHAT = (
    "{% for tool in tools or [] %}{{ tool.function.name }}: {% endfor %}"
    "{% for message in messages %}"
    "{% if message.role == 'user' %}Question: {{ message.content }}\n"
    f"{{% elif message.role == 'tool' %}}\n{RESULT_OPEN}\n{{{{ message.content }}}}\n{RESULT_CLOSE}\n"
    "{% else %}{{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    f"\n{CALL_OPEN}\n{{{{ call.function | tojson }}}}\n{CALL_CLOSE}{{% endfor %}}"
    f"{EOS}{{% endif %}}"
    "{% endfor %}"
)
_CALL_HEAD = '{"name": "search", "arguments": {"query": "'
"""One token of the tiny vocabulary, as a tag is; spelled out, it would be a third of what the policy writes."""


def by_tag(name: str) -> Callable[[str, str], str]:
    return lambda thought, content: f"<think> {thought} </think>\n<{name}> {content} </{name}>"


def _by_call(thought: str, query: str) -> str:
    return f'<think> {thought} </think>\n{CALL_OPEN}\n{_CALL_HEAD} {query}"}}}}\n{CALL_CLOSE}{EOS}'


def question_only(tokenizer: PreTrainedTokenizerBase) -> Render:
    return lambda messages: str(
        tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    )


_POLICY_FORMATS = (
    PolicyFormat(
        name="tags",
        recipe=SearchR1,
        dialect=lambda tokenizer: SEARCH_R1_TAGS,
        renderer=question_only,
        markup=SEARCH_R1_TAGS.tags,
        chat_template=QUESTION,
        phrases=(CORRECTION,),
        search_turn=by_tag("search"),
        answer_turn=by_tag("answer"),
        cold_start_steps=600,
    ),
    PolicyFormat(
        name="tools",
        recipe=SearchR1Tools,
        dialect=lambda tokenizer: ToolCallDialect(TOOLS, ChatTemplate(tokenizer, TOOL_SCHEMAS)),
        renderer=lambda tokenizer: ChatTemplate(tokenizer, TOOL_SCHEMAS).prompt,
        markup=(*MARKUP, _CALL_HEAD),
        chat_template=_CHAT,
        phrases=(_by_call("", ""), f"{SEARCH_TOOL.name}: ", "Error: Try again."),
        search_turn=_by_call,
        answer_turn=lambda thought, answer: by_tag("answer")(thought, answer) + EOS,
        cold_start_steps=750,
    ),
)
POLICY_FORMATS: Mapping[str, PolicyFormat] = {policy_format.name: policy_format for policy_format in _POLICY_FORMATS}
"""By the names that ``quickstart --dialect`` takes."""
TAGS = POLICY_FORMATS["tags"]
