"""A teacher without a model: it knows the answers, and says nothing that the passages do not.

Its thoughts are templates; tasks and queries are the data set's sub-questions; its refinements are sentences of the
passages that were found. Where nothing that was found holds the answer it gives up, and the run is thrown away.
"""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from slime_search.core.engine import Completion, ContextLimits, Finish
from slime_search.core.tokens import Tokenizer
from slime_search.data.coda_demonstrations.questions import Problem, Step
from slime_search.recipes.coda.prompts import EXECUTOR_PROMPT, TASK
from slime_search.rewards.text import cover_exact_match

_FIRST = ("I have to find out: {question}", "First I need to know: {question}", "Let me begin with: {question}")
_NEXT = ("It is {known}. Now: {question}", "So that is {known}. Next: {question}")
_LAST = ("It is {known}, so I can answer.", "The result says {known}, which answers the question.")
_SEARCH = ("I should look this up.", "I search for it.", "I need a source for this.")
_AGAIN = ("This does not say it. I try other words.", "That is not enough. I search again.")
_FOUND = ("The documents say it.", "This answers the task.", "Now I know.")
_STOP_WORDS = frozenset(
    "a an and are as at be by did do does for from had has have how in is it its of on or that the their them this to "
    "was were what when where which who whom whose why with".split()
)
_BLOCK = re.compile(r"Doc \d+\(Title: (?P<title>.*?)\) (?P<text>.*)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
_RESULT, _DOCUMENTS = "\n\n<result>", "\n\n<documents>"
_TAG = re.compile(r"</?\w+>")
GIVE_UP = "I don't know."
"""What it says, without any tag, where it has nothing to show."""


class TemplateTeacher:
    """Says what planner and executors of one problem say, turn by turn, as an engine does."""

    def __init__(self, problem: Problem, tokenizer: Tokenizer, rng: random.Random) -> None:
        self._problem = problem
        self._tokenizer = tokenizer
        self._rng = rng
        self._steps = {step.question: step for step in problem.steps}

    async def generate(
        self, input_ids: Sequence[int], sampling_params: Mapping[str, Any], *, session_id: str | None = None
    ) -> Completion:
        """The next turn after the context; its tokens are the tokenizer's."""
        context = self._tokenizer.decode(input_ids, skip_special_tokens=False)
        before, after = EXECUTOR_PROMPT.split(TASK)
        if before in context:
            task, _, rest = context.partition(before)[2].partition(after)
            text = self._executor_turn(self._steps[task], rest)
        else:
            text = self._planner_turn(context.partition(f"Question: {self._problem.text}")[2])
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return Completion(ids, None, Finish.STOP)

    async def context_limits(self) -> ContextLimits | None:
        return None

    def _planner_turn(self, context: str) -> str:
        problem = self._problem
        if problem.solution:
            return f"<think> {_TAG.sub(' ', problem.solution)} </think>\n<answer> {problem.answers[0]} </answer>"
        done = context.count(_RESULT)
        known = problem.steps[done - 1].answers[0] if done else ""
        if done == len(problem.steps):
            return f"<think> {self._say(_LAST, known=known)} </think>\n<answer> {problem.answers[0]} </answer>"
        question = problem.steps[done].question
        thought = self._say(_NEXT if done else _FIRST, known=known, question=question)
        return f"<think> {thought} </think>\n<task> {question} </task>"

    def _executor_turn(self, step: Step, context: str) -> str:
        searches = context.count(_DOCUMENTS)
        query = step.question
        if searches:
            # A passage may hold the closing tag, too; the last one is the tool's.
            sentence = _sentence_with(context.rpartition(_DOCUMENTS)[2].rpartition("</documents>")[0], step.answers)
            if sentence is not None:
                refined = f"<refine> {sentence} </refine>\n<think> {self._say(_FOUND)} </think>"
                return f"{refined}\n<answer> {step.answers[0]} </answer>"
            if searches > 1:
                return GIVE_UP
            query = _keywords(query)
        thought = self._say(_AGAIN if searches else _SEARCH)
        return f"<think> {thought} </think>\n<search> {query} </search>"

    def _say(self, phrases: Sequence[str], **words: str) -> str:
        return self._rng.choice(phrases).format(**words)


def _sentence_with(documents: str, answers: Sequence[str]) -> str | None:
    """The first sentence in the documents that holds an answer, with its title; None where there is none."""
    for block in _BLOCK.finditer(documents):
        title = block["title"].strip().strip('"')
        for sentence in _SENTENCE.split(block["text"].strip()):
            if cover_exact_match(sentence, answers):
                return f"{title}: {_TAG.sub(' ', sentence).strip()}"
    return None


def _keywords(question: str) -> str:
    words = re.findall(r"[\w'’.-]+", question)
    kept = [word for word in words if word.lower() not in _STOP_WORDS]
    return " ".join(kept or words)
