"""The HTTP routes, as SGLang has them."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from transformers import PreTrainedTokenizerBase

from slime_search import __version__
from slime_search.local.engine.chat import TokenTexts, chat_answer, chat_error, model_list, parse_chat
from slime_search.local.engine.chat_prompt import render_prompt
from slime_search.local.engine.model import BatchedModel, ModelError
from slime_search.local.engine.params import BadRequest, SamplingParams
from slime_search.local.engine.protocol import error_answer, generate_answer, parse_generate
from slime_search.local.engine.scheduler import EngineFailure, Scheduler
from slime_search.local.engine.sequences import Completion, visible_text

logger = logging.getLogger(__name__)

_CHAT = "/v1/chat/completions"
_MAX_BODY_BYTES = 64 * 2**20
_HEALTH_TIMEOUT_S = 20.0


def create_app(
    model_path: Path,
    model: BatchedModel,
    scheduler: Scheduler,
    tokenizer: PreTrainedTokenizerBase,
    chat_defaults: Mapping[str, Any],
) -> web.Application:
    """The application. ``tokenizer`` is used from the event loop's thread only, ``model`` is ``scheduler``'s.
    ``chat_defaults`` are sampling parameters for the chats that bring none."""
    routes = _Routes(model_path, model, scheduler, tokenizer, chat_defaults)
    app = web.Application(middlewares=[_answer_errors], client_max_size=_MAX_BODY_BYTES)
    app.add_routes(
        [
            web.post("/generate", routes.generate),
            web.put("/generate", routes.generate),
            web.post(_CHAT, routes.chat),
            web.get("/v1/models", routes.models),
            web.post("/abort_request", routes.abort),
            web.post("/pause_generation", routes.pause),
            web.post("/continue_generation", routes.resume),
            web.post("/update_weights_from_disk", routes.update_weights),
            web.post("/flush_cache", routes.flush_cache),
            web.get("/flush_cache", routes.flush_cache),
            web.get("/model_info", routes.model_info),
            web.get("/get_model_info", routes.model_info),
            web.get("/health", routes.health),
            web.get("/health_generate", routes.health_generate),
            web.get("/v1/loads", routes.loads),
            web.get("/workers", routes.workers),
        ]
    )
    return app


class _Routes:
    def __init__(
        self,
        model_path: Path,
        model: BatchedModel,
        scheduler: Scheduler,
        tokenizer: PreTrainedTokenizerBase,
        chat_defaults: Mapping[str, Any],
    ) -> None:
        self._tokenizer_path = self._model_path = model_path
        self._model = model
        self._scheduler = scheduler
        self._tokenizer = tokenizer
        self._token_texts = TokenTexts(tokenizer)
        self._chat_defaults = chat_defaults
        self._updating = asyncio.Lock()

    async def generate(self, request: web.Request) -> web.Response:
        started = time.perf_counter()
        body = parse_generate(await _json(request))
        rid = body.rid or uuid.uuid4().hex
        prompt_ids = body.input_ids if body.input_ids is not None else self._tokenizer.encode(body.text)
        completion = await self._complete(rid, prompt_ids, body.sampling_params, body.score_from)
        text = visible_text(self._tokenizer, prompt_ids, completion.output_ids, completion.finish, body.sampling_params)
        return _answer(
            generate_answer(
                rid,
                prompt_ids,
                completion,
                text,
                body=body,
                token_text=self._token_texts.text,
                e2e_latency_s=time.perf_counter() - started,
            )
        )

    async def chat(self, request: web.Request) -> web.Response:
        started = time.perf_counter()
        body, params = parse_chat(await _json(request), self._chat_defaults)
        rid = body.rid or uuid.uuid4().hex
        prompt_ids = body.input_ids
        if prompt_ids is None:
            prompt_ids = render_prompt(self._tokenizer, body.messages, body.active_tools, body.chat_template_kwargs)
        completion = await self._complete(rid, prompt_ids, params)
        text = visible_text(self._tokenizer, prompt_ids, completion.output_ids, completion.finish, params)
        return _answer(
            chat_answer(
                rid,
                body,
                prompt_ids,
                completion,
                text,
                token_texts=self._token_texts,
                e2e_latency_s=time.perf_counter() - started,
            )
        )

    async def models(self, _request: web.Request) -> web.Response:
        return _answer(model_list(str(self._model_path), self._model.context_length))

    async def _complete(
        self, rid: str, prompt_ids: list[int], params: SamplingParams, score_from: int | None = None
    ) -> Completion:
        future = self._scheduler.submit(rid, prompt_ids, params, score_from=score_from)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:  # the client has gone
            self._scheduler.abort(rid)
            raise

    async def abort(self, request: web.Request) -> web.Response:
        match await _json(request):
            case {"abort_all": True}:
                await asyncio.wrap_future(self._scheduler.abort())
            case {"rid": str(rid)} if rid:
                await asyncio.wrap_future(self._scheduler.abort(rid))
            case body:
                raise BadRequest(f'give {{"rid": "…"}} or {{"abort_all": true}}, not {body!r:.200}')
        return web.Response()

    async def pause(self, request: web.Request) -> web.Response:
        match await _json(request):
            case {"mode": "abort" | "in_place" as mode}:
                await asyncio.wrap_future(self._scheduler.pause(abort=mode == "abort"))
            case {"mode": mode}:
                raise BadRequest(f"mode: {mode!r:.200} is not supported by this engine; use 'abort' or 'in_place'")
            case _:
                await asyncio.wrap_future(self._scheduler.pause(abort=True))
        return _answer({"message": "Generation paused successfully.", "status": "ok"})

    async def resume(self, _request: web.Request) -> web.Response:
        await asyncio.wrap_future(self._scheduler.resume())
        return _answer({"message": "Generation continued successfully.", "status": "ok"})

    async def update_weights(self, request: web.Request) -> web.Response:
        """Loads weights beside the running requests, which go on with them from the next step on (SGLang would wait
        for them to end, unless it is paused). There is no prefix cache, so ``flush_cache`` has nothing to do."""
        match await _json(request):
            case {"model_path": str(path), **rest}:
                version = rest.get("weight_version")
            case body:
                raise BadRequest(f"model_path: give the folder of the new weights, not {body!r:.200}")
        if version is not None and not isinstance(version, str):
            raise BadRequest(f"weight_version: give a string, not {version!r:.200}")
        async with self._updating:
            try:
                weights = await asyncio.to_thread(self._model.read_weights, Path(path))
            except ModelError as error:
                return _answer({"success": False, "message": str(error), "num_paused_requests": 0}, status=400)
            await asyncio.wrap_future(self._scheduler.set_weights(weights, version))
            self._model_path = Path(path)
        message = "Succeeded to update model weights."
        if version is not None:
            message += f" Weight version updated to {version}."
        return _answer({"success": True, "message": message, "num_paused_requests": 0})

    async def flush_cache(self, _request: web.Request) -> web.Response:
        """Nothing is cached beyond a request, but SGLang refuses while there are any, and so do we."""
        load = await asyncio.wrap_future(self._scheduler.load())
        if load.running or (load.waiting and not load.paused):
            return web.Response(
                status=400,
                text=f"Cache not flushed because there are pending requests. "
                f"#queue-req: {load.waiting}, #running-req: {load.running}\n",
            )
        return web.Response(text="Cache flushed.\n")

    async def model_info(self, _request: web.Request) -> web.Response:
        return _answer(
            {
                "model_path": str(self._model_path),
                "tokenizer_path": str(self._tokenizer_path),
                "is_generation": True,
                "weight_version": self._scheduler.weight_version,
            }
        )

    async def health(self, _request: web.Request) -> web.Response:
        """200 if the scheduler still takes orders."""
        return await _within_health_timeout(asyncio.wrap_future(self._scheduler.load()))

    async def health_generate(self, _request: web.Request) -> web.Response:
        """200 if a token can be generated."""
        one_token = SamplingParams(max_new_tokens=1, temperature=0.0)
        return await _within_health_timeout(self._complete(f"HEALTH_CHECK_{uuid.uuid4().hex}", [0], one_token))

    async def loads(self, _request: web.Request) -> web.Response:
        load = await asyncio.wrap_future(self._scheduler.load())
        core = {"dp_rank": 0, "num_running_reqs": load.running, "num_waiting_reqs": load.waiting}
        now = datetime.now(UTC).isoformat()
        return _answer({"timestamp": now, "version": f"slime-search {__version__}", "loads": [core]})

    async def workers(self, request: web.Request) -> web.Response:
        """What SGLang's router answers: a client that asks it for its engines finds this one."""
        return _answer({"workers": [{"id": "0", "url": str(request.url.origin())}]})


async def _within_health_timeout(check: Awaitable[Any]) -> web.Response:
    try:
        await asyncio.wait_for(check, _HEALTH_TIMEOUT_S)
    except TimeoutError:
        return web.Response(status=503)
    return web.Response()


async def _json(request: web.Request) -> Any:
    try:
        return orjson.loads(await request.read() or b"{}")
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def _answer(content: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json")


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except BadRequest as error:
        return _error(request, str(error), 400)
    except EngineFailure as error:
        return _error(request, str(error), 500)
    except web.HTTPException as error:
        return _error(request, f"{request.method} {request.path}: {error.reason}", error.status)
    except Exception as error:
        logger.exception("%s failed", request.path)
        return _error(request, f"internal error: {error!r}", 500)


def _error(request: web.Request, message: str, status: int) -> web.Response:
    content = chat_error(message, status) if request.path == _CHAT else error_answer(message, status)
    return _answer(content, status)
