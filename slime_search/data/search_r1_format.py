"""Training rows as Search-R1 has published them (PeterJinGo/nq_hotpotqa_train)."""

from typing import Any

from slime_search.data.questions import Question

# Word for word, since its checkpoints and its numbers come from this prompt.
PROMPT = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new "
    "information. After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query "
    "</search> and it will return the top searched results between <information> and </information>. You can search as "
    "many times as your want. If you find no further external knowledge needed, you can directly provide the answer "
    "inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>. "
    "Question: {question}\n"
)


def search_r1_row(question: Question, *, split: str, index: int) -> dict[str, Any]:
    """One row. slime reads ``prompt`` (--input-key) and ``reward_model`` (--label-key)."""
    text = question.text if question.text.endswith("?") else f"{question.text}?"
    return {
        "id": question.id,
        "question": question.text,
        "golden_answers": question.answers,
        "data_source": question.source,
        "prompt": [{"role": "user", "content": PROMPT.format(question=text)}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": question.answers}},
        "extra_info": {"split": split, "index": index},
        "metadata": {"question": question.text, "data_source": question.source},
    }
