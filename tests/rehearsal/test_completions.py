"""What is completed in modules of slime's and Megatron's, on modules of the same shape."""

import dataclasses
from abc import ABC, abstractmethod
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from slime_search.rehearsal.cpu import accelerator, architecture, engine_arguments, optimizer_state
from slime_search.rehearsal.cpu.train import worker_environment


class Accelerator(ABC):
    """As slime's: some methods are asked of every accelerator, others have a default."""

    @abstractmethod
    def device_count(self) -> int: ...

    @abstractmethod
    def mem_get_info(self, device: Any = None) -> tuple[int, int]: ...

    def supports(self, capability: str) -> bool:
        return False


def test_the_cpu_is_registered_before_all_others_with_gloo() -> None:
    calls: list[Any] = []
    module = SimpleNamespace(Accelerator=Accelerator, register_accelerator=lambda *a, **o: calls.append((a, o)))
    accelerator.complete(module)
    ((name, kind, is_available), options) = calls[0]
    cpu = kind()
    assert (name, is_available(), options["communication_backends"]) == ("cpu", True, ("gloo",))
    assert isinstance(cpu, Accelerator) and cpu.device_count() == 1 and cpu.supports("graphs") is False
    assert str(cpu.device(0)) == cpu.device_name(0) == cpu.current_device() == "cpu"


def test_the_fields_of_both_kinds_of_arguments() -> None:
    @dataclasses.dataclass
    class Arguments:
        model_path: str
        port: int = 1

    engine = SimpleNamespace()
    engine_arguments.complete(engine)
    assert [field.name for field in engine.dataclasses.fields(Arguments)] == ["model_path", "port"]
    msgspec = pytest.importorskip("msgspec")
    struct = msgspec.defstruct("Struct", [("model_path", str), ("port", int, 1)])
    assert [field.name for field in engine.dataclasses.fields(struct)] == ["model_path", "port"]


def test_megatron_is_told_of_an_architecture() -> None:
    utils = SimpleNamespace()
    architecture.complete(utils)
    assert utils.get_device_arch_version() == 9


def test_workers_are_told_of_the_rehearsal_and_of_no_secret() -> None:
    environment = {
        "REHEARSAL_PROCESS": "trainer",
        "PYTHONPATH": "/a",
        "SLIME_SEARCH_TOPK": "2",
        "WANDB_API_KEY": "secret",
        "HOME": "/root",
    }
    assert set(worker_environment(environment)) == {"REHEARSAL_PROCESS", "PYTHONPATH", "SLIME_SEARCH_TOPK"}


class DistributedOptimizer:
    """The parts of Megatron's that are asked, over one parameter and torch's Adam."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.optimizer = SimpleNamespace(state=state, param_groups=[{"params": ["weight"]}])
        self.model_param_group_index_map = {"model weight": (0, 0)}

    def _init_optimizer_states_with_dummy_values(self) -> None:
        self.optimizer.state["weight"] = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2)}

    def sharded_state_dict(self, metadata: str, is_loading: bool = False) -> tuple[str, bool, list[str]]:
        return metadata, is_loading, list(self.optimizer.state)

    def _set_main_param_and_optimizer_states(self, model_param: str, tensors: dict[str, Any]) -> None:
        for key, own in self.optimizer.state["weight"].items():
            own.copy_(tensors[key])


def test_an_optimizer_is_loaded_that_has_not_made_a_step() -> None:
    kind = type("Completed", (DistributedOptimizer,), {})
    optimizer_state.complete(SimpleNamespace(DistributedOptimizer=kind))
    optimizer = kind({})
    assert optimizer.sharded_state_dict("all", is_loading=True) == ("all", True, ["weight"])
    restored = torch.tensor(40.0)
    optimizer.optimizer.state["weight"]["step"] = restored
    optimizer._set_main_param_and_optimizer_states("model weight", {"exp_avg": torch.ones(2)})
    state = optimizer.optimizer.state["weight"]
    assert state["step"] == 40 and state["step"] is not restored
    assert state["exp_avg"].tolist() == [1, 1]
