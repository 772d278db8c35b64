"""What planner and executors are asked."""

from collections.abc import Mapping
from typing import Any

from slime_search.errors import ConfigError
from slime_search.tokens import TokenCodec

TASK = "{task}"
PLANNER_PROMPT = (
    "You are the planner. Answer the question by delegating tasks: you can't search yourself. In each turn, first "
    "think between <think> and </think>. Then either write one small, self-contained task between <task> and </task>, "
    "whose result comes back between <result> and </result>, or, once you know enough, the final answer between "
    "<answer> and </answer>, as short as possible. A task names everything it is about, since whoever carries it out "
    "sees neither the question nor earlier results. For example: <task> Find out where Ada Lovelace was born. </task>, "
    "later <answer> London </answer>.\nQuestion: {question}\n"
)
EXECUTOR_PROMPT = (
    "You are the executor of one task. In each turn, first think between <think> and </think>. Search by writing a "
    "query between <search> and </search>; what is found comes back between <documents> and </documents>. After "
    "reading, write what matters of it between <refine> and </refine>. You can search several times. Finish with the "
    "task's result between <answer> and </answer>, short and self-contained.\nTask: {task}\n"
)
_PLACE = "\N{OBJECT REPLACEMENT CHARACTER}the task\N{OBJECT REPLACEMENT CHARACTER}"


class ExecutorPrompt:
    """Encodes prompts of executors. The task is the policy's own text and can't become a control token.

    Args:
        template: holds ``{task}`` once.
        chat: for the tokenizer's chat template; None where prompts are plain text.
    """

    def __init__(self, codec: TokenCodec, template: str, chat: Mapping[str, Any] | None) -> None:
        self._codec = codec
        text = template.replace(TASK, _PLACE)
        if chat is not None:
            messages = [{"role": "user", "content": text}]
            text = codec.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **chat)
        if text.count(_PLACE) != 1:
            raise ConfigError(
                f"executor.prompt: the chat template writes its text {text.count(_PLACE)} times, not once"
            )
        before, _, after = text.partition(_PLACE)
        self._before, self._after = codec.trusted(before), codec.trusted(after)

    def token_ids(self, task: str) -> list[int]:
        """The prompt for one task."""
        return [*self._before, *self._codec.untrusted(task), *self._after]
