"""The distillation example through slime's own rollout, conversion, advantages and distillation term, on a CPU."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
import torch.distributed as dist

from tests.slime_stack.conftest import _settle
from tests.slime_stack.megatron_standin import megatron_installed
from tests.slime_stack.test_conversion import dumped_samples, manager
from tests.slime_stack.test_tools_rollout import ChatWorld, searching_policy
from tests.slime_stack.world import passages
from tests.support.loopback import status
from tests.support.policies import question_number
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.scripted_teacher import ScriptedTeacher, opinion
from tests.support.teacher_tokenizers import save_kind

EXAMPLE = Path(__file__).parents[2] / "examples" / "distillation"
GROUPS, SAMPLES, COEFFICIENT = 5, 4, 0.3
FAILED_BY_TEACHER, FAILED_BY_SEARCH = 1, 2
OPD = f"--use-opd --opd-type sglang --opd-kl-coef {COEFFICIENT}"
FLAGS = (
    f"--rollout-batch-size {GROUPS} --n-samples-per-prompt {SAMPLES} --global-batch-size {GROUPS * SAMPLES} "
    f"--use-dynamic-batch-size --max-tokens-per-gpu 8192 --rollout-max-response-len 600 {OPD}"
)


class TeacherWorld(ChatWorld):
    hooks: ClassVar[str] = (
        "--custom-generate-function-path search_agent_with_teacher.generate "
        "--custom-rm-path search_agent_with_teacher.reward_func "
        "--rollout-data-postprocess-path slime_search.hooks.distillation.forget_unscored"
    )


@contextmanager
def teacher_world(folder: Path, monkeypatch: pytest.MonkeyPatch, *, shared: bool) -> Iterator[tuple[Any, Any, Any]]:
    """The world, its teacher and the settings that name it."""
    from slime.utils.async_utils import run
    from slime.utils.misc import SingletonMeta
    from transformers import AutoTokenizer

    SingletonMeta._instances.clear()
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setattr("slime_search.transport.retrying.pause_s", lambda patience, attempt: 0.0)
    sys.modules.pop("search_agent_with_teacher", None)
    checkpoint = save_kind(folder / "student", "byte-level")
    other = save_kind(folder / "teacher", "byte-level, other cuts", family="llama3")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with (
        ScriptedChat(tokenizer, searching_policy(seed=5)) as engine,
        ScriptedRetriever(passages) as retriever,
        ScriptedTeacher(tokenizer if shared else AutoTokenizer.from_pretrained(other)) as teacher,
    ):
        world = TeacherWorld(engine, retriever, checkpoint, folder, tokenizer)
        named = {"url": teacher.url, "attempts": 1, "max_failure_share": 1.0}
        settings = {"teacher": named if shared else {**named, "tokenizer": str(other)}, "max_failure_share": 1.0}
        try:
            yield world, teacher, settings
        finally:
            run(_settle())


def rollout(world: Any, settings: dict[str, Any], ray: Any, post_process: str) -> tuple[Any, list[Any], dict[str, Any]]:
    """slime's arguments, the samples by their index, and what the trainer gets."""
    dump = world.folder / "rollout_{rollout_id}.pt"
    hook = f"--custom-reward-post-process-path slime_search.hooks.distillation.{post_process}"
    data = world.data_set(range(GROUPS))
    args = world.args(f"{FLAGS} {hook} --prompt-data {data} --save-debug-rollout-data {dump}", **settings)
    world.start(args)
    whole = manager(args)
    whole.set_train_parallel_config(
        {"dp_size": 1, "cp_size": 1, "vpp_size": 1, "microbatch_group_size_per_vp_stage": 1}
    )
    (box,) = whole.generate(0)
    return args, dumped_samples(Path(str(dump).format(rollout_id=0))), ray.get(box.inner)


@pytest.fixture
def one_rank(slime_home: Path, tmp_path: Path) -> Iterator[None]:
    for name in [n for n in sys.modules if n.startswith("slime.backends.megatron_utils")]:
        del sys.modules[name]
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    with megatron_installed():
        yield
    dist.destroy_process_group()


