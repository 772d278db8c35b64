"""The data sets of FlashRAG (arXiv 2405.13576): their names, their files and how to get them."""

from pathlib import Path
from typing import NamedTuple, cast

from slime_search.errors import DataError

REPO = "RUC-NLPIR/FlashRAG_datasets"


class DataSet(NamedTuple):
    name: str
    """Its folder, and what its rows are labelled with."""
    train: str | None
    """The split to train on, where there is one."""
    test: str
    """The split that papers report, which is dev where the test answers are secret."""


DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        DataSet("nq", "train", "test"),
        DataSet("triviaqa", "train", "test"),
        DataSet("popqa", None, "test"),
        DataSet("hotpotqa", "train", "dev"),
        DataSet("2wikimultihopqa", "train", "dev"),
        DataSet("musique", "train", "dev"),
        DataSet("bamboogle", None, "test"),
    )
}


def file_of(name: str, split: str, folder: Path | None) -> Path:
    """The JSON Lines file of a split: in ``folder``, which is laid out as on the Hub, or downloaded where that is None.

    HF_ENDPOINT, HF_TOKEN and HF_HOME are honoured; a file that was downloaded before is not downloaded again.

    Raises:
        DataError: it is not there, or can't be had.
    """
    inside = f"{name}/{split}.jsonl"
    if folder is None:
        return downloaded(inside)
    path = folder / inside
    if not path.is_file():
        raise DataError(
            f"{path}: not there. Run: hf download {REPO} {inside} --repo-type dataset --local-dir {folder}\n"
            "or leave --data-dir out, which downloads what is needed"
        )
    return path


def downloaded(inside: str, repo: str = REPO, instead: str = "--data-dir with the files") -> Path:
    """A data set's file from the Hub; ``instead`` is what else could be given.

    Raises:
        DataError: it can't be had.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
    except ImportError:
        raise DataError(f"huggingface_hub not installed; run pip install huggingface_hub, or give {instead}") from None
    # The Hub's errors inherit from those of the HTTP library below it, which is another one in each major version.
    errors = cast("tuple[type[Exception], ...]", (*HfHubHTTPError.__bases__, OSError, EntryNotFoundError))
    try:
        return Path(hf_hub_download(repo, inside, repo_type="dataset"))
    except errors as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{repo}/{inside}: {reason} Check the network, export HF_ENDPOINT with the address of a mirror, or give "
            f"{instead}"
        ) from error
