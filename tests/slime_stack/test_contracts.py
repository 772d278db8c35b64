"""slime's own plugin contracts, run on our entry points in a process of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.slime_stack.conftest import EXAMPLE, HERE
from tests.slime_stack.world import passages
from tests.support.chat_rollouts import call
from tests.support.policies import in_sequence, think_answer, think_search
from tests.support.scripted_chat import ScriptedChat
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

CONTRACTS = [
    ("test_plugin_generate_contracts.py", "--custom-generate-function-path", "generate"),
    ("test_plugin_path_loading_contracts.py", "--custom-rm-path", "reward_func"),
    ("test_plugin_runtime_hook_contracts.py", "--custom-reward-post-process-path", "normalize_rewards"),
    # The contracts fall back to slime's own examples when a path does not arrive; this one must fail.
    ("test_plugin_generate_contracts.py", "--custom-generate-function-path", "no_such_function"),
]


def test_slimes_contracts_hold(slime_home: Path, qwen: Any, qwen_folder: Path) -> None:
    # The contracts' prompts are the word prompt, so this policy asks nothing of them.
    policy = in_sequence(think_search("thing-7 maker"), think_answer("name-7"))
    with ScriptedEngine(qwen, policy) as engine:
        check_contracts(slime_home, "generate_with_search", engine, qwen_folder)
        turns = [exchange.text for exchange in engine.delivered if not exchange.is_probe]
    assert turns == [think_search("thing-7 maker"), think_answer("name-7")]


def test_slimes_contracts_hold_for_tool_calling(slime_home: Path, qwen: Any, qwen_folder: Path) -> None:
    said = [f"{call('thing-7 maker')}<|im_end|>", "name-7<|im_end|>"]
    upcoming = iter(said)
    with ScriptedChat(qwen, lambda context: next(upcoming)) as engine:
        check_contracts(slime_home, "generate_with_search_oai", engine, qwen_folder)
        turns = [exchange.text for exchange in engine.turns]
    assert turns == said


def check_contracts(slime_home: Path, example: str, engine: ScriptedEngine, checkpoint: Path) -> None:
    with ScriptedRetriever(passages) as retriever:
        outputs = run_contracts(
            slime_home,
            CONTRACT_EXAMPLE=example,
            CONTRACT_CHECKPOINT=str(checkpoint),
            CONTRACT_ENGINE_PORT=str(engine.port),
            SLIME_SEARCH_LOCAL__SEARCH_URL=retriever.search_url,
        )
    assert len(outputs) == len(CONTRACTS)
    for status, output in outputs[:3]:
        assert status == 0, output
        assert re.search(r"\b[1-9]\d* passed", output), output
    assert outputs[3][0] != 0
    assert "no_such_function" in outputs[3][1]


def run_contracts(slime_home: Path, **environment: str) -> list[tuple[int, str]]:
    """Exit status and output of each contract."""
    contracts = slime_home / "tests" / "plugin_contracts"
    paths = [HERE.parents[1], EXAMPLE, slime_home, contracts]
    environment = {
        **os.environ,
        **environment,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, str(HERE / "run_contracts.py")]
    for file, flag, function in CONTRACTS:
        command += [str(contracts / file), flag, f"tests.slime_stack.contract_adapter.{function}"]
    done = subprocess.run(command, cwd=slime_home, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = re.split(r"^contract \d+: exit (\d+)$", done.stdout, flags=re.MULTILINE)
    return [(int(status), output) for output, status in zip(parts[0::2], parts[1::2], strict=False)]
