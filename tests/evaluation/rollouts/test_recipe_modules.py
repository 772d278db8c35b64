"""``--recipe``: what a recipe is asked with, and a recipe of one's own in a module."""

import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from slime_search.data.prepare import FORMATS
from slime_search.data.prompts import SEVERAL_QUERIES_PROMPT, chat_row, write_parquet
from slime_search.data.questions import Question
from slime_search.errors import ConfigError
from slime_search.evaluation.questions import read_question_set
from slime_search.evaluation.recipes import RECIPES, entry_of
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.driving import drive
from slime_search.recipes.base import recipe_in
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

MODULE = """
from slime_search.recipes.search_r1 import SearchR1

class Own(SearchR1):
    pass

recipe = Own({"max_turns": 1, "local": {"search_url": "http://127.0.0.1:9/retrieve"}})
generate, reward_func = recipe.generate, recipe.reward_func
"""
TAUGHT = """
from slime_search.recipes.distillation.recipe import SearchDistillation

_recipe = SearchDistillation({"teacher": {"url": "http://127.0.0.1:9"}})

async def generate(args, sample, sampling_params, evaluation=False):
    sample.metadata["evaluation"] = evaluation
    return sample

reward_func = _recipe.reward_func
"""
OWN_REWARD = """
from slime_search.hooks.samples import read_trajectory
from slime_search.recipes.search_r1 import SearchR1

generate = SearchR1({"max_turns": 1}).generate

async def reward_func(args, sample, **kwargs):
    return 0.25 * len(read_trajectory(sample).calls)
"""
PROMPT = [{"role": "user", "content": "Mind this. who made thing-2"}]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.fixture
def asked_so(tmp_path: Path) -> Path:
    """A question whose row says how it is asked."""
    path = tmp_path / "asked.jsonl"
    path.write_bytes(orjson.dumps({"question": "who made thing-2", "golden_answers": ["name-2"], "prompt": PROMPT}))
    return path


@pytest.mark.usefixtures("retriever")
def test_a_module_is_rolled_out_with_its_rows_prompts(
    run: Any, engine: ScriptedEngine, modules: Path, asked_so: Path
) -> None:
    (modules / "own_agent.py").write_text(MODULE)
    done = run("--engine-url", engine.url, "--recipe", "own_agent", "--questions", asked_so)
    assert done.exit_code == 0, done.output
    assert "✓ who made thing-2 → name-2" in done.output
    assert "Mind this. who made thing-2<|im_end|>" in engine.exchanges[0].prompt


def test_a_module_may_take_its_hooks_from_a_recipe_without_a_name(modules: Path) -> None:
    made = "from slime_search.recipes.search_r1_tools import SearchR1Tools as Own\n"
    (modules / "nameless.py").write_text(made + "generate, reward_func = Own({}).generate, Own({}).reward_func\n")
    assert entry_of("nameless").calls_tools


def test_a_modules_teacher_is_for_training_only(modules: Path) -> None:
    (modules / "own_student.py").write_text(TAUGHT)
    entry = entry_of("own_student")
    sample = LocalSample(reward=1.0)
    asyncio.run(drive(entry.build({}), None, sample, {}))
    assert sample.metadata == {"evaluation": True}
    assert entry.calls_tools


@pytest.mark.usefixtures("retriever")
def test_a_reward_of_ones_own_gets_the_sample_as_from_slime(
    run: Any, engine: ScriptedEngine, modules: Path, asked_so: Path
) -> None:
    (modules / "own_reward.py").write_text(OWN_REWARD)
    done = run("--engine-url", engine.url, "--recipe", "own_reward", "--questions", asked_so, "--show", "turns")
    assert done.exit_code == 0, done.output
    assert "answer: name-2  (reward 0.25" in done.output


