"""Continuous batching: one thread that owns the model, steps the running requests and takes orders between steps."""

import logging
import math
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import torch
from torch import Tensor

from slime_search.local.engine.model import BatchedModel
from slime_search.local.engine.params import BadRequest, SamplingParams
from slime_search.local.engine.sampling import sample
from slime_search.local.engine.sequences import (
    Aborted,
    Completion,
    Finish,
    LengthReached,
    RunningSequence,
    StopRules,
    token_limit,
)

logger = logging.getLogger(__name__)

# Tokens of one prefill, padding included: enough to keep the cores busy, few enough to stay in their caches.
_PREFILL_TOKENS = 2048

T = TypeVar("T")


class EngineFailure(RuntimeError):
    """The engine could not finish a request that it had accepted."""


@dataclass(frozen=True, slots=True)
class Load:
    running: int
    waiting: int
    paused: bool


class Scheduler:
    """Runs requests on a model, in a thread of its own.

    The thread repeats:

    1. *Orders.* Submissions, aborts, pauses and new weights are queued from any thread and carried out here, between
       two passes of the model; their futures say when. Without anything to run, the thread waits for one.
    2. *Who is next.* If there is room, waiting requests go before running ones: the one that waits longest, together
       with those of similar length, up to 2,048 tokens with their padding. Requests whose prompt is scored are
       prefilled by themselves, since that takes the logits of every token.
    3. *The pass.* A prefill appends rows to the model's and yields their first tokens; otherwise every running request
       gets one token. If it fails, the requests of this pass end with an error, and the others are as they were.
    4. *Ends.* A request that is complete is answered and frees its row, into which the last row moves. Rows are freed
       from the last to the first, so that no row that is still to be freed has moved.

    With room for two, and requests A (prompt 9 tokens), B (10) and C (300) waiting: the first step prefills A and B,
    C stays; the next steps give A and B a token each, until A ends; then C is prefilled, and B and C go on together.

    Args:
        model: given over to this scheduler.
        stops: what ends completions.
        max_running_requests: the rows of ``model``.
        seed: of the requests that bring none.
    """

    def __init__(self, model: BatchedModel, stops: StopRules, *, max_running_requests: int, seed: int) -> None:
        self._model = model
        self._stops = stops
        self._max_running = max_running_requests
        self._random = Random(seed)
        self.weight_version = "default"
        self._running: list[RunningSequence] = []  # in the order of the model's rows
        self._waiting: list[RunningSequence] = []
        self._live: dict[str, RunningSequence] = {}  # both of them
        self._paused = False
        self._closed = False
        self._orders: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def submit(
        self, rid: str, prompt_ids: list[int], params: SamplingParams, *, score_from: int | None = None
    ) -> Future[Completion]:
        """Queues a request. Its future fails with `EngineFailure`, or with `BadRequest` if ``rid`` is in use.

        With ``score_from``, the prompt's tokens after that one get log-probabilities, too.

        Raises:
            BadRequest: the prompt or the parameters do not fit the model.
        """
        if score_from is not None and not 0 <= score_from < len(prompt_ids):
            raise BadRequest(f"logprob_start_len: {score_from} is not the index of one of {len(prompt_ids)} tokens")
        seed = params.sampling_seed
        sequence = RunningSequence(
            rid,
            prompt_ids,
            params,
            limit=token_limit(prompt_ids, params, self._model.context_length, self._model.vocab_size),
            forbidden=list(self._stops.eos_ids.union(params.stop_token_ids)),
            # As in SGLang a token's place counts too, so that the turns of one seeded trajectory draw other numbers.
            random=Random(self._random.getrandbits(64) if seed is None else f"{seed}/{len(prompt_ids)}"),
            score_from=score_from,
        )
        sequence.done.set_running_or_notify_cancel()
        self._order(lambda: self._admit(sequence))
        return sequence.done

    def abort(self, rid: str | None = None) -> Future[None]:
        """Ends one request, or all, with the tokens that it has. An unknown ``rid`` is ignored."""
        return self._order(lambda: self._abort(rid))

    def pause(self, *, abort: bool) -> Future[None]:
        """Stops stepping. Requests are kept as they are, or aborted; new ones wait."""

        def pause() -> None:
            self._paused = True
            if abort:
                self._abort(None)

        return self._order(pause)

    def resume(self) -> Future[None]:
        return self._order(lambda: setattr(self, "_paused", False))

    def load(self) -> Future[Load]:
        return self._order(lambda: Load(len(self._running), len(self._waiting), self._paused))

    def set_weights(self, weights: dict[str, Tensor], version: str | None) -> Future[None]:
        """Swaps the weights. Running requests go on with the new ones, over the keys and values that the old ones
        computed. Without a ``version`` the name stays."""

        def swap() -> None:
            self._model.set_weights(weights)
            if version is not None:
                for sequence in self._running:
                    sequence.close_span(self.weight_version)
                self.weight_version = version

        return self._order(swap)

    def close(self) -> None:
        """Aborts all requests and ends the thread, after the step that it is in."""
        self._order(lambda: setattr(self, "_closed", True))
        self._thread.join()

    def _order(self, action: Callable[[], T]) -> Future[T]:
        if self._closed:
            raise EngineFailure("the engine is closed")
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # whoever waits may lose interest, but can't take the future away
        self._orders.put((action, done))
        return done

    def _run(self) -> None:
        with torch.inference_mode():
            while not self._closed:
                self._obey()
                if self._has_work():
                    self._step()
            self._abort(None)

    def _has_work(self) -> bool:
        return bool(self._running or self._waiting) and not (self._paused or self._closed)

    def _obey(self) -> None:
        """Carries out the orders that are there; waits for one if there is nothing else to do."""
        while not self._closed and not (self._orders.empty() and self._has_work()):
            action, done = self._orders.get()
            try:
                done.set_result(action())
            except Exception as error:  # noqa: BLE001 - it belongs to whoever gave the order
                done.set_exception(error)

    def _admit(self, sequence: RunningSequence) -> None:
        if sequence.rid in self._live:
            sequence.done.set_exception(BadRequest(f"Duplicate request ID detected: {sequence.rid}"))
        elif sequence.limit == 0 and sequence.score_from is None:
            sequence.finish(LengthReached(0), self.weight_version)
        else:
            self._live[sequence.rid] = sequence
            self._waiting.append(sequence)

    def _abort(self, rid: str | None) -> None:
        chosen = list(self._live.values()) if rid is None else [self._live[rid]] if rid in self._live else []
        for sequence in chosen:
            if sequence in self._waiting:
                self._waiting.remove(sequence)
                finish = Aborted("Abort in waiting queue", ran=False)
            else:
                self._free(self._running.index(sequence))
                finish = Aborted("Aborted", ran=True)
            del self._live[sequence.rid]
            sequence.finish(finish, self.weight_version)

    def _step(self) -> None:
        """Prefills waiting requests if there is room, or else adds a token to every running one."""
        prefilled = self._take_prefill()
        first = len(self._running) if prefilled else 0
        self._running += prefilled
        try:
            if prefilled:
                logits = self._prefill(prefilled)
            else:
                logits = self._model.decode([sequence.output_ids[-1] for sequence in self._running])
            tokens, log_probs = sample(logits, [sequence.choice() for sequence in self._running[first:]])
            if not all(map(math.isfinite, log_probs)):
                raise ArithmeticError("the logits are not finite; check the weights")
            self._extend(first, tokens, log_probs)
        except Exception as error:
            logger.exception("a model step failed; %d requests end with an error", len(self._running) - first)
            self._fail(first, f"the model step failed: {error!r}")

    def _prefill(self, sequences: Sequence[RunningSequence]) -> Tensor:
        prompts = [sequence.prompt_ids for sequence in sequences]
        if sequences[0].score_from is None:
            return self._model.prefill(prompts)
        logits, log_probs = self._model.score(prompts, [sequence.score_from or 0 for sequence in sequences])
        for sequence, of_prompt in zip(sequences, log_probs, strict=True):
            if not all(map(math.isfinite, of_prompt)):
                raise ArithmeticError("the logits are not finite; check the weights")
            sequence.input_log_probs = of_prompt
        return logits

    def _take_prefill(self) -> list[RunningSequence]:
        room = self._max_running - len(self._running)
        if not room or not self._waiting:
            return []
        oldest, scored = len(self._waiting[0].prompt_ids), self._waiting[0].score_from is not None
        taken: list[RunningSequence] = []
        width = 0
        for sequence in sorted(self._waiting[:room], key=lambda other: abs(len(other.prompt_ids) - oldest)):
            if (sequence.score_from is not None) is not scored:
                continue
            width = max(width, len(sequence.prompt_ids))
            if taken and width * (len(taken) + 1) > _PREFILL_TOKENS:
                break
            taken.append(sequence)
        chosen = set(map(id, taken))
        self._waiting = [sequence for sequence in self._waiting if id(sequence) not in chosen]
        return taken

    def _extend(self, first: int, tokens: list[int], log_probs: list[float]) -> None:
        """Gives each row from ``first`` on its token, and ends the requests that are complete with it."""
        finished: list[tuple[int, Finish]] = []
        for row, (token, log_prob) in enumerate(zip(tokens, log_probs, strict=True), first):
            sequence = self._running[row]
            if sequence.limit == 0:
                finished.append((row, LengthReached(0)))
                continue
            sequence.output_ids.append(token)
            sequence.log_probs.append(log_prob)
            if finish := self._stops.finish(sequence.output_ids, sequence.params, sequence.limit):
                finished.append((row, finish))
        for row, finish in reversed(finished):  # the last row moves into a freed one, so from the end
            sequence = self._free(row)
            del self._live[sequence.rid]
            sequence.finish(finish, self.weight_version)

    def _free(self, row: int) -> RunningSequence:
        sequence, last = self._running[row], self._running.pop()
        if last is not sequence:
            self._running[row] = last
        self._model.remove(row)
        return sequence

    def _fail(self, first: int, message: str) -> None:
        for sequence in self._running[first:]:
            del self._live[sequence.rid]
            sequence.done.set_exception(EngineFailure(message))
        del self._running[first:]
        self._model.truncate(first)
