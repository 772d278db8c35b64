"""``python -m slime_search.rehearsal.cpu.train [SLIME FLAGS]``: slime's train.py on a Ray that says it has GPUs.

``REHEARSAL_SCRIPT`` names another script of slime's, such as train_async. Ray is this process's own and ends with it;
it listens on the loopback address alone.
"""

import importlib
import os
from collections.abc import Mapping

from slime_search.config import ENV_PREFIX
from slime_search.rehearsal.cpu.import_hook import PROCESS

DEVICES, SCRIPT = "REHEARSAL_DEVICES", "REHEARSAL_SCRIPT"
_OBJECT_STORE_BYTES = 256 << 20
_CPUS = 8
"""What Ray may place, not what there is: slime reserves one for each of its actors."""
_TOLD = (
    f"{PROCESS} {DEVICES} PYTHONPATH OMP_NUM_THREADS OMP_WAIT_POLICY TORCHDYNAMO_DISABLE CUDA_DEVICE_MAX_CONNECTIONS "
    "TENSORBOARD_DIR SLIME_ACCELERATOR SLIME_HOST_IP SGLANG_USE_CPU_ENGINE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE "
    "no_proxy NO_PROXY"
).split()


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What Ray's workers are told of this process's environment."""
    return {
        name: value for name, value in environment.items() if name in _TOLD or name.startswith((ENV_PREFIX, "MALLOC_"))
    }


def main() -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=_CPUS,
        num_gpus=int(os.environ.get(DEVICES, "2")),
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        runtime_env={"env_vars": worker_environment(os.environ)},
    )
    script = importlib.import_module(os.environ.get(SCRIPT, "train"))
    script.train(script.parse_args())


if __name__ == "__main__":
    main()
