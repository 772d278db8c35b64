"""Thoughts that a template opens count as said, and earlier ones may be left out as a server of messages does."""

import json
from pathlib import Path
from typing import Any

import pytest

from slime_search.core.agent import Budget
from slime_search.core.engine import Completion, Finish
from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Ending, Trajectory
from slime_search.dialects.chat_frame import ChatTemplate
from slime_search.dialects.notations import NOTATIONS
from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.dialects.thoughts import ThoughtDropper
from slime_search.dialects.tool_calls import SEARCH_TOOL
from slime_search.errors import ConfigError
from slime_search.hooks.samples import RECORD_KEY
from slime_search.rewards.format import is_well_formed
from tests.support.agent_runs import agent, run, stored_and_read, tool
from tests.support.chat_rollouts import (
    asking,
    by_chat_turn,
    call,
    generate_all,
    sampled_by,
    tools_recipe,
    trained_in,
    turns_of_sample,
)
from tests.support.chat_templates import save_with_template
from tests.support.family_templates import QWEN_XML, QWQ, TEMPLATES, save_family_template
from tests.support.policies import question_number, turns_of
from tests.support.rollouts import arguments
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import MemoryEngine
from tests.support.scripted_retriever import ScriptedRetriever

TOOLS = [SEARCH_TOOL.schema]
BUDGET = Budget(tool_turns=2, corrections=2, turn_tokens=400)
OPENED = "<|im_start|>user\nWho made thing-7?<|im_end|>\n<|im_start|>assistant\n<think>\n"


def opened(tokenizer: Any, *turns: str) -> Trajectory:
    """The tag recipe after a prompt that opens the thought."""
    trajectory = Trajectory(tokenizer.encode(OPENED, add_special_tokens=False))
    return run(
        agent(MemoryEngine(tokenizer, turns_of(*turns)), tokenizer, tool(["made by name-7"])), trajectory, BUDGET
    )


def test_a_thought_that_the_prompt_opened_is_well_formed_and_not_read(qwen: Any) -> None:
    trajectory = opened(
        qwen,
        "<think>\nShall I <search> or <answer>?</think>\n<search> thing-7 maker </search>",
        "<think>it says so</think>\n<answer> name-7 </answer>",
    )
    assert (trajectory.ending, trajectory.answer, trajectory.corrections) == (Ending.ANSWERED, "name-7", 0)
    assert [segment.opened for segment in trajectory.segments] == ["<think>\n", "", ""]
    assert next(trajectory.turns()).startswith("<think>\nShall I")
    assert is_well_formed(trajectory, SEARCH_R1_TAGS)
    again = stored_and_read(trajectory)
    assert list(again.turns()) == list(trajectory.turns())
    assert is_well_formed(again, SEARCH_R1_TAGS)


def test_without_the_end_of_the_thought_the_turn_is_not_well_formed(qwen: Any) -> None:
    trajectory = opened(qwen, "<think>\nI know it. <answer> name-7 </answer>")
    assert not is_well_formed(trajectory, SEARCH_R1_TAGS)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ("<|im_start|>assistant\n", ""),
        ("<|im_start|>assistant\n<think>", "<think>"),
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("What does <think> mean?", ""),
        ("<|turn>model\n<|channel>thought\n", "<|channel>thought\n"),
    ],
)
def test_what_a_context_opens(context: str, expected: str, qwen: Any, tag_token: Any) -> None:
    for tokenizer in (qwen, tag_token):
        codec = TokenCodec(tokenizer)
        # A tokenizer of a few pieces needs more tokens for the longest mark than real ones do.
        if len(codec.trusted(expected)) <= 8:
            assert codec.opened_thought(codec.trusted(context)) == expected


@pytest.fixture(scope="module")
def qwq_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_with_template(tmp_path_factory.mktemp("qwq"), QWQ, specials=TEMPLATES["qwq"].specials)