def trained_on(args: Any, data: dict[str, Any], *, mismatch: float) -> dict[str, Any]:
    """slime's own advantages. The trainer's log-probabilities differ from the engine's by ``mismatch``."""
    from slime.backends.megatron_utils.loss import compute_advantages_and_returns

    data["log_probs"] = [own + mismatch for own in data["rollout_log_probs"]]
    compute_advantages_and_returns(args, data)
    return data


def by_hand(samples: list[Any]) -> dict[int, float]:
    """GRPO's advantage of each sample, over those that were not failed by a search."""
    groups: dict[int, list[Any]] = {}
    for sample in samples:
        groups.setdefault(sample.group_index, []).append(sample)
    found = {}
    for group in groups.values():
        counted = [s.reward for s in group if s.status.name != "FAILED"]
        mean = math.fsum(counted) / max(len(counted), 1)
        spread = math.sqrt(math.fsum((r - mean) ** 2 for r in counted) / max(len(counted) - 1, 1)) + 1e-6
        spread = spread if len(counted) > 1 else 1.0
        found |= {s.index: 0.0 if s.status.name == "FAILED" else (s.reward - mean) / spread for s in group}
    return found


@pytest.mark.parametrize("shared", [True, False], ids=["its tokenizer", "another tokenizer"])
@pytest.mark.parametrize("post_process", ["normalize_rewards", "no_task_reward"])
def test_the_advantages_are_those_of_the_task_and_of_the_teacher(
    shared: bool,
    post_process: str,
    slime_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ray: Any,
    one_rank: None,
) -> None:
    """Advantage = task's, normalised in its group, minus c times (student - teacher); exactly the task's alone where
    the teacher says nothing."""
    from slime_search.hooks.distillation import forget_unscored

    with teacher_world(tmp_path, monkeypatch, shared=shared) as (world, teacher, settings):
        said = f"thing-{FAILED_BY_TEACHER}"
        teacher.script = lambda prompts: status(500) if said in teacher._tokenizer.decode(prompts[0]) else None
        world.retriever.script = lambda k: status(500) if question_number(k.query) == FAILED_BY_SEARCH else None
        args, samples, data = rollout(world, settings, ray, post_process)
    assert len(samples) == GROUPS * SAMPLES
    task = by_hand(samples)
    assert any(abs(value) > 0.5 for value in task.values()), "the policy did not waver"
    if post_process == "no_task_reward":
        task = dict.fromkeys(task, 0.0)
    told = {sample.index: sample for sample in samples}
    mismatch = 0.125
    trained = trained_on(args, data, mismatch=mismatch)
    forget_unscored(args, 0, trained)
    signals = 0
    for place, index in enumerate(trained["sample_indices"]):
        sample, mask = told[index], trained["loss_masks"][place].tolist()
        own, theirs = trained["rollout_log_probs"][place].tolist(), trained["teacher_log_probs"][place].tolist()
        assert len(own) == len(theirs) == sample.response_length and all(map(math.isfinite, theirs))
        expected = [
            task[index] - COEFFICIENT * (0.0 if teacher_says == mine else mine + mismatch - teacher_says)
            for mine, teacher_says in zip(own, theirs, strict=True)
        ]
        assert trained["advantages"][place].tolist() == pytest.approx(expected, abs=1e-4)
        scored = [mine != teacher_says for mine, teacher_says in zip(own, theirs, strict=True)]
        assert not any(is_scored for is_scored, trains in zip(scored, mask, strict=True) if not trains)
        by_teacher = question_number(sample.prompt[0]["content"]) != FAILED_BY_TEACHER
        assert any(scored) is (by_teacher and sample.status.name != "FAILED")
        signals += sum(scored)
        if shared and any(scored):
            first = len(sample.tokens) - sample.response_length
            heard = [opinion(*sample.tokens[at - 1 : at + 1]) for at in range(first, len(sample.tokens))]
            assert [t for t, m in zip(theirs, mask, strict=True) if m] == pytest.approx(
                [h for h, m in zip(heard, mask, strict=True) if m], abs=1e-5
            )
        reverse = trained["opd_reverse_kl"][place].tolist()
        assert all(value == 0.0 for value, is_scored in zip(reverse, scored, strict=True) if not is_scored)
    assert signals > 100


