"""The code in docs/extending.md is what it says, and short."""

import asyncio
import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slime_search.data.prepare import FORMATS
from slime_search.data.prompts import write_parquet
from slime_search.data.questions import Question
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.samples import read_trajectory
from slime_search.ops.doctor.slime_hooks import GENERATE, REWARD
from tests.support.chat_rollouts import asking, call, chat_turns
from tests.support.policies import think_answer, think_search, turns_of
from tests.support.rollouts import arguments, generate, new_sample, passage
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.training_view import training_view

PAGE = Path(__file__).parents[2] / "docs/extending.md"
FILES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text(), re.DOTALL))
Status = LocalSample.Status


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Imports a file of the page by its name."""
    folder = tmp_path_factory.mktemp("extending")
    for name, code in FILES.items():
        (folder / f"{name}.py").write_text(code)
    sys.path.insert(0, str(folder))
    yield importlib.import_module
    sys.path.remove(str(folder))
    for name in FILES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_short(name: str) -> None:
    assert FILES[name].count("\n") < 60


def value_of(module: ModuleType, expression: str) -> str:
    (block,) = asyncio.run(module.calculate(expression)).blocks
    return str(block)


@pytest.mark.parametrize(
    ("expression", "value"), [("1932 - 1879", "53"), (" (2+4)/-8 ", "-0.75"), ("2 * 3.5", "7.0"), ("7", "7")]
)
def test_the_calculator_calculates(page: Any, expression: str, value: str) -> None:
    assert value_of(page("calculator"), expression) == value


@pytest.mark.parametrize(
    "expression", ["", "1 +", "2 ** 99999", "__import__('os')", "1/0", "True", "'a' * 9", "(" * 150, "9" * 201, "1j"]
)
def test_the_calculator_says_what_is_wrong(page: Any, expression: str) -> None:
    assert value_of(page("calculator"), expression).startswith("Not an expression: ")


@given(st.text(alphabet="0123456789.+-*/() e_\x00\n", max_size=220) | st.text())
@example("9" * 200 + "/3")
@example("-" * 199 + "1")
@example("(" * 200)
def test_the_calculator_never_raises(page: Any, expression: str) -> None:
    assert value_of(page("calculator"), expression)


def test_the_recipe_with_tags_searches_calculates_and_is_scored(
    page: Any, qwen: Any, qwen_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = turns_of(
        think_search("thing-7 maker"), "<think> t </think>\n<calculate> 1932 - 1879 </calculate>", think_answer("53")
    )
    with ScriptedEngine(qwen, policy) as engine, ScriptedRetriever(passage) as retriever:
        monkeypatch.setenv("SLIME_SEARCH_LOCAL__SEARCH_URL", retriever.search_url)
        recipe = page("calculating_agent").recipe
        (sample,) = generate(recipe, arguments(engine, qwen_folder), [new_sample(label="53")])
        view = training_view(engine.exchanges)
    assert (sample.reward, sample.status) == (1.0, Status.COMPLETED)
    assert (sample.tokens, sample.loss_mask, sample.rollout_log_probs) == (view.tokens, view.loss_mask, view.log_probs)
    calls = read_trajectory(sample).calls
    assert [(one.tool, one.query) for one in calls] == [("search", "thing-7 maker"), ("calculate", "1932 - 1879")]
    assert qwen.decode(view.world[1]) == "\n\n<result>53</result>\n\n"


def test_its_correction_tells_of_the_calculator(page: Any, qwen: Any, qwen_folder: Path) -> None:
    with ScriptedEngine(qwen, turns_of("I say nothing.<|im_end|>", think_answer("53"))) as engine:
        (sample,) = generate(page("calculating_agent").recipe, arguments(engine, qwen_folder), [new_sample(label="53")])
    (correction, *_) = [s for s in read_trajectory(sample).segments if s.is_correction]
    assert "between <calculate> and </calculate>" in correction.text


def test_the_recipe_with_tool_calls_searches_calculates_and_is_scored(
    page: Any, tokenizer: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expression = json.dumps({"name": "calculate", "arguments": {"expression": "1932 - 1879"}})
    policy = chat_turns(
        f"{call('thing-7 maker')}<|im_end|>",
        f"<tool_call>\n{expression}\n</tool_call><|im_end|>",
        "<answer>53</answer><|im_end|>",
    )
    with ScriptedChat(tokenizer, policy) as engine, ScriptedRetriever(passage) as retriever:
        monkeypatch.setenv("SLIME_SEARCH_LOCAL__SEARCH_URL", retriever.search_url)
        recipe = page("calculating_tools").recipe
        (sample,) = generate(recipe, arguments(engine, checkpoint), [asking(label="53")])
        prompt = engine.turns[0].prompt
    assert (sample.reward, sample.status) == (1.0, Status.COMPLETED)
    assert [one.tool for one in read_trajectory(sample).calls] == ["search", "calculate"]
    assert "Evaluates an expression." in prompt and "Searches an encyclopedia" in prompt
    assert "<tool_response>\n53\n</tool_response>" in sample.response


@pytest.mark.parametrize("module", ["calculating_agent", "calculating_tools"])
def test_slime_can_call_the_hooks(page: Any, module: str) -> None:
    """As the doctor looks at them."""
    import inspect

    for hook, function in ((GENERATE, page(module).generate), (REWARD, page(module).reward_func)):
        assert inspect.iscoroutinefunction(function)
        inspect.signature(function).bind(*hook.call)


def test_the_prompts_are_replaced_and_the_rest_stays(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    question = Question("nq", "train_0", "How old was he", ("53",))
    write_parquet(path, [FORMATS["search-r1"].row_of(question, "train", 0)])
    (before,) = pq.read_table(path).to_pylist()
    page("calculating_prompts").main(str(path))
    (after,) = pq.read_table(path).to_pylist()
    (message,) = after.pop("prompt")
    assert message["content"].endswith("Question: How old was he\n") and "<calculate>" in message["content"]
    assert after == {key: value for key, value in before.items() if key != "prompt"}
