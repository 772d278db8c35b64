"""An invented run, in the shapes that the quickstart writes: 16 questions before and after training."""

import random
import re
from typing import Any, NamedTuple

PEOPLE = (
    ("Nola Brenn", "botanist", "Kirsa Ford", "1871"),
    ("Teo Glandal", "printer", "Druna Hollow", "1902"),
    ("Mia Skora", "astronomer", "Velm Harbor", "1846"),
    ("Radan Thiel", "chemist", "Kirsa Ford", "1888"),
    ("Liva Prond", "sculptor", "Zeska Mills", "1915"),
    ("Brano Kell", "surgeon", "Ostra Vale", "1834"),
    ("Sela Dranik", "poet", "Velm Harbor", "1899"),
    ("Goran Misk", "engineer", "Druna Hollow", "1860"),
)
COUNTRIES = {
    "Kirsa Ford": "Maronia",
    "Druna Hollow": "Teskia",
    "Velm Harbor": "Maronia",
    "Zeska Mills": "Norlandia",
    "Ostra Vale": "Teskia",
}
SYSTEM = (
    "Answer the question. Think inside <think> and </think>. If you lack knowledge, search with <search> query "
    "</search>; results come between <information> and </information>. Give the answer inside <answer> and </answer>.\n"
)


class Run(NamedTuple):
    summary: dict[str, Any]
    metrics: list[dict[str, float | int | str]]
    trajectories: list[dict[str, Any]]


def sample_run(seed: int = 0) -> Run:
    rng = random.Random(seed)
    trajectories = []
    for index, (question, gold, town_question) in enumerate(_questions()):
        for stage in ("before", "after"):
            trajectories.append(_trajectory(rng, stage, index, question, gold, town_question))
    metrics = _metrics(rng)
    evaluations = [row for row in metrics if row["phase"] == "eval"]
    summary = {
        "seed": seed,
        "em_before": evaluations[0]["em"],
        "em_after": evaluations[-1]["em"],
        "em_before_greedy": 0.205,
        "em_after_greedy": 0.65,
        "wall_s": 1432.7,
        "steps": 80,
        "model_parameters": 1_180_416,
        "questions": 200,
        "searches_before": 0.61,
        "searches_after": 1.58,
        "cold_start_steps": 400,
        "corpus": {"towns": 150, "people": 400},
        "torch": "2.13.0",
    }
    return Run(summary, metrics, trajectories)


def pieces(text: str) -> list[str]:
    """``text`` in token-like pieces: tags whole, words in parts of at most six letters with their leading blank."""
    return re.findall(r"</?\w+>|\n+| ?[^\W\d_]{1,6}|\d|[^\S\n]|[^\w\s]|_", text)


def segment(rng: random.Random, owner: str, text: str, sureness: float = 1.0) -> dict[str, Any]:
    tokens = pieces(text)
    log_probs = [
        -min(rng.expovariate(sureness * 6), 9) if rng.random() < 0.8 else -rng.expovariate(sureness) for _ in tokens
    ]
    trained = owner == "model"
    return {"owner": owner, "trained": trained, "tokens": tokens, "log_probs": log_probs if trained else None}


def _questions() -> list[tuple[str, str, bool]]:
    born = [(f"Where was {name} born ?", town, False) for name, _, town, _ in PEOPLE]
    country = [(f"In which country was {name} born ?", COUNTRIES[town], True) for name, _, town, _ in PEOPLE]
    return [question for pair in zip(born, country, strict=True) for question in pair]


def _passages(rng: random.Random, first: tuple[str, str]) -> list[dict[str, str]]:
    people = [(name, f"{name} was a {job} born in {town} in {year} .") for name, job, town, year in PEOPLE]
    towns = [(town, f"{town} is a town in {country} . It was settled in 1790 .") for town, country in COUNTRIES.items()]
    others = rng.sample([p for p in people + towns if p != first], 2)
    return [{"title": title, "text": text} for title, text in (first, *others)]


def _call(rng: random.Random, turn: int, query: str, first: tuple[str, str]) -> dict[str, Any]:
    passages, latency_s = _passages(rng, first), rng.uniform(0.002, 0.02)
    return {"turn": turn, "tool": "search", "query": query, "passages": passages, "latency_s": latency_s}


