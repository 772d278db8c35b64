import random
from itertools import combinations, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slime_search.local.world import QUESTION_TEMPLATES, Encyclopedia, Kind, World, WorldSize, invent_encyclopedia

SMALL = WorldSize(people=20, towns=10, companies=10)


def small(seed: int) -> Encyclopedia:
    return invent_encyclopedia(seed, SMALL, SMALL, SMALL)


def test_default_encyclopedia_has_1420_documents() -> None:
    assert len(invent_encyclopedia(0).entities) == 1420


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_a_seed_gives_one_encyclopedia(seed: int) -> None:
    assert small(seed) == small(seed)
    assert small(seed) != small(seed + 1)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_worlds_share_no_name_and_lead_nowhere_else(seed: int) -> None:
    encyclopedia = small(seed)
    for one, other in combinations(encyclopedia.worlds, 2):
        assert one.entities.keys().isdisjoint(other.entities)
    everyone = encyclopedia.entities
    for world in encyclopedia.worlds:
        mentioned = {value for entity in world.entities.values() for value in entity.facts.values()}
        assert {name for name in mentioned if name in everyone} <= world.entities.keys()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_every_answer_is_found_by_following_the_chain_through_documents(seed: int) -> None:
    world = small(seed).held_out
    for question in world.all_questions():
        assert question.chain[0].subject in question.text
        for fact in question.chain:
            document = world.entities[fact.subject].text
            cue = fact.relation.sentence.split("{value}")[0].split()[-1]
            assert f" {cue} {fact.value}" in document
        for first, second in zip(question.chain, question.chain[1:], strict=False):
            assert first.value == second.subject
        assert question.answer == question.chain[-1].value


def test_a_cue_and_the_value_behind_it_stand_once_in_a_document() -> None:
    for entity in small(0).entities.values():
        for relation, value in entity.facts.items():
            cue = relation.sentence.split("{value}")[0].split()[-1]
            assert entity.text.count(f" {cue} {value}") == 1


def test_random_questions_are_half_two_hop_and_of_this_world() -> None:
    world = small(1).train
    known = {question.text for question in world.all_questions()}
    questions = list(islice(world.questions(random.Random(0)), 2000))
    assert {question.text for question in questions} <= known
    two_hop = sum(len(question.chain) == 2 for question in questions) / len(questions)
    assert 0.45 < two_hop < 0.55


def test_all_questions_asks_every_template_about_every_entity_once() -> None:
    world: World = small(2).cold_start
    texts = [question.text for question in world.all_questions()]
    count = {Kind.PERSON: SMALL.people, Kind.TOWN: SMALL.towns, Kind.COMPANY: SMALL.companies}
    templates = [chain[0].kind for level in QUESTION_TEMPLATES.values() for _, chain in level]
    assert len(texts) == len(set(texts)) == sum(count[kind] for kind in templates)


def test_too_large_a_world_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match="2000 more town names needed"):
        invent_encyclopedia(0, WorldSize(people=1, towns=2000, companies=1), SMALL, SMALL)


def test_lexicon_words_are_distinct_and_plain() -> None:
    words = invent_encyclopedia(3).lexicon.words()
    assert len(words) == len(set(words))
    assert all(word.isalnum() and word.isascii() for word in words)
