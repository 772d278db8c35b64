"""Completes modules right after they were imported, by name.

Which modules, the variable ``REHEARSAL_PROCESS`` says: ``trainer`` for slime's processes, and anything else, or none,
for the engine's and the router's, which only have to be importable.
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

PROCESS = "REHEARSAL_PROCESS"
TRAINER = "trainer"
_HERE = "slime_search.rehearsal.cpu"

IMPORTABLE: Mapping[str, str] = {"torch": f"{_HERE}.torchvision_operators"}
TRAINING: Mapping[str, str] = {
    "torch": f"{_HERE}.torch_cuda",
    "slime.utils.accelerator": f"{_HERE}.accelerator",
    "slime.backends.sglang_utils.sglang_engine": f"{_HERE}.engine_arguments",
    "megatron.training.utils": f"{_HERE}.architecture",
    "megatron.core.optimizer.distrib_optimizer": f"{_HERE}.optimizer_state",
}
"""By the imported module's name, the module whose ``complete`` is called with it."""


class AfterImport(importlib.abc.MetaPathFinder):
    """Finds the modules it is told of as Python would, and completes them once they have run."""

    def __init__(self, completions: Mapping[str, str]) -> None:
        self._completions = completions

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        completion = self._completions.get(fullname)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if completion else None
        if completion is not None and spec is not None and spec.loader is not None:
            _complete_after(spec.loader, completion)
        return spec


def _complete_after(loader: importlib.abc.Loader, completion: str) -> None:
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        run(module)
        importlib.import_module(completion).complete(module)

    # A loader belongs to one module, so this is no change for others.
    setattr(loader, "exec_module", exec_module)  # noqa: B010


def install() -> None:
    """Puts the hook before Python's own finders."""
    training = os.environ.get(PROCESS) == TRAINER
    sys.meta_path.insert(0, AfterImport(TRAINING if training else IMPORTABLE))