def _information(call: dict[str, Any]) -> str:
    docs = "".join(f"Doc {i}(Title: {p['title']}) {p['text']}\n" for i, p in enumerate(call["passages"], start=1))
    return f"\n\n<information>{docs}</information>\n\n"


def _trajectory(rng: random.Random, stage: str, index: int, question: str, gold: str, two_hops: bool) -> dict[str, Any]:
    name, job, town, year = PEOPLE[index // 2]
    person = (name, f"{name} was a {job} born in {town} in {year} .")
    place = (town, f"{town} is a town in {COUNTRIES[town]} . It was settled in 1790 .")
    segments = [segment(rng, "prompt", f"{SYSTEM}Question: {question}\n")]
    calls: list[dict[str, Any]] = []
    sureness = 3.0 if stage == "after" else 0.8

    def say(text: str) -> None:
        segments.append(segment(rng, "model", text, sureness))

    def look(thought: str, query: str, first: tuple[str, str]) -> None:
        say(f"<think> {thought} </think>\n<search> {query} </search>")
        calls.append(_call(rng, len(calls), query, first))
        segments.append(segment(rng, "world", _information(calls[-1])))

    answer: str | None = rng.choice(sorted(COUNTRIES.values()) if two_hops else sorted(COUNTRIES))
    ending = "answered"
    if stage == "before" and index == 5:
        say(f"<think> I know this . {'So it is . ' * 30}")
        answer, ending = None, "truncated"
    elif stage == "after" and index == 7:
        say(f"<think> I search for {name} . </think>\n<search> {name} born </search>")
        calls.append({"turn": 0, "tool": "search", "query": f"{name} born", "passages": [], "latency_s": 0.0})
        answer, ending = None, "failed"
        segments[-1]["trained"] = False
    elif stage == "before" and index == 2:
        say(f"<think> I search . </think>\n<search> {name} </search> <search> born </search>")
        segments.append(segment(rng, "world", "\nMy previous action is invalid. Let me try again.\n"))
        say(f"<think> I know this . </think>\n<answer> {answer} </answer>")
    elif stage == "before" and index % 3:
        say(f"<think> I know this . </think>\n<answer> {answer} </answer>")
    else:
        look(f"I search for {name} .", f"{name} born", person)
        fact = f"{name} was born in {town} ."
        if two_hops and stage == "after":
            look(f"{fact} I search for {town} .", f"{town} country", place)
            fact = f"{town} is in {COUNTRIES[town]} ."
        if stage == "after" and index not in (3, 12):
            answer = gold
        say(f"<think> {fact} </think>\n<answer> {answer} </answer>")
    em = float(answer == gold)
    reward = em if ending == "answered" else 0.0
    outcome = {"answer": answer, "reward": reward, "score": {"em": em}, "ending": ending}
    record = {"stage": stage, "question": question, "gold_answers": [gold], **outcome}
    run = {"ending": ending, "answer": answer, "segments": segments, "calls": calls}
    return {"id": f"{stage}/{index}", "group": str(index), **record, "runs": [run]}


def _metrics(rng: random.Random) -> list[dict[str, float | int | str]]:
    rows: list[dict[str, float | int | str]] = [
        {"phase": "cold_start", "step": step, "loss": 3.0 / (1 + step / 100), "wall_s": step * 0.4}
        for step in (100, 200, 400)
    ]
    for step in range(81):
        progress = 1 / (1 + 2.7182818 ** (-(step - 30) / 11))
        wall_s = 200 + 15 * step
        if step:
            reward = 0.2 + 0.45 * progress + rng.gauss(0, 0.06)
            train = {"step": step, "phase": "train", "reward": reward, "searches": 0.6 + progress + rng.gauss(0, 0.08)}
            rows.append({**train, "response_tokens": 140, "truncated": 0.02, "failed": 0.0, "wall_s": wall_s})
        if step % 10 == 0:
            em = round(200 * (0.19 + 0.44 * progress + rng.gauss(0, 0.015))) / 200
            rows.append(
                {"step": step, "phase": "eval", "em": em, "n": 200, "searches": 0.6 + progress, "wall_s": wall_s}
            )
    return rows
