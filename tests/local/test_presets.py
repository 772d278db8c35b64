"""What each role imitates has the token ids that a rollout of it would have."""

import random
from dataclasses import replace
from itertools import islice

import pytest
from transformers import PreTrainedTokenizerFast

from slime_search.core.dialect import Answer, CallTools
from slime_search.core.prompt_template import PromptTemplate
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import Passage, ToolResult, passages_result
from slime_search.core.trajectory import Owner
from slime_search.errors import ConfigError
from slime_search.hooks.facts import EXECUTOR
from slime_search.local.cold_start import encode_demonstration
from slime_search.local.dataset import DatasetPaths
from slime_search.local.demonstrations import SKILLED, AnsweringAgent, Documents, Teacher
from slime_search.local.policy import build_tokenizer
from slime_search.local.presets import EXECUTOR_PROMPT, PRESETS, Preset, Role, preset_of
from slime_search.local.world import Encyclopedia
from slime_search.recipes.coda.prompts import TASK
from slime_search.recipes.coda.recipe import PLANNER
from slime_search.recipes.thinker_searcher.prompt import searcher_prompt

ROLES = [
    (preset, name) for preset in PRESETS.values() for name in (*preset.roles, *(["frozen"] if preset.frozen else []))
]


def role_of(preset: Preset, name: str) -> Role:
    if name == "frozen":
        assert preset.frozen is not None
        return preset.frozen.role
    return preset.roles[name]


def teacher(encyclopedia: Encyclopedia, tokenizer: PreTrainedTokenizerFast, role: Role) -> Teacher:
    def search(query: str) -> list[Passage]:
        return [Passage(name, e.text) for name, e in encyclopedia.entities.items() if query.startswith(name)]

    source = Documents(encyclopedia, search) if role.source == "documents" else AnsweringAgent(encyclopedia)
    return Teacher(
        encyclopedia,
        source,
        tokenizer,
        random.Random(0),
        replace(SKILLED, queries_badly=0),
        policy_format=role.policy_format,
    )


@pytest.mark.parametrize(("preset", "name"), ROLES, ids=[f"{preset.name} {name}" for preset, name in ROLES])
def test_a_demonstration_is_what_a_rollout_would_hold(dataset: DatasetPaths, preset: Preset, name: str) -> None:
    role = role_of(preset, name)
    vocabulary = preset.frozen.vocabulary if preset.frozen and name == "frozen" else None
    tokenizer = build_tokenizer(dataset.encyclopedia, preset.policy_format, vocabulary=vocabulary)
    dialect, codec = role.policy_format.dialect(tokenizer), TokenCodec(tokenizer, preset.policy_format.markup)
    master = teacher(dataset.encyclopedia, tokenizer, role)
    for question in islice(dataset.encyclopedia.held_out.questions(random.Random(1), role.hops), 30):
        shown = master.demonstrate(question)
        prompt_ids = role.policy_format.prompt_encoder(codec, tokenizer)
        ids = list(prompt_ids(question.text))
        for turn in shown.segments:
            if turn.owner is Owner.MODEL:
                assert dialect.is_well_formed(turn.text)
                action = dialect.parse(turn.text)
                ids += codec.trusted(turn.text)
            else:
                assert isinstance(action, CallTools)
                read = dialect.observation(codec, action, [result_in(turn.text, dataset.encyclopedia)], turn_ids=ids)
                assert read is not None and read.text == turn.text
                ids += read.token_ids
        assert isinstance(action, Answer) and question.answer in action.text
        assert encode_demonstration(shown, codec, prompt_ids).token_ids == ids


def result_in(text: str, encyclopedia: Encyclopedia) -> ToolResult:
    """The result that an observation shows."""
    if "(Title: " not in text:
        return ToolResult((text.strip().split(">", 1)[1].rsplit("<", 1)[0],))
    titles = [part.split(")")[0] for part in text.split("(Title: ")[1:]]
    return passages_result(tuple(Passage(title, encyclopedia.entities[title].text) for title in titles))


def test_prompts_are_those_of_the_recipes(dataset: DatasetPaths) -> None:
    coda, thinker = PRESETS["coda"], PRESETS["thinker-searcher"]
    tokenizer = build_tokenizer(dataset.encyclopedia, coda.policy_format)
    codec = TokenCodec(tokenizer, coda.policy_format.markup)
    task = "Who founded Acme Works?"
    in_rollout = PromptTemplate(codec, EXECUTOR_PROMPT, TASK, None).token_ids(task)
    assert coda.roles[EXECUTOR].policy_format.prompt_encoder(codec, tokenizer)(task) == in_rollout
    assert tokenizer.decode(in_rollout) == f"Task: {task}\n"
    planner_ids = coda.roles[PLANNER].policy_format.prompt_encoder(codec, tokenizer)(task)
    assert planner_ids == codec.prompt([{"role": "user", "content": task}])
    assert thinker.frozen is not None
    searcher_ids = thinker.frozen.role.policy_format.prompt_encoder(codec, tokenizer)(task)
    assert searcher_ids == searcher_prompt(codec, "{question}")(task, 9)


def test_only_search_r1_has_two_dialects() -> None:
    assert preset_of("search-r1", "tools").policy_format.name == "tools"
    assert preset_of("coda", "tags") is PRESETS["coda"]
    assert preset_of("coda") is PRESETS["coda"]
    assert preset_of("distill").policy_format.name == "tools"
    with pytest.raises(ConfigError, match="--dialect tools: --recipe coda speaks tags only"):
        preset_of("coda", "tools")
