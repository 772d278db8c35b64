"""What the quickstart can show: a recipe, the roles in it, and what each learns before reinforcement learning."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from slime_search.core.prompt_template import PromptTemplate
from slime_search.core.tokens import TokenCodec
from slime_search.dialects.tags import SEARCH_R1_TAGS, TagDialect
from slime_search.errors import ConfigError
from slime_search.hooks.driving import Recipe
from slime_search.hooks.facts import EXECUTOR
from slime_search.local.demonstrations import ONLY_ROLE, QUESTION_ABOUT, SKILLED, UNSKILLED, Habits
from slime_search.local.grpo import GrpoConfig
from slime_search.local.policy_format import POLICY_FORMATS, TAGS, PolicyFormat, by_tag
from slime_search.recipes.coda.prompts import TASK
from slime_search.recipes.coda.recipe import EXECUTOR_TAGS, PLANNER, Coda, planner_tags
from slime_search.recipes.distillation.recipe import SearchDistillation, SearchTool
from slime_search.recipes.thinker_searcher.prompt import QUESTION, searcher_prompt
from slime_search.recipes.thinker_searcher.recipe import ThinkerSearcher

SEARCHER_TURNS = 2
EXECUTOR_PROMPT = f"Task: {TASK}\n"
QUESTION_OR_TASK = (
    "{% for message in messages %}"
    "{% if message.content.startswith('Task: ') %}{{ message.content }}"
    "{% else %}Question: {{ message.content }}\n{% endif %}"
    "{% endfor %}"
)
"""Writes an executor's prompt as it is: slime's ``--apply-chat-template`` counts for executors as well."""
PLANNER_TAGS = planner_tags(1)


@dataclass(frozen=True)
class Role:
    """What a model imitates at the start: how it writes, which questions it is asked, where it looks facts up.

    ``source`` is a search engine over the documents, or another agent that answers questions.
    """

    policy_format: PolicyFormat
    habits: Habits = UNSKILLED
    hops: tuple[int, ...] = (1, 2)
    source: Literal["documents", "agent"] = "documents"


@dataclass(frozen=True)
class Frozen:
    """A second model.

    ``vocabulary`` is the size of a tokenizer of its own; None for the policy's. ``settings`` go to the recipe's
    ``teacher`` section, beside the address.
    """

    role: Role
    serves: Literal["searcher", "teacher"]
    steps: int
    vocabulary: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """One recipe on a tiny model.

    ``roles`` are the policy's, by the names in its demonstrations. ``frozen`` is a second model, which is trained by
    imitation alone and then serves. ``config`` goes to the recipe, beside the addresses. ``alone`` is the recipe
    without the second model, to compare with: from the same start, with the same ``grpo`` but for its teacher.

    With ``reluctance`` the cold start ends with a short and gentle imitation of somebody of these habits: the policy
    keeps what it can do, and hardly does it. ``temperature`` is that of rollouts and of held-out scores. A GRPO step
    asks ``prompts`` questions, of as many facts as ``hops`` says; the held-out ones are of one fact and of two.
    """

    name: str
    title: str
    recipe: Callable[[Mapping[str, Any]], Recipe]
    policy_format: PolicyFormat
    roles: Mapping[str, Role]
    config: Mapping[str, Any]
    cold_start_steps: int
    reluctance: Habits | None = None
    frozen: Frozen | None = None
    alone: Callable[[Mapping[str, Any]], Recipe] | None = None
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    temperature: float = 1.0
    prompts: int = 16
    hops: tuple[int, ...] = (1, 2)
    steps: int = 50
    eval_every: int = 10
    keeps_messages: bool = False
    searches: str = "searches"


def _search_r1(policy_format: PolicyFormat) -> Preset:
    return Preset(
        name="search-r1",
        title="A search agent learns",
        recipe=policy_format.recipe,
        policy_format=policy_format,
        roles={ONLY_ROLE: Role(policy_format)},
        config={"max_turns": 3},
        cold_start_steps=policy_format.cold_start_steps,
    )


def _delegating(dialect: TagDialect, other: TagDialect, tool: str) -> PolicyFormat:
    """Tags of a policy that asks other agents; its tokenizer knows the markup of both."""
    asked = tuple(template.format("A") for template in QUESTION_ABOUT.values())
    return replace(
        TAGS,
        dialect=lambda tokenizer: dialect,
        markup=tuple(dict.fromkeys((*dialect.tags, *other.tags))),
        phrases=(*TAGS.phrases, *asked, "Task: \n", "Question: \n", "The task was not solved."),
        search_turn=by_tag(tool),
        tool=tool,
    )


def _searcher_ids(codec: TokenCodec, question: str) -> list[int]:
    return searcher_prompt(codec, QUESTION)(question, SEARCHER_TURNS)


def _executor_ids(codec: TokenCodec, task: str) -> list[int]:
    return PromptTemplate(codec, EXECUTOR_PROMPT, TASK, None).token_ids(task)


def _refine_and_answer(thought: str, answer: str) -> str:
    return f"<refine> {thought} </refine>\n<answer> {answer} </answer>"


_THINKER = _delegating(SEARCH_R1_TAGS, SEARCH_R1_TAGS, "search")
_PLANNER = replace(_delegating(PLANNER_TAGS, EXECUTOR_TAGS, "task"), chat_template=QUESTION_OR_TASK)
_THINKER_SEARCHER = Preset(
    name="thinker-searcher",
    title="A Thinker learns when to ask its Searcher",
    recipe=ThinkerSearcher,
    policy_format=_THINKER,
    roles={ONLY_ROLE: Role(_THINKER, source="agent")},
    config={"thinker_max_turns": 3},
    cold_start_steps=600,
    frozen=Frozen(
        Role(replace(TAGS, answers_in_sentences=True, prompt_ids=_searcher_ids), SKILLED, hops=(1,)),
        serves="searcher",
        steps=500,
    ),
    searches="questions to the Searcher",
)
_CODA = Preset(
    name="coda",
    title="A planner and its executors learn together",
    recipe=Coda,
    policy_format=_PLANNER,
    roles={
        PLANNER: Role(_PLANNER, source="agent"),
        EXECUTOR: Role(
            replace(
                TAGS,
                dialect=lambda tokenizer: EXECUTOR_TAGS,
                answer_turn=_refine_and_answer,
                answers_in_sentences=True,
                prompt_ids=_executor_ids,
            ),
            Habits(searches=0.7),
            hops=(1,),
        ),
    },
    config={
        "max_turns": 3,
        "executor": {"prompt": EXECUTOR_PROMPT, "max_turns": 2},
        "reward": {"metric": "em"},
    },
    cold_start_steps=800,
    searches="tasks",
)
_TOOLS = POLICY_FORMATS["tools"]
_DISTILL = Preset(
    name="distill",
    title="A search agent learns, with a teacher and without",
    recipe=SearchDistillation,
    policy_format=_TOOLS,
    roles={ONLY_ROLE: Role(_TOOLS)},
    config={"max_turns": 3, "topk": 3},
    cold_start_steps=_TOOLS.cold_start_steps,
    # A reward takes two searches, each of which this policy seldom makes. A teacher has a word on each of them.
    reluctance=replace(SKILLED, searches=0.2, follows_up=0.03),
    hops=(2,),
    frozen=Frozen(Role(_TOOLS, SKILLED), serves="teacher", steps=600, vocabulary=1200, settings={"clip": 5.0}),
    alone=SearchTool,
    grpo=GrpoConfig(learning_rate=5e-4, opd_kl_coef=0.2),
    temperature=0.7,
    prompts=4,
    steps=24,
    eval_every=2,
    keeps_messages=True,
)
PRESETS: Mapping[str, Preset] = {
    preset.name: preset for preset in (_search_r1(TAGS), _THINKER_SEARCHER, _CODA, _DISTILL)
}
"""By the names that ``quickstart --recipe`` takes."""
SEARCH_R1 = PRESETS["search-r1"]


def preset_of(recipe: str, dialect: str | None = None) -> Preset:
    """The preset of a recipe. Search-R1 speaks either dialect, tags unless the other is named; the others speak one.

    Raises:
        ConfigError: the recipe does not speak the dialect.
    """
    if recipe == SEARCH_R1.name:
        return _search_r1(POLICY_FORMATS[dialect or TAGS.name])
    preset = PRESETS[recipe]
    spoken = preset.policy_format.name
    if dialect not in (None, spoken):
        raise ConfigError(
            f"--dialect {dialect}: --recipe {recipe} speaks {spoken} only; leave --dialect out, or take "
            f"--recipe {SEARCH_R1.name}"
        )
    return preset
