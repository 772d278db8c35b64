"""The answers that slime's processes get of torch.cuda, in a process that is told so by PYTHONPATH alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slime_search.rehearsal.cpu.import_hook import PROCESS, TRAINER
from slime_search.rehearsal.python_path import python_path


def run(code: str, folder: Path, process: str) -> str:
    environment = {**os.environ, PROCESS: process, "PYTHONPATH": python_path(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("torch.cuda.device_count(), torch.cuda.current_device()", "1 0"),
        ("torch.cuda.get_device_capability()", "(9, 0)"),
        ("torch.zeros(2, device='cuda').device", "cpu"),
        ("torch.arange(3, device=torch.device('cuda', 0), pin_memory=True).tolist()", "[0, 1, 2]"),
        ("torch.ones(1, device=0).device", "cpu"),
        ("torch.ones(2).to('cuda:0', torch.bfloat16).dtype", "torch.bfloat16"),
        ("torch.ones(2).to(torch.float64).dtype", "torch.float64"),
        ("torch.ones(2).to(device='cuda').cuda().pin_memory().device", "cpu"),
        ("torch.ones(2).new_zeros(3, device='cuda').tolist()", "[0.0, 0.0, 0.0]"),
        ("torch.ones(2).type()", "torch.cuda.FloatTensor"),
        ("torch.ones(2).type('torch.cuda.LongTensor').dtype", "torch.int64"),
        ("torch.nn.Linear(2, 2).cuda().weight.device", "cpu"),
        ("torch.cuda.Event().elapsed_time(None), torch.cuda.current_stream().synchronize()", "0.0 None"),
        ("torch.equal(torch.cuda.get_rng_state(), torch.get_rng_state())", "True"),
        ("torch.ones(2).to('meta').device", "meta"),
    ],
)
def test_a_gpu_is_asked_for_and_the_cpu_answers(expression: str, answer: str, tmp_path: Path) -> None:
    assert run(f"import torch; print({expression})", tmp_path, TRAINER) == answer


def test_drawing_is_repeated_from_a_seed_and_from_a_state(tmp_path: Path) -> None:
    code = (
        "import torch\n"
        "torch.manual_seed(3); first = torch.rand(2, device='cuda'); state = torch.cuda.get_rng_state()\n"
        "second = torch.rand(2)\n"
        "torch.cuda.set_rng_state(state); assert torch.equal(second, torch.rand(2))\n"
        "torch.cuda.manual_seed(3); assert torch.equal(first, torch.rand(2))\n"
    )
    run(code, tmp_path, TRAINER)


def test_a_barrier_takes_device_ids(tmp_path: Path) -> None:
    code = (
        "import sys, torch.distributed as dist\n"
        "dist.init_process_group('gloo', init_method='file://' + sys.argv[0] + '/rendezvous', rank=0, world_size=1)\n"
        "dist.barrier(device_ids=[0]); print(dist.get_world_size())\n"
    )
    code = code.replace("sys.argv[0]", repr(str(tmp_path)))
    assert run(code, tmp_path, TRAINER) == "1"


def test_the_engine_keeps_torch_as_it_is_but_for_two_operators(tmp_path: Path) -> None:
    code = (
        "import torch\n"
        "torch.library.register_fake('torchvision::nms')(lambda dets, scores, iou: dets)\n"
        "print(torch.ones(1).type(), torch.cuda.device_count())"
    )
    assert run(code, tmp_path, "") == "torch.FloatTensor 0"


def test_stand_ins_can_be_imported_and_say_what_needs_a_gpu(tmp_path: Path) -> None:
    code = (
        "from sgl_kernel import silu_and_mul\n"
        "from torch_memory_saver import torch_memory_saver as saver\n"
        "saver.pause(); saver.resume()\n"
        "with saver.region(), saver.disable(): pass\n"
        "try: silu_and_mul(1)\n"
        "except NotImplementedError as error: print(error)\n"
    )
    assert run(code, tmp_path, TRAINER).startswith("sgl_kernel.silu_and_mul: needs a GPU")


def test_this_package_is_found_and_the_packages_beside_it_are_not(tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    added = python_path(tmp_path / "python", [tmp_path / "hooks"]).split(os.pathsep)
    assert [path.name for path in (tmp_path / "python").iterdir()] == ["slime_search"]
    assert added[1:] == [str(tmp_path / "python"), str(tmp_path / "hooks")]
    code = "import slime_search.rehearsal.cpu.train as train; print(train.main.__name__)"
    assert run(code, tmp_path / "python", "") == "main"
