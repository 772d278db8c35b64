"""The process: loads the model, listens, and ends on a signal."""

import asyncio
import copy
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import torch
from aiohttp import web
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from slime_search.local.engine.app import create_app
from slime_search.local.engine.chat import DEFAULTED
from slime_search.local.engine.model import BatchedModel, ModelError, load_model
from slime_search.local.engine.scheduler import Scheduler
from slime_search.local.engine.sequences import StopRules

# Longer than the keep-alive of common clients (aiohttp: 15 s), so that the server does not close a connection just as
# a client uses it again.
_KEEP_ALIVE_S = 75.0
_SHUTDOWN_GRACE_S = 0.2


def serve(
    model_path: str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    threads: int | None = None,
    max_running_requests: int = 256,
    context_length: int | None = None,
    seed: int = 0,
    exit_with_parent: bool = False,
) -> None:
    """Serves until SIGTERM, SIGINT or, with ``exit_with_parent``, the end of stdin. Call it from the main thread.

    One line with the URL goes to stdout when the server is ready; with port 0 it names the free port that was chosen.

    Args:
        model_path: a Hugging Face folder with a causal language model and its tokenizer.
        threads: for the model's arithmetic; None leaves torch's choice.
        max_running_requests: further requests wait.
        context_length: the most tokens of a request, prompt and completion together; None takes the model's.
        seed: of the requests that bring no ``sampling_seed``.

    Raises:
        ModelError: the folder can't be served.
        OSError: the address can't be had.
    """
    if exit_with_parent:
        threading.Thread(target=_terminate_at_end_of_stdin, name="parent-watch", daemon=True).start()
    if threads is not None:
        torch.set_num_threads(threads)
    folder = Path(model_path)
    engine = running_engine(
        folder,
        load_model(folder),
        load_tokenizer(folder),
        host=host,
        port=port,
        max_running_requests=max_running_requests,
        context_length=context_length,
        seed=seed,
    )
    asyncio.run(_until_signal(engine))


async def _until_signal(engine: AbstractAsyncContextManager[str]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with engine as url:
        sys.stdout.write(f"engine ready at {url}\n")
        sys.stdout.flush()
        await ended.wait()


@asynccontextmanager
async def running_engine(
    model_path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    max_running_requests: int = 256,
    context_length: int | None = None,
    seed: int = 0,
) -> AsyncIterator[str]:
    """Serves a loaded model in this process while the context is open; gives the URL."""
    context_length = context_length or model.config.max_position_embeddings
    batched = BatchedModel(model, max_rows=max_running_requests, context_length=context_length)
    # A tokenizer is not for two threads at once: the scheduler gets its own.
    stops = StopRules(copy.deepcopy(tokenizer), eos_ids(model, tokenizer))
    scheduler = Scheduler(batched, stops, max_running_requests=max_running_requests, seed=seed)
    runner = web.AppRunner(
        create_app(model_path, batched, scheduler, tokenizer, _chat_defaults(model)),
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=_KEEP_ALIVE_S,
        shutdown_timeout=_SHUTDOWN_GRACE_S,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound_host, bound_port = runner.addresses[0][:2]
        yield f"http://[{bound_host}]:{bound_port}" if ":" in bound_host else f"http://{bound_host}:{bound_port}"
    finally:
        await asyncio.to_thread(scheduler.close)
        await runner.cleanup()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder.

    Raises:
        ModelError: there is none in it.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: {error}") from None


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end a completion, by the model's configurations and the tokenizer."""
    named = (model.config.eos_token_id, model.generation_config.eos_token_id, tokenizer.eos_token_id)
    lists = (value if isinstance(value, list) else [value] for value in named if value is not None)
    return frozenset(token for tokens in lists for token in tokens)


def _chat_defaults(model: PreTrainedModel) -> dict[str, Any]:
    """As in SGLang, a model's own sampling parameters are for chats only, not for ``/generate``."""
    own = {name: getattr(model.generation_config, name, None) for name in DEFAULTED}
    return {name: value for name, value in own.items() if value is not None}


def _terminate_at_end_of_stdin() -> None:
    # os.read rather than sys.stdin, whose lock this thread would still hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
