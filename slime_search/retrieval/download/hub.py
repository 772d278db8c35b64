"""Asks the Hub what a file consists of."""

import fnmatch
from dataclasses import dataclass
from typing import NamedTuple, cast

from huggingface_hub import HfApi, get_token, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from slime_search.retrieval.download.blocks import ATTEMPTS, tell
from slime_search.retrieval.errors import DownloadError
from slime_search.transport.retrying import DOWNLOADS

# The Hub's errors inherit from those of the HTTP library below it, which is another one in each major version.
_HTTP_ERRORS = cast("tuple[type[Exception], ...]", (*HfHubHTTPError.__bases__, OSError))


@dataclass(frozen=True, slots=True)
class Published:
    """One file, which a data set on the Hub holds whole or in parts."""

    repo: str
    parts: str
    """The names of its parts as a glob; they are joined in the order of their names."""
    target: str
    """What it is called once it is whole."""


INDEXES = {
    "flat": Published("PeterJinGo/wiki-18-e5-index", "part_*", "e5_Flat.index"),
    "hnsw64": Published("PeterJinGo/wiki-18-e5-index-HNSW64", "part_*", "e5_HNSW64.index"),
}
CORPUS = Published("PeterJinGo/wiki-18-corpus", "wiki-18.jsonl.gz", "wiki-18.jsonl.gz")


class Part(NamedTuple):
    name: str
    size: int
    """Bytes."""
    sha256: str
    url: str


def list_parts(published: Published) -> list[Part]:
    """The parts of ``published`` as the Hub has them now, in order; HF_ENDPOINT and HF_TOKEN are honoured.

    Raises:
        DownloadError: the Hub can't be asked, or has no such parts.
    """
    policy = DOWNLOADS.policy(stop_after_attempt(ATTEMPTS), retry=retry_if_exception(_may_pass), before_sleep=tell)
    retrying = Retrying(**policy)
    api = HfApi()
    try:
        info = retrying(api.dataset_info, published.repo, files_metadata=True)
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise DownloadError(
            f"{published.repo} at {api.endpoint}: not found, or not for you ({_first_line(error)}); where it asks for "
            "a login, export HF_TOKEN"
        ) from error
    except _HTTP_ERRORS as error:
        raise DownloadError(
            f"{published.repo} at {api.endpoint}: {_first_line(error)}; check the network, or export HF_ENDPOINT with "
            "the address of a mirror"
        ) from error
    parts = []
    for file in sorted(info.siblings or (), key=lambda file: file.rfilename):
        # What lies in a folder is no part; its name would lead out of the folder here.
        if fnmatch.fnmatchcase(file.rfilename, published.parts) and "/" not in file.rfilename:
            if file.size is None or file.lfs is None:
                raise DownloadError(f"{published.repo}: the Hub has no checksum of {file.rfilename}; try a mirror")
            url = hf_hub_url(
                published.repo, file.rfilename, repo_type="dataset", revision=info.sha, endpoint=api.endpoint
            )
            parts.append(Part(file.rfilename, file.size, file.lfs.sha256, url))
    if not parts:
        raise DownloadError(f"{published.repo} at {api.endpoint}: no file is called {published.parts}")
    return parts


def request_headers() -> dict[str, str]:
    """What a request to the Hub carries: the token, where there is one."""
    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, _HTTP_ERRORS)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
