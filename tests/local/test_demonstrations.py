import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from slime_search.core.dialect import Answer, CallTools, ToolCall
from slime_search.core.tokens import TokenCodec
from slime_search.core.tool import Passage, passages_result
from slime_search.core.trajectory import Owner
from slime_search.dialects.tags import SEARCH_R1_TAGS
from slime_search.local.cold_start import encode_demonstration
from slime_search.local.dataset import DatasetPaths
from slime_search.local.demonstrations import (
    Demonstration,
    Documents,
    Habits,
    Teacher,
    read_demonstrations,
    write_demonstrations,
)
from slime_search.local.policy import build_tokenizer
from slime_search.local.policy_format import POLICY_FORMATS, TAGS


@pytest.fixture(scope="module")
def demonstrations(dataset: DatasetPaths) -> list[Demonstration]:
    return list(read_demonstrations(dataset.demonstrations))


def perfect_demonstrations(
    dataset: DatasetPaths, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[str, Demonstration]]:
    """The right answer and the run of a teacher without a fault, over a retriever that always finds the document."""
    world = dataset.encyclopedia.held_out

    def search(query: str) -> list[Passage]:
        return [Passage(name, entity.text) for name, entity in world.entities.items() if query.startswith(name)]

    habits = Habits(searches=1, follows_up=1, queries_badly=0, reads_wrong_document=0)
    teacher = Teacher(
        dataset.encyclopedia, Documents(dataset.encyclopedia, search), tokenizer, random.Random(0), habits
    )
    for question in islice(world.questions(random.Random(0)), 100):
        yield question.answer, teacher.demonstrate(question)


def test_every_model_turn_is_well_formed(demonstrations: list[Demonstration]) -> None:
    for demonstration in demonstrations:
        turns = [turn.text for turn in demonstration.segments if turn.owner is Owner.MODEL]
        assert all(SEARCH_R1_TAGS.is_well_formed(turn) for turn in turns)
        actions = [SEARCH_R1_TAGS.parse(turn) for turn in turns]
        assert isinstance(actions[-1], Answer)
        assert all(isinstance(action, CallTools) for action in actions[:-1])


