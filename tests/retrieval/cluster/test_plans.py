"""What is refused before anything is started, and what would be started."""

import subprocess
import sys
from pathlib import Path

import pytest
from rich.progress import Progress

pytest.importorskip("ray.serve", reason="needs the extra: cluster")

from slime_search.retrieval.cluster.connection import RayConnection
from slime_search.retrieval.cluster.loading import Scale, load_cluster
from slime_search.retrieval.cluster.programs import for_processes, programs_of
from slime_search.retrieval.collection import RetrieverName, RetrieverSettings
from slime_search.retrieval.errors import SetupError

DENSE = RetrieverSettings(
    corpus_path=Path("corpus.jsonl"), name=RetrieverName.E5, index_path=Path("flat.index"), model="intfloat/e5-base-v2"
)
BM25 = RetrieverSettings(corpus_path=Path("corpus.jsonl"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"replicas": 0}, "replicas: 0 is too few"),
        ({"shards": -1}, "shards: -1 is too few"),
        ({"threads": 0}, "threads: 0 is too few"),
        ({"replicas": 3, "max_replicas": 2}, "max_replicas: 2 is below replicas, 3"),
        ({"gpus": 0}, "gpus: 0 is not a share"),
        ({"gpus": float("nan")}, "gpus: nan is not a share"),
    ],
)
def test_numbers_that_can_not_be_had_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        Scale(**fields)  # type: ignore[arg-type]


def test_as_many_batches_as_keep_the_largest_size_busy() -> None:
    assert Scale(replicas=3).workers == 6
    assert Scale(replicas=2, max_replicas=5).workers == 10


def test_bm25_in_parts_is_refused() -> None:
    with pytest.raises(SetupError, match="shards: 2 parts of a BM25 index would rank otherwise"):
        load_cluster(BM25, Scale(shards=2), Progress(disable=True))


def test_every_part_and_every_model_has_processes_of_its_own() -> None:
    assert list(programs_of(BM25, 1)) == ["bm25"]
    assert list(programs_of(DENSE, 1)) == ["encoder", "part-0"]
    everything = RetrieverSettings(
        corpus_path=DENSE.corpus_path,
        name=DENSE.name,
        index_path=DENSE.index_path,
        model=DENSE.model,
        hybrid=True,
        reranker="BAAI/bge-reranker-base",
        device="cuda",
    )
    programs = programs_of(everything, 2)
    assert {name: program.on_gpu for name, program in programs.items()} == {
        "encoder": True,
        "part-0": False,
        "part-1": False,
        "bm25": False,
        "reranker": True,
    }


def test_paths_hold_in_any_folder_and_names_of_the_hub_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert for_processes(DENSE, has_gpus=False).model == "intfloat/e5-base-v2"
    (tmp_path / "intfloat" / "e5-base-v2").mkdir(parents=True)
    settings = for_processes(DENSE, has_gpus=False)
    assert settings.model == str(tmp_path / "intfloat" / "e5-base-v2")
    assert (settings.corpus_path, settings.index_path) == (tmp_path / "corpus.jsonl", tmp_path / "flat.index")


@pytest.mark.parametrize(
    ("device", "has_gpus", "settled"), [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu")]
)
def test_auto_is_a_gpu_where_the_cluster_has_one(device: str, has_gpus: bool, settled: str) -> None:
    settings = RetrieverSettings(corpus_path=Path("c"), device=device, index_device=device)
    settled_settings = for_processes(settings, has_gpus=has_gpus)
    assert (settled_settings.device, settled_settings.index_device) == (settled, settled)


@pytest.mark.parametrize(("device", "message"), [("cuda:1", "Ray gives processes their GPUs"), ("cuda", "has none")])
def test_a_device_that_a_process_can_not_have_is_refused(device: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        for_processes(RetrieverSettings(corpus_path=Path("c"), device=device), has_gpus=False)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at '127.0.0.1:1' .*ray start --head"),
        ("somewhere", "'somewhere' is not an address of Ray itself; write auto, or host:port"),
        ("ray://127.0.0.1:10001", "is not an address"),
        ("http://127.0.0.1:8265", "a training's RAY_ADDRESS may be as well"),
        ("127.0.0.1:99999", "no Ray cluster answers"),
    ],
)
def test_an_address_where_no_cluster_answers_is_refused_at_once(address: str, message: str) -> None:
    with pytest.raises(SetupError, match=f"ray_address: {message}" if "no Ray" in message else message):
        RayConnection(address, cpus=1)


def test_a_missing_ray_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match=r"Ray is not installed; run: pip install 'slime-search\[cluster\]'"):
        RayConnection(None, cpus=1)


def test_what_the_command_line_imports_leaves_the_heavy_packages_out() -> None:
    code = (
        "import sys, slime_search.retrieval.cluster.loading\n"
        "heavy = {'ray', 'torch', 'faiss', 'sentence_transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
