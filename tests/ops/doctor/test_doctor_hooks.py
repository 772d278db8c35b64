"""slime, the hooks and the configuration."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from slime_search.ops.doctor import configuration, slime_hooks, software
from slime_search.ops.doctor.examine import carry_out
from slime_search.ops.doctor.results import Status
from slime_search.ops.doctor.settings import EXAMPLES
from slime_search.ops.doctor.slime_hooks import GENERATE, GROUPS, of_hook
from tests.ops.doctor.doctor_site import ROOT, Site, statuses, the

REAL_SLIME = os.environ.get("SLIME_HOME")


def test_slime_beside_the_run_scripts_is_found(site: Site) -> None:
    home = site.folder / "slime"
    site.change(SLIME_HOME=site.folder / "elsewhere", PYTHONPATH=f"{home}:{ROOT}")
    found = the(carry_out(slime_hooks.checkout, site.setup()), "SLIME_HOME")
    assert (found.status, found.fix) == (Status.FAIL, f"export SLIME_HOME={home}, where slime is imported from")


def test_a_model_that_slime_does_not_know(site: Site) -> None:
    site.change(MODEL="qwen-9")
    found = the(carry_out(slime_hooks.checkout, site.setup()), "MODEL")
    assert found.status is Status.FAIL
    assert found.fix.endswith(": qwen2.5-3B")


def test_what_slime_misses_is_told(site: Site) -> None:
    (site.folder / "slime/slime/rollout/sglang_rollout.py").write_text("import something_that_is_missing\n")
    (found,) = carry_out(slime_hooks.slime_imports, site.setup())
    assert found.status is Status.FAIL
    assert "No module named 'something_that_is_missing'" in found.found


@pytest.mark.skipif(not REAL_SLIME, reason="set SLIME_HOME to a checkout of slime")
def test_slime_itself(site: Site) -> None:
    site.change(SLIME_HOME=REAL_SLIME)
    setup = site.setup()
    found = [
        result for check in (slime_hooks.checkout, slime_hooks.slime_imports) for result in carry_out(check, setup)
    ]
    assert statuses(found) == {"SLIME_HOME": Status.PASS, "MODEL": Status.PASS, "slime imports": Status.PASS}


def test_a_python_without_the_plugin(site: Site) -> None:
    site.program("python3", 'echo \'{"python": "3.10.1", "executable": "/usr/bin/python3", "plugin": "no"}\'\n')
    assert the(carry_out(software.python, site.setup()), "python3").status is Status.FAIL
    site.program("python3", "echo broken >&2; exit 3\n")
    setup = site.setup()
    assert "code 3: broken" in the(carry_out(software.python, setup), "python3").found
    assert statuses(carry_out(software.packages, setup)) == {"packages": Status.SKIP}


def test_gpu_software_is_missed_on_gpus_only(site: Site) -> None:
    site.gpus(4)
    found = statuses(carry_out(software.packages, site.setup()))
    assert found["sglang"] is found["megatron"] is Status.FAIL
    assert the(carry_out(slime_hooks.megatron, site.setup()), "MEGATRON_HOME").status is Status.FAIL


@pytest.mark.parametrize(
    ("version", "gpus", "status"), [("1.26.4", 4, Status.PASS), ("2.4.6", 4, Status.FAIL), ("2.4.6", 0, Status.PASS)]
)
def test_slimes_trainer_wants_numpy_1(version: str, gpus: int, status: Status, site: Site) -> None:
    site.gpus(gpus)
    site.distribution("numpy", version)
    found = the(carry_out(software.packages, site.setup()), "numpy")
    assert (found.status, found.found.startswith(version)) == (status, True)
    assert ("pyarrow<26" in found.fix) is (status is Status.FAIL)


def test_a_pyarrow_that_refuses_numpy(site: Site) -> None:
    """As pyarrow 26 does beside numpy 1."""
    folder = site.folder / "megatron" / "pyarrow"
    folder.mkdir(parents=True)
    said = "pyarrow requires NumPy 2.0 or newer, found 1.26.4"
    (folder / "__init__.py").write_text(f"raise ImportError({said!r})\n")
    found = the(carry_out(software.packages, site.setup()), "pyarrow")
    assert found.status is Status.FAIL and said in found.found and "pyarrow<26" in found.fix


@pytest.mark.parametrize("script", ["run_qwen2.5_3B.sh", "run_qwen2.5_3B_oai.sh"])
def test_the_examples_hooks(site: Site, script: str) -> None:
    site.change(TRAIN_SCRIPT=ROOT / "examples/search_r1" / script)
    setup = site.setup()
    assert statuses(carry_out(slime_hooks.scripts, setup)) == {"TRAIN_SCRIPT": Status.PASS}
    (found,) = carry_out(slime_hooks.hooks, setup)
    assert (found.status, setup.calls_tools) == (Status.PASS, "oai" in script)
    assert "generate, reward_func, normalize_rewards, log_rollout, log_eval take what slime" in found.found


RECIPES = {
    "a plain function": ("def generate(args, sample, sampling_params): ...", "is not a coroutine"),
    "another shape": ("async def generate(sample): ...", "too many positional arguments"),
    "no reward": ("", "own_recipe.reward_func does not exist"),
    "not a function": ("generate = 3", "own_recipe.generate = 3 is no function"),
    "an import that fails": ("1 / 0", "can't be imported (ZeroDivisionError: division by zero)"),
}


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_of_ones_own(site: Site, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, told = RECIPES[case]
    (site.folder / "own_recipe.py").write_text(code)
    monkeypatch.syspath_prepend(site.folder)
    found = carry_out(slime_hooks.hooks, site.setup(recipe_name="own_recipe"))
    assert any(result.status is Status.FAIL and told in result.found and result.fix for result in found), found


def test_a_recipe_that_is_not_there(site: Site) -> None:
    (found,) = carry_out(slime_hooks.hooks, site.setup(recipe_name="no_such_recipe"))
    assert found.status is Status.FAIL
    assert "examples/search_r1:$PYTHONPATH" in found.fix
    assert "thinker-searcher, coda, distill" in found.fix


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_recipe_may_be_named_as_rollout_names_it(site: Site, name: str) -> None:
    (found,) = carry_out(slime_hooks.hooks, site.setup(recipe_name=name))
    assert found.status is Status.PASS, found


def test_keywords_beside_the_hook_are_fine() -> None:
    async def generate(args: Any, sample: Any, sampling_params: Any, evaluation: bool = False) -> None: ...

    def groups(args: Any, samples: Any, **more: Any) -> None: ...

    assert of_hook(GENERATE, "m.generate", generate).status is Status.PASS
    assert of_hook(GROUPS, "m.groups", groups).status is Status.PASS


def test_the_configuration_as_the_run_reads_it(site: Site) -> None:
    file = site.folder / "overlay.yaml"
    file.write_text("slime_search:\n  topk: 7\n")
    site.change(SLIME_SEARCH_MAX_TURNS="4")
    (found,) = carry_out(configuration.configuration, site.setup(config_file=file))
    assert found.status is Status.PASS
    assert found.found.startswith("max_turns 4, topk 7, local search")
    assert str(file) in found.found


BAD_FILES = {
    "topk: 7": None,
    "slime_search: {topkk: 7}": "did you mean 'topk'?",
    "slime_search: 7": "write a mapping",
    "- 7": "write a mapping",
    "a: b: c": "not YAML",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_yaml_file(site: Site, text: str) -> None:
    file = site.folder / "overlay.yaml"
    file.write_text(text)
    told = BAD_FILES[text]
    (found,) = carry_out(configuration.configuration, site.setup(config_file=file))
    assert found.status is (Status.PASS if told is None else Status.FAIL), found
    assert (told or "") in found.found


def test_what_needs_the_configuration_waits_for_it(site: Site) -> None:
    site.change(SLIME_SEARCH_TOPK="none")
    setup = site.setup()
    (found,) = carry_out(configuration.configuration, setup)
    assert (found.status, "SLIME_SEARCH_TOPK = 'none'" in found.found) == (Status.FAIL, True)
    assert statuses(carry_out(slime_hooks.hooks, setup)) == {"hooks": Status.SKIP}
    (tmux,) = carry_out(software.tmux, setup)
    assert tmux.status is (Status.PASS if shutil.which("tmux") else Status.SKIP)


def test_importance_sampling_has_what_it_needs(site: Site) -> None:
    site.change(USE_TIS="1", SLIME_SEARCH_RETURN_LOGPROB="0")
    assert the(carry_out(configuration.configuration, site.setup()), "USE_TIS").status is Status.FAIL
    site.change(SLIME_SEARCH_RETURN_LOGPROB="1")
    assert the(carry_out(configuration.configuration, site.setup()), "USE_TIS").status is Status.PASS
    file = site.folder / "overlay.yaml"
    file.touch()
    site.change(CUSTOM_CONFIG=file)
    assert the(carry_out(configuration.configuration, site.setup(config_file=file)), "USE_TIS").status is Status.WARN


def options_of(site: Site, *flags: str, **given: Any) -> list[Any]:
    return carry_out(configuration.options, site.setup(slime_flags=flags, **given))


@pytest.mark.parametrize("script", ["run_qwen2.5_3B.sh", "run_qwen2.5_3B_oai.sh"])
def test_slimes_options_are_those_of_the_script_and_those_given(site: Site, script: str) -> None:
    site.change(TRAIN_SCRIPT=ROOT / "examples/search_r1" / script)
    (found,) = options_of(site)
    assert (found.status, found.found) == (Status.PASS, "grpo; failed rollouts are left out of it")
    (found,) = options_of(site, "--lr", "1e-6", "--advantage-estimator", "gspo", "--advantage-estimator=cispo")
    assert (found.status, found.found[:5]) == (Status.PASS, "cispo")
    (found,) = options_of(site, "--advantage-estimator", "reinforce_plus_plus")
    assert found.status is Status.FAIL and "--advantage-estimator reinforce_plus_plus" in found.found
    assert "grpo, gspo, cispo" in found.fix
    # The script's sizes make one step of a rollout.
    site.change(SLIME_SEARCH_RETURN_LOGPROB="0")
    found, other = options_of(site, "--use-rollout-logprobs")[:2], options_of(site, "--global-batch-size", "64")
    assert [result.status for result in found] == [Status.FAIL] * len(found)
    assert statuses(other) == {"slime's options": Status.PASS}
    (found,) = options_of(site)
    assert "return_logprob = False with one training step a rollout" in found.found


def test_slimes_options_in_a_script_of_ones_own(site: Site) -> None:
    script = site.folder / "train.sh"
    site.change(TRAIN_SCRIPT=script)
    lines = ["# --group-rm", "GRPO_ARGS=(--log-passrate", "   --rollout-top-p $TOP_P", "  --kl-coef 0.5)"]
    script.write_text("\n".join(lines))
    recipe = {"recipe_name": "coda"}
    (found,) = options_of(site, **recipe)
    assert found.status is Status.FAIL and found.found.startswith("--log-passrate: ")
    assert [result.found[:10] for result in options_of(site, "--group-rm", **recipe)] == ["--group-rm", "--log-pass"]
    (found,) = options_of(site, recipe_name="search-r1")
    assert found.status is Status.PASS


def test_a_check_that_breaks_is_told_of_with_its_traceback(site: Site) -> None:
    def own_check(setup: Any) -> Any:
        yield slime_hooks.passed("first", "done")
        raise KeyError("lost")

    first, broken = carry_out(own_check, site.setup())
    assert first.status is Status.PASS
    assert (broken.name, broken.status) == ("own check", Status.FAIL)
    assert "KeyError: 'lost'" in broken.found
    assert Path(__file__).name in broken.traceback
