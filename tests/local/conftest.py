from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from slime_search.local.dataset import DatasetPaths, write_dataset
from slime_search.local.policy import build_tokenizer
from slime_search.local.world import WorldSize, invent_encyclopedia


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetPaths:
    """A small dataset with everything in it."""
    folder: Path = tmp_path_factory.mktemp("dataset")
    size = WorldSize(people=30, towns=12, companies=12)
    encyclopedia = invent_encyclopedia(7, size, size, size)
    return write_dataset(
        folder, 7, encyclopedia=encyclopedia, demonstrations=300, train_questions=50, test_questions=40
    )


@pytest.fixture(scope="session")
def tokenizer(dataset: DatasetPaths) -> PreTrainedTokenizerFast:
    return build_tokenizer(dataset.encyclopedia)