def test_a_group_by_hand(slime_home: Path, one_rank: None) -> None:
    """Two rollouts of one question, right and wrong: their advantages are ±0.70711 before the teacher's term."""
    from slime.ray.rollout import RolloutManager
    from slime.utils.types import Sample

    from slime_search.hooks.distillation import forget_unscored, normalize_rewards

    def sample(reward: float, own: list[float], theirs: list[float]) -> Any:
        one = Sample(group_index=0, index=int(reward), reward=reward, response_length=3, loss_mask=[1, 0, 1])
        one.tokens, one.rollout_log_probs, one.teacher_log_probs = [5, 6, 7, 8], own, theirs
        return one

    args = SimpleNamespace(
        advantage_estimator="grpo",
        rewards_normalization=True,
        grpo_std_normalization=True,
        reward_key=None,
        use_rollout_logprobs=False,
        kl_coef=0,
        custom_advantage_function_path=None,
        use_opd=True,
        opd_type="sglang",
        opd_kl_coef=0.5,
        normalize_advantages=False,
        rollout_top_p=1.0,
    )
    convert = RolloutManager.__ray_metadata__.modified_class
    slime = SimpleNamespace(
        args=args, custom_reward_post_process_func=normalize_rewards, custom_convert_samples_to_train_data_func=None
    )
    slime._post_process_rewards = lambda samples: convert._post_process_rewards(slime, samples)
    # The second token is a tool's; of the wrong rollout's last token the teacher says nothing.
    right, wrong = sample(1.0, [-1.0, 0.0, -2.0], [-1.5, 0.0, -1.0]), sample(0.0, [-0.2, 0.0, -0.3], [-3.2, 0.0, -0.3])
    data = convert._convert_samples_to_train_data(slime, [right, wrong])
    assert data["raw_reward"] == [1.0, 0.0]
    for name in ("teacher_log_probs", "rollout_log_probs", "loss_masks"):
        data[name] = [torch.tensor(row) for row in data[name]]
    data["total_lengths"] = [4, 4]
    forget_unscored(args, 0, trained := trained_on(args, data, mismatch=0.1))
    # 0.70711 - 0.5 (-0.9 + 1.5), 0.70711 - 0.5 (-1.9 + 1.0); -0.70711 - 0.5 (-0.1 + 3.2), and the task's alone.
    assert trained["advantages"][0].tolist() == pytest.approx([0.40711, 0.70711, 1.15711], abs=1e-4)
    assert trained["advantages"][1].tolist() == pytest.approx([-2.25711, -0.70711, -0.70711], abs=1e-4)


def test_slimes_own_post_process_would_drop_the_task(slime_home: Path) -> None:
    """Why there is another one. It reads rewards as answers of its own teacher."""
    from slime.rollout.on_policy_distillation import post_process_rewards
    from slime.utils.types import Sample

    answer = {"meta_info": {"input_token_logprobs": [[None, 5], [-1.0, 6]]}}
    sample = Sample(tokens=[5, 6], response_length=1, reward=answer)
    assert post_process_rewards(type("Args", (), {"reward_key": None})(), [sample]) == ([0.0], [0.0])


def test_a_policy_gradient_step_moves_towards_the_teacher(
    slime_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray: Any, one_rank: None
) -> None:
    """Without a task's reward, the advantage of a token is positive exactly where the teacher finds it likelier."""
    with teacher_world(tmp_path, monkeypatch, shared=True) as (world, _, settings):
        args, _, data = rollout(world, settings, ray, "no_task_reward")
    trained = trained_on(args, data, mismatch=0.0)
    advantages, masks = torch.cat(trained["advantages"]), torch.cat(trained["loss_masks"]).bool()
    gaps = torch.cat(trained["teacher_log_probs"]) - torch.cat(trained["rollout_log_probs"])
    assert torch.equal(advantages[masks] > 0, gaps[masks] > 0)
    assert (advantages[masks] > 0).any() and (advantages[masks] < 0).any()