@pytest.fixture(scope="module")
def qwq(qwq_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(qwq_folder)


def thinks(number: int, context: str) -> str:
    thing = question_number(context)
    if number < 2:
        return f"I do not know part {number}.\n</think>\n\n{call(f'thing-{thing}, part {number}')}<|im_end|>"
    return f"The passages say it.\n</think>\n\n<answer> name-{thing} </answer><|im_end|>"


def thinking(number: int, context: str) -> str:
    return thinks(context.count("<tool_response>"), context)


@pytest.mark.parametrize("thoughts", ["keep", "template"])
def test_each_turn_is_sampled_after_what_a_server_would_render(
    thoughts: str, qwq: Any, qwq_folder: Path, retriever: ScriptedRetriever
) -> None:
    begin = "<|im_start|>assistant\n<think>\n"
    with ScriptedChat(qwq, by_chat_turn(thinking, begin)) as engine:
        args = arguments(engine, qwq_folder, router_policy="consistent_hashing")
        results = generate_all(tools_recipe(retriever, chat={"thoughts": thoughts}), args, [asking()])
        parts = results[0] if isinstance(results[0], list) else [results[0]]
        turns = turns_of_sample(engine, parts[0])
    assert len(turns) == 3 and {part.reward for part in parts} == {1.0}
    # Every sampled token is trained once, in the context that it was sampled in.
    trained, sampled = trained_in(parts), sampled_by(turns)
    assert len(trained) == len(sampled) and set(trained) == sampled
    contexts = [qwq.decode(turn.input_ids) for turn in turns]
    assert [text.count("I do not know") for text in contexts] == ([0, 1, 2] if thoughts == "keep" else [0, 0, 0])
    assert parts[-1].metadata[RECORD_KEY]["drift"]["forked"] == len(parts) - 1 == (0 if thoughts == "keep" else 2)
    if thoughts == "template":
        assert len({part.rollout_id for part in parts}) == 1
        assert contexts == [server_renders(qwq, contexts, n) for n in range(3)]


def server_renders(tokenizer: Any, contexts: list[str], turn: int) -> str:
    """The conversation before that turn by the template, with each thought in its message.

    As text: what the model said beside its thoughts keeps the tokens that were sampled.
    """
    results = contexts[-1].split("<tool_response>\n")[1:]
    messages: list[dict[str, Any]] = asking().prompt[:]
    for number in range(turn):
        said, _, called = thinks(number, contexts[0]).removesuffix("<|im_end|>").partition("</think>\n\n")
        function = json.loads(called.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
        messages.append(
            {
                "role": "assistant",
                "content": f"<think>\n{said}</think>\n\n",
                "tool_calls": [{"type": "function", "id": "x", "function": function}],
            }
        )
        messages.append({"role": "tool", "content": results[number].partition("\n</tool_response>")[0]})
    return ChatTemplate(tokenizer, TOOLS).prompt(messages)


def test_a_template_that_keeps_thoughts_between_calls_changes_nothing(tmp_path: Path) -> None:
    tokenizer = save_family_template(tmp_path, "kimi")
    template = ChatTemplate(tokenizer, TOOLS)
    dropper = ThoughtDropper(template, TokenCodec(tokenizer))
    trajectory = Trajectory([1, 2, 3])
    trajectory.add_completion(Completion([4], [-1.0], Finish.STOP, {}), "x")
    assert dropper.keeps_all and dropper.context(trajectory) == [1, 2, 3, 4]


def test_a_rollout_of_several_samples_can_not_be_resumed(
    qwq: Any, qwq_folder: Path, retriever: ScriptedRetriever
) -> None:
    recipe = tools_recipe(retriever, chat={"thoughts": "template"})
    with ScriptedChat(qwq, by_chat_turn(thinking)) as engine:
        args = arguments(engine, qwq_folder, partial_rollout=True)
        with pytest.raises(ConfigError, match="--partial-rollout"):
            generate_all(recipe, args, [asking()])


def xml(query: str) -> str:
    return NOTATIONS["qwen_xml"].write("search", {"query": query})


def as_xml(number: int, context: str) -> str:
    thing = question_number(context)
    if number == 0:
        return f"I look it up.\n</think>\n\n{xml(f'thing-{thing} maker')}<|im_end|>"
    return f"It says so.\n</think>\n\n<answer> name-{thing} </answer><|im_end|>"


def test_the_reward_reads_a_family_as_the_loop_did(tmp_path: Path, retriever: ScriptedRetriever) -> None:
    """The recipe of Hermes' calls, with a template of Qwen3.5's: nothing is said about it but by the template."""
    from transformers import AutoTokenizer

    folder = save_with_template(tmp_path, QWEN_XML, specials=TEMPLATES["qwen xml"].specials)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    begin = "<|im_start|>assistant\n<think>\n"
    with ScriptedChat(tokenizer, by_chat_turn(as_xml, begin)) as engine:
        args = arguments(engine, folder, router_policy="consistent_hashing")
        (sample,) = generate_all(tools_recipe(retriever), args, [asking()])
    record = sample.metadata[RECORD_KEY]
    assert (sample.reward, record["notation"], record["score"]["well_formed"]) == (1.0, "qwen_xml", 1.0)
    assert retriever.queries == ["thing-7 maker"]
