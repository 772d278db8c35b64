"""GPUs, memory, disk and ports against what is needed."""

import socket

import pytest

from slime_search.ops.doctor import machine
from slime_search.ops.doctor.examine import carry_out
from slime_search.ops.doctor.gpus import Gpu, chosen, parse
from slime_search.ops.doctor.machine import _DASHBOARD, training_bytes
from slime_search.ops.doctor.results import Result, Status
from tests.ops.doctor.doctor_site import Site, save_weights, statuses, the

THREE_BILLION = 6_200_000_000


def look(site: Site) -> list[Result]:
    setup = site.setup()
    return [result for check in machine.CHECKS for result in carry_out(check, setup)]


def test_without_a_gpu(site: Site) -> None:
    found = look(site)
    assert the(found, "GPUs").status is Status.FAIL
    assert the(found, "GPU memory").status is Status.SKIP
    assert the(found, "RAM").status is the(found, "disk").status is Status.PASS


def test_enough_gpus(site: Site) -> None:
    site.gpus(4)
    save_weights(site.folder / "model", size=THREE_BILLION)
    found = look(site)
    assert "4 × NVIDIA H200, 4 of them used, TP 2" in the(found, "GPUs").found
    # 3.1 billion parameters, two ranks of TP 2: (6 + 12/2) / 2 bytes each.
    assert "take 18.6 GB (6 + 12/2 bytes a parameter / TP 2)" in the(found, "GPU memory").found
    assert "the trainer's state between turns 74.4 GB" in the(found, "RAM").found
    assert "a checkpoint takes about 43.4 GB (14 bytes a parameter), and 30 are written" in the(found, "disk").found


@pytest.mark.parametrize(
    ("count", "gigabytes", "used", "expected"),
    [
        (2, 80, 0, (Status.FAIL, Status.PASS)),
        (4, 16, 0, (Status.PASS, Status.FAIL)),
        (4, 20, 0, (Status.PASS, Status.WARN)),
        (4, 80, 30, (Status.PASS, Status.WARN)),
        (8, 80, 0, (Status.PASS, Status.PASS)),
    ],
)
def test_too_few_or_too_small(
    site: Site, count: int, gigabytes: int, used: int, expected: tuple[Status, Status]
) -> None:
    save_weights(site.folder / "model", size=THREE_BILLION)
    site.gpus(count, gigabytes=gigabytes, used=used)
    found = look(site)
    assert (the(found, "GPUs").status, the(found, "GPU memory").status) == expected, found


def test_parallel_ranks_that_do_not_come_out_even(site: Site) -> None:
    site.gpus(4)
    site.change(TP=3)
    assert the(look(site), "GPUs").status is Status.FAIL


def test_a_disk_for_the_checkpoints(site: Site) -> None:
    save_weights(site.folder / "model", size=1 << 43)
    assert the(look(site), "disk").status is Status.FAIL
    site.change(SAVE=site.folder / "corpus.jsonl" / "below")
    assert "can't be written" in the(look(site), "disk").found


def test_the_retrievers_memory(site: Site) -> None:
    assert "(the retrieval server 800 bytes)" in the(look(site), "RAM").found
    site.change(CORPUS_PATH=site.folder / "nowhere")
    assert statuses(look(site))["ram"] is Status.SKIP


def test_a_ray_that_runs_is_told_of(site: Site) -> None:
    for address, expected in (
        ("auto", Status.SKIP),
        ("head:6379", Status.SKIP),
        ("ray://head:10001", Status.FAIL),
        (f"http://127.0.0.1:{site.port}", Status.FAIL),
    ):
        site.change(RAY_ADDRESS=address)
        assert the(look(site), "RAY_ADDRESS").status is expected
    site.change(RAY_ADDRESS="")
    try:
        with socket.create_server(("127.0.0.1", _DASHBOARD)):
            assert the(look(site), f"port {_DASHBOARD}").status is Status.WARN
    except OSError:
        assert the(look(site), f"port {_DASHBOARD}").status is Status.WARN


def test_what_nvidia_smi_prints() -> None:
    assert parse("NVIDIA H200, 143771, 143154\nA, B, 1024, 512\n\nFailed to initialize NVML\n") == [
        Gpu("NVIDIA H200", 143771 << 20, 143154 << 20),
        Gpu("A, B", 1 << 30, 1 << 29),
    ]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [("", ""), ("-1", ""), ("1", "b"), ("2,0", "ca"), ("0,7,1", "a"), ("GPU-1,GPU-2", "ab")],
)
def test_cuda_visible_devices(listed: str, expected: str) -> None:
    assert "".join(gpu.name for gpu in chosen([Gpu(name, 1, 1) for name in "abc"], listed)) == expected


def test_the_formula_of_megatrons_documentation() -> None:
    assert training_bytes(1000, gpus=1, tensor_parallel=1) == 18_000
    assert training_bytes(1000, gpus=4, tensor_parallel=2) == 6_000
