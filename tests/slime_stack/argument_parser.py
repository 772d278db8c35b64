"""slime's ``parse_args`` in a process of its own: a call as JSON a line in, what came of it a line out.

A call is a ``command`` and the ``environment`` that it is run in.

Everything is the real thing: slime, Megatron-LM, and SGLang where it is installed; else its parser's stand-in. Of the
machine, only the GPU is pretended, whose architecture Megatron asks for.
"""

import json
import os
import sys
from argparse import ArgumentParser
from contextlib import nullcontext
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

HOPPER = 9
PRE_PARSED = {"--train-backend", "--debug-rollout-only", "--debug-train-only", "--load-debug-rollout-data"}
"""Taken off by ``_pre_parse_mode``, before any other parser is there."""


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the parsers print belongs elsewhere
    with _sglang():
        import megatron.training.arguments

        megatron.training.arguments.get_device_arch_version = lambda: HOPPER
        for line in sys.stdin:
            answers.write(json.dumps(_answer(json.loads(line)), default=str) + "\n")
            answers.flush()


def _sglang() -> Any:
    try:
        import_module("sglang.srt.server_args")
        return nullcontext()
    except ImportError as error:
        print(f"SGLang's parser is a stand-in: {error}", file=sys.stderr)  # noqa: T201
    sys.path.insert(0, str(Path(__file__).parents[2]))  # Megatron has a package of tests as well
    return import_module("tests.slime_stack.standins").installed()


def _answer(call: dict[str, Any]) -> dict[str, Any]:
    sys.argv, environment = call["command"], call["environment"]
    before, path = dict(os.environ), list(sys.path)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    try:
        return _convert(Path(sys.argv[0])) if "convert" in sys.argv[0] else _train()
    except SystemExit as error:
        return {"error": f"exit code {error.code}"}
    except Exception as error:  # noqa: BLE001 any error is told to the test
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(before)


def _train() -> dict[str, Any]:
    """Both parsers let an option pass that they do not know, so it is looked up."""
    from slime.backends.sglang_utils.arguments import add_sglang_arguments
    from slime.utils.arguments import parse_args

    parsers: list[ArgumentParser] = []

    def keep(parser: ArgumentParser) -> ArgumentParser:
        parsers.append(parser)
        return parser

    args = vars(parse_args(keep))
    parsers.append(add_sglang_arguments(ArgumentParser(add_help=False)))
    known = PRE_PARSED.union(*(parser._option_string_actions for parser in parsers))
    unknown = [word for word in sys.argv[1:] if word.startswith("--") and word not in known]
    return {"args": args, "unknown": unknown, "hooks": _hooks(args)}


def _convert(script: Path) -> dict[str, Any]:
    spec = spec_from_file_location(script.stem, script)
    assert spec is not None and spec.loader is not None
    module: ModuleType = module_from_spec(spec)
    spec.loader.exec_module(module)
    return {"args": vars(module.get_args()), "unknown": [], "hooks": {}}


def _hooks(args: dict[str, Any]) -> dict[str, str]:
    """What slime's own loader finds for each function that the command names."""
    from slime.utils.misc import load_function

    given = {word.removeprefix("--").replace("-", "_") for word in sys.argv if word.endswith("-path")}
    return {name: str(load_function(args[name])) for name in given if "/" not in args[name]}


if __name__ == "__main__":
    main()