@pytest.mark.usefixtures("retriever")
def test_a_module_needs_to_be_told_how_to_ask(run: Any, engine: ScriptedEngine, modules: Path) -> None:
    (modules / "own_agent.py").write_text(MODULE)
    asked = ("--engine-url", engine.url, "--recipe", "own_agent", "--ask", "Who made thing-7?")
    done = run(*asked)
    assert done.exit_code == 1
    assert "the recipe own_agent has no prompt of its own" in done.output
    (modules / "prompt.txt").write_text("Look: {question}")
    done = run(*asked, "--prompt-template", modules / "prompt.txt")
    assert done.exit_code == 0, done.output
    assert "Look: Who made thing-7?<|im_end|>" in engine.exchanges[0].prompt


def test_what_is_wrong_with_a_module_is_said(modules: Path) -> None:
    (modules / "half_agent.py").write_text("async def generate(args, sample, sampling_params): ...")
    with pytest.raises(ConfigError, match="module half_agent has no reward_func"):
        entry_of("half_agent")
    with pytest.raises(ConfigError, match="put its folder on PYTHONPATH"):
        entry_of("no_such_agent")


def prepared(folder: Path) -> Iterator[Path]:
    """A question in every format of ``prepare-data``."""
    question = Question("nq", "test_0", "who made thing-2", ("name-2",))
    rows = {name: form.row_of(question, "test", 0) for name, form in FORMATS.items()}
    rows["asearcher"] = chat_row(question, system_prompt=SEVERAL_QUERIES_PROMPT)
    for name, row in rows.items():
        write_parquet(folder / f"{name}.parquet", [row])
        yield folder / f"{name}.parquet"


def test_a_prompt_that_another_recipe_wrote_gives_way(tmp_path: Path) -> None:
    for path in prepared(tmp_path):
        (question,) = read_question_set(path)
        assert question.messages is not None
        for name, entry in RECIPES.items():
            assert entry.prompt is not None
            assert entry.asks_with(question.text, question.messages) == entry.prompt(question.text), (path.stem, name)


def test_a_prompt_that_somebody_wrote_stays(asked_so: Path) -> None:
    (question,) = read_question_set(asked_so)
    for name, entry in RECIPES.items():
        stays = name not in ("no-search", "rag")
        assert (entry.asks_with(question.text, question.messages) == PROMPT) == stays, name


def test_a_module_gets_the_command_lines_config(
    modules: Path, asked_so: Path, engine: ScriptedEngine, retriever: ScriptedRetriever, qwen_folder: Path
) -> None:
    from slime_search.engines.endpoint import Endpoint
    from slime_search.evaluation.store import settings_of
    from slime_search.evaluation.target import open_target

    (modules / "own_agent.py").write_text(MODULE)
    target = open_target(
        "own_agent", Endpoint(engine.url), tokenizer=str(qwen_folder), config={"max_turns": 5}, concurrency=1
    )
    told: dict[str, Any] = {"questions": {}, "samples": 1, "temperature": 0.0, "turn_tokens": 9, "seed": 0}
    settings = settings_of(target, weights=[], own_services=False, **told)
    assert (settings["recipe"], settings["config"]["max_turns"]) == ("own_agent", 5)
    assert settings["config"]["local"]["search_url"] == retriever.search_url


IMPORTS_ANOTHER = """
from slime_search.recipes.search_r1 import SearchR1
from slime_search.recipes.search_r1_tools import SearchR1Tools

imported = SearchR1Tools({"max_turns": 7})
recipe = SearchR1({"max_turns": 1})
"""
OWN_HOOKS = {
    "methods": "generate, reward_func = recipe.generate, recipe.reward_func",
    "functions": """
async def generate(args, sample, sampling_params):
    return await recipe.generate(args, sample, sampling_params)

async def reward_func(args, sample, **kwargs):
    return await recipe.reward_func(args, sample, **kwargs)
""",
}


@pytest.mark.parametrize("hooks", OWN_HOOKS.values(), ids=OWN_HOOKS)
def test_a_modules_recipe_is_the_one_that_its_hooks_call(hooks: str, modules: Path) -> None:
    (modules / "two_recipes.py").write_text(IMPORTS_ANOTHER + hooks)
    assert not entry_of("two_recipes").calls_tools
    found = recipe_in(importlib.import_module("two_recipes"))
    assert found is not None and found.config().max_turns == 1
