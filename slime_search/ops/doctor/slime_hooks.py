"""slime itself, and the hooks that it is pointed at."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from slime_search.errors import ConfigError
from slime_search.hooks.groups import normalize_rewards
from slime_search.hooks.metrics import log_eval, log_rollout
from slime_search.ops.doctor.results import Result, Status, Waits, failed, passed, skipped, warned
from slime_search.ops.doctor.settings import EXAMPLES
from slime_search.ops.doctor.setup import Setup
from slime_search.ops.doctor.software import look

_VERSION = re.compile(r"version=[\"']([^\"']+)")


class Hook(NamedTuple):
    flag: str
    call: tuple[str, ...]
    """How slime passes its arguments; a name with ``=`` goes by keyword."""
    is_coroutine: bool = False


GENERATE = Hook("--custom-generate-function-path", ("args", "sample", "sampling_params"), is_coroutine=True)
REWARD = Hook("--custom-rm-path", ("args", "sample"), is_coroutine=True)
GROUPS = Hook("--custom-reward-post-process-path", ("args", "samples"))
LOG = Hook("--custom-rollout-log-function-path", ("rollout_id", "args", "samples", "extra", "time"))
LOG_EVAL = Hook("--custom-eval-rollout-log-function-path", ("rollout_id", "args", "data", "extra"))


def checkout(setup: Setup) -> Iterator[Result]:
    """SLIME_HOME holds slime, and knows the model."""
    home, model = setup.run.slime_home, setup.run.model
    if not (home / "train.py").is_file():
        at = look(setup)["slime_at"]
        beside = Path(at[0]).parents[2] if at else None
        fix = (
            f"export SLIME_HOME={beside}, where slime is imported from"
            if beside
            else f"git clone https://github.com/THUDM/slime {home}, or export SLIME_HOME=<a checkout of slime>"
        )
        yield failed("SLIME_HOME", f"{home} has no train.py", fix)
        return
    setup_file = home / "setup.py"
    version = _VERSION.search(setup_file.read_text()) if setup_file.is_file() else None
    yield passed("SLIME_HOME", f"{home}{f', slime {version[1]}' if version else ''}")
    script = home / "scripts" / "models" / f"{model}.sh"
    if script.is_file():
        yield passed("MODEL", model)
    else:
        known = ", ".join(sorted(path.stem for path in script.parent.glob("*.sh"))) or "none"
        yield failed("MODEL", f"{model} is none of {script.parent}", f"export MODEL= one of: {known}")


def slime_imports(setup: Setup) -> Iterator[Result]:
    """slime imports where training runs, with PYTHONPATH as the run scripts set it."""
    found = look(setup)
    if not found["slime_at"]:
        raise Waits("SLIME_HOME has to be put right first")
    if found["slime"] is None:
        yield passed("slime imports", f"its rollout stack, from {Path(found['slime_at'][0]).parents[2]}")
    else:
        yield failed(
            "slime imports",
            str(found["slime"]),
            'install what it names (slime\'s image has everything), or without a GPU: pip install torch "ray[default]" '
            '"httpx[http2]" transformers pillow pylatexenc requests pyyaml tqdm pyarrow',
        )


def megatron(setup: Setup) -> Iterator[Result]:
    """MEGATRON_HOME is there."""
    home = setup.run.megatron_home
    if home.is_dir():
        yield passed("MEGATRON_HOME", str(home))
    elif setup.gpus:
        yield failed("MEGATRON_HOME", f"{home} does not exist", "export MEGATRON_HOME=<a checkout of Megatron-LM>")
    else:
        yield skipped("MEGATRON_HOME", f"{home} does not exist; training needs it, on GPUs only")


def hooks(setup: Setup) -> Iterator[Result]:
    """Each hook is there and takes what slime passes."""
    name = setup.recipe_name
    try:
        module = setup.module
    except ConfigError:
        yield skipped("hooks", f"{name}: the configuration has to be valid first")
        return
    except ImportError as error:
        folder = setup.run.scripts or "<slime-search>/examples/search_r1"
        yield failed(
            "hooks",
            f"{name} can't be imported ({error})",
            f"export PYTHONPATH={folder}:$PYTHONPATH, or name with --recipe a module, or one of {', '.join(EXAMPLES)}",
        )
        return
    found = [
        of_hook(hook, f"{name}.{attribute}", getattr(module, attribute, None))
        for hook, attribute in ((GENERATE, "generate"), (REWARD, "reward_func"))
    ]
    for hook, function in ((GROUPS, normalize_rewards), (LOG, log_rollout), (LOG_EVAL, log_eval)):
        found.append(of_hook(hook, f"{function.__module__}.{function.__name__}", function))
    working = ", ".join(result.name for result in found if result.status is Status.PASS)
    yield passed("hooks", f"{name} and slime_search.hooks: {working} take what slime passes")
    yield from (result for result in found if result.status is not Status.PASS)


def of_hook(hook: Hook, path: str, function: Callable[..., Any] | None) -> Result:
    """Whether slime can call the function where it calls this hook."""
    name = path.rpartition(".")[2]
    if function is None:
        return failed(name, f"{path} does not exist", f"define it, or point {hook.flag} elsewhere")
    if not callable(function):
        return failed(name, f"{path} = {function!r} is no function", f"point {hook.flag} at a function")
    if hook.is_coroutine and not inspect.iscoroutinefunction(function):
        return failed(name, f"{path} is not a coroutine", f"write async def {name}: slime awaits it")
    try:
        inspect.signature(function).bind(*hook.call)
    except TypeError as error:
        return failed(
            name,
            f"{path}{inspect.signature(function)}: {error}",
            f"slime calls it as {name}({', '.join(hook.call)})",
        )
    return passed(name, path)


def scripts(setup: Setup) -> Iterator[Result]:
    """TRAIN_SCRIPT is a file that can be run."""
    script = setup.run.train_script
    if script is None:
        return
    if script.is_file() and script.stat().st_mode & 0o111:
        yield passed("TRAIN_SCRIPT", f"{script}, recipe {setup.recipe_name}")
    elif script.is_file():
        yield warned("TRAIN_SCRIPT", f"{script} is not executable", f"chmod +x {script}")
    else:
        yield failed("TRAIN_SCRIPT", f"{script} is not a file", "name the script that trains, or unset it")


CHECKS = (scripts, checkout, slime_imports, megatron, hooks)