def test_owners_alternate_from_model_to_model(demonstrations: list[Demonstration]) -> None:
    for demonstration in demonstrations:
        owners = [turn.owner for turn in demonstration.segments]
        assert owners == [Owner.MODEL, *[Owner.WORLD, Owner.MODEL] * (len(owners) // 2)]


def test_a_turn_ends_at_its_first_stop_token(
    demonstrations: list[Demonstration], tokenizer: PreTrainedTokenizerFast
) -> None:
    stops = tokenizer.convert_tokens_to_ids(list(SEARCH_R1_TAGS.stop))
    codec = TokenCodec(tokenizer)
    for demonstration in demonstrations:
        for turn in demonstration.segments:
            if turn.owner is Owner.MODEL:
                ids = codec.trusted(turn.text)
                assert [i for i in ids if i in stops] == ids[-1:]


def test_decoding_gives_the_text_back(demonstrations: list[Demonstration], tokenizer: PreTrainedTokenizerFast) -> None:
    codec = TokenCodec(tokenizer)
    for demonstration in demonstrations:
        text = f"Question: {demonstration.question}\n" + "".join(turn.text for turn in demonstration.segments)
        example = encode_demonstration(demonstration, codec, TAGS.prompt_encoder(codec, tokenizer))
        assert tokenizer.decode(example.token_ids, skip_special_tokens=False) == text
        assert len(example.token_ids) == len(example.weights)


def test_observations_have_the_token_ids_of_a_rollout(
    demonstrations: list[Demonstration], dataset: DatasetPaths, tokenizer: PreTrainedTokenizerFast
) -> None:
    codec = TokenCodec(tokenizer)
    entities = dataset.encyclopedia.entities
    call = CallTools((ToolCall("search", "anything"),))
    seen = 0
    for demonstration in demonstrations:
        for turn in demonstration.segments:
            if turn.owner is Owner.WORLD:
                titles = [part.split(")")[0] for part in turn.text.split("(Title: ")[1:]]
                passages = tuple(Passage(title, entities[title].text) for title in titles)
                in_rollout = SEARCH_R1_TAGS.observation(codec, call, [passages_result(passages)])
                assert in_rollout is not None
                assert turn.text == in_rollout.text
                assert codec.trusted(turn.text) == in_rollout.token_ids
                seen += 1
    assert seen > 50


def test_written_demonstrations_are_read_back(demonstrations: list[Demonstration], tmp_path: Path) -> None:
    path = tmp_path / "demonstrations.jsonl"
    write_demonstrations(path, demonstrations)
    assert list(read_demonstrations(path)) == demonstrations


def test_the_teacher_searches_less_than_half_of_the_time(demonstrations: list[Demonstration]) -> None:
    searching = sum(len(demonstration.segments) > 1 for demonstration in demonstrations) / len(demonstrations)
    assert 0.3 < searching < 0.5


def test_a_teacher_without_faults_is_always_right(dataset: DatasetPaths, tokenizer: PreTrainedTokenizerFast) -> None:
    for answer, demonstration in perfect_demonstrations(dataset, tokenizer):
        assert SEARCH_R1_TAGS.parse(demonstration.segments[-1].text) == Answer(answer)


def test_a_teacher_that_never_searches_never_asks(dataset: DatasetPaths, tokenizer: PreTrainedTokenizerFast) -> None:
    queries: list[str] = []

    def search(query: str) -> list[Passage]:
        queries.append(query)
        return []

    teacher = Teacher(
        dataset.encyclopedia, Documents(dataset.encyclopedia, search), tokenizer, random.Random(0), Habits(searches=0)
    )
    for question in islice(dataset.encyclopedia.train.questions(random.Random(0)), 20):
        assert len(teacher.demonstrate(question).segments) == 1
    assert queries == []


def test_demonstrations_with_tool_calls_have_the_token_ids_of_a_rollout(dataset: DatasetPaths) -> None:
    policy_format = POLICY_FORMATS["tools"]
    tokenizer = build_tokenizer(dataset.encyclopedia, policy_format)
    dialect, codec, render = policy_format.dialect(tokenizer), TokenCodec(tokenizer), policy_format.renderer(tokenizer)
    passages = [Passage(e.name, e.text) for e in islice(dataset.encyclopedia.entities.values(), 3)]
    teacher = Teacher(
        dataset.encyclopedia,
        Documents(dataset.encyclopedia, lambda query: passages),
        tokenizer,
        random.Random(0),
        Habits(searches=1),
        policy_format=policy_format,
    )
    for question in islice(dataset.encyclopedia.train.questions(random.Random(0)), 20):
        demonstration = teacher.demonstrate(question)
        ids = codec.trusted(render([{"role": "user", "content": question.text}]))
        for turn in demonstration.segments:
            if turn.owner is Owner.MODEL:
                assert dialect.is_well_formed(turn.text)
                ids += codec.trusted(turn.text)
                assert ids[-1] == tokenizer.eos_token_id
                action = dialect.parse(turn.text)
            else:
                assert isinstance(action, CallTools)
                read = dialect.observation(codec, action, [passages_result(tuple(passages))], turn_ids=ids)
                assert read is not None
                ids += read.token_ids
        assert (
            encode_demonstration(demonstration, codec, policy_format.prompt_encoder(codec, tokenizer)).token_ids == ids
        )


def test_no_results_still_make_a_demonstration(dataset: DatasetPaths, tokenizer: PreTrainedTokenizerFast) -> None:
    teacher = Teacher(
        dataset.encyclopedia,
        Documents(dataset.encyclopedia, lambda query: []),
        tokenizer,
        random.Random(0),
        Habits(searches=1),
    )
    for question in islice(dataset.encyclopedia.train.questions(random.Random(0)), 20):
        turns = [turn.text for turn in teacher.demonstrate(question).segments if turn.owner is Owner.MODEL]
        assert all(SEARCH_R1_TAGS.is_well_formed(turn) for turn in turns)
