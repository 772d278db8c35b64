"""A quickstart's folder as it is left, with a policy that nothing was taught."""

from pathlib import Path

from slime_search.local.artifacts import Artifacts
from slime_search.local.dataset import write_dataset
from slime_search.local.policy import build_model, build_tokenizer, save_policy
from slime_search.local.world import WorldSize, invent_encyclopedia


def leave_quickstart(folder: Path) -> Path:
    artifacts = Artifacts(folder)
    size = WorldSize(people=30, towns=12, companies=12)
    encyclopedia = invent_encyclopedia(7, size, size, size)
    write_dataset(
        artifacts.data, 7, encyclopedia=encyclopedia, demonstrations=10, train_questions=10, test_questions=24
    )
    tokenizer = build_tokenizer(encyclopedia)
    save_policy(artifacts.model, build_model(tokenizer, 0), tokenizer)
    save_policy(artifacts.cold_start_model, build_model(tokenizer, 1), tokenizer)
    artifacts.write_summary({"seed": 0, "recipe": "search-r1", "dialect": "tags"})
    return folder
