"""``--rollout-function-path``: slime's own rollout, and beside it the demonstrations of each training step."""

import logging
import random
import statistics
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from slime_search.core.tokens import Tokenizer
from slime_search.errors import ConfigError
from slime_search.hooks.called_off import complete
from slime_search.hooks.contract import Args, DataSource, Sample, option, reward_in_slimes_form
from slime_search.hooks.demonstrations import Encoded, Encoder, read_demonstrations
from slime_search.hooks.red.config import RedConfig, check_arguments, red_config, steps_of
from slime_search.hooks.runtime import runtime
from slime_search.hooks.samples import flattened, record_of, rollouts_of, status_of


class Row(NamedTuple):
    """A demonstration, ready to become a sample."""

    number: int
    """Its row in the file, from 0."""
    text: str
    """Its response."""
    encoded: Encoded


class Demonstrations:
    """The rows of a file in an order that depends on the seed alone, so that a resumed run goes on where it was.

    Each epoch shuffles them anew.
    """

    def __init__(self, rows: Sequence[Row], seed: int) -> None:
        self._rows = rows
        self._seed = seed
        self._order = lru_cache(2)(self._shuffled)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, number: int, size: int) -> list[Row]:
        """The rows of the ``number``-th batch of ``size``, counted from 0; an epoch's end may lie within it."""
        return list(islice(self._from(number * size), size))

    def _from(self, position: int) -> Iterator[Row]:
        while True:
            epoch, row = divmod(position, len(self._rows))
            yield self._rows[self._order(epoch)[row]]
            position += 1

    def _shuffled(self, epoch: int) -> list[int]:
        order = list(range(len(self._rows)))
        random.Random(f"{self._seed}/{epoch}").shuffle(order)
        return order


def load(args: Args, config: RedConfig, tokenizer: Tokenizer) -> Demonstrations:
    """All rows of ``config.sft_data``, tokenised.

    Raises:
        DataError: the file or a row of it can't be used.
        ConfigError: a row is longer than --rollout-max-context-len.
    """
    encoder = Encoder(tokenizer, option(args, "apply_chat_template_kwargs"))
    limit = option(args, "rollout_max_context_len")
    rows = []
    for number, demonstration in enumerate(read_demonstrations(config.sft_data)):
        encoded = encoder.encode(demonstration)
        length = len(encoded.prompt_ids) + len(encoded.response_ids)
        if limit is not None and length > limit:
            raise ConfigError(
                f"{config.sft_data}, row {number}: {length} tokens, and --rollout-max-context-len is {limit}; leave "
                "the row out, or allow longer contexts"
            )
        rows.append(Row(number, "".join(piece.text for piece in demonstration.segments), encoded))
    return Demonstrations(rows, option(args, "rollout_seed", 0))


logger = logging.getLogger(__name__)

SOURCE = "red_sft"
"""The source of a demonstration's sample, by which the training side knows it."""
_loaded: tuple[RedConfig, Demonstrations] | None = None


def generate_rollout(args: Args, rollout_id: int, data_source: DataSource, evaluation: bool = False) -> Any:
    """slime's ``sglang_rollout.generate_rollout``; in training its output with demonstrations mixed in.

    A step's demonstrations are samples of one rollout, which slime's loss divides by their tokens together. Their
    reward is the step's accuracy, by which the training side weighs them; normalised, it is 0.

    Raises:
        ConfigError: RED's settings are wrong, or slime's arguments don't go together with them.
        DataError: the demonstrations can't be read.
    """
    from slime.rollout import sglang_rollout

    if evaluation:
        return sglang_rollout.generate_rollout(args, rollout_id, data_source, evaluation=True)
    config = red_config(args)
    # What would stop the run stops it before the first rollout is paid for.
    check_arguments(args, config)
    steps = steps_of(args, args.rollout_batch_size * args.n_samples_per_prompt)
    demonstrations = _demonstrations(args, config)
    output = sglang_rollout.generate_rollout(args, rollout_id, data_source)
    samples = flattened(output.samples)
    complete(args, samples)
    output.samples = mix(rollouts_of(samples), rollout_id, steps, demonstrations, config, args)
    return output


def mix(
    rollouts: Sequence[list[Sample]],
    rollout_id: int,
    steps: int,
    demonstrations: Demonstrations,
    config: RedConfig,
    args: Args,
) -> list[list[Sample]]:
    """The rollouts of each step and after them one more, of its demonstrations; slime splits them in this order."""
    accuracy = accuracy_of(rollouts, args) if config.accuracy_aware or config.policy_shift else 0.0
    in_a_step = len(rollouts) // steps
    mixed: list[list[Sample]] = []
    for step in range(steps):
        mixed += rollouts[step * in_a_step : (step + 1) * in_a_step]
        number = rollout_id * steps + step
        rows = demonstrations.batch(number, config.sft_batch_size)
        mixed.append(_samples(rows, number, accuracy, rollouts[0][0], args))
    return mixed


def accuracy_of(rollouts: Sequence[Sequence[Sample]], args: Args) -> float:
    """The mean exact match of the rollouts that carry a signal; of rewards, where this package did not score them.

    Raises:
        ConfigError: such a reward does not lie in [0, 1].
    """
    matches = []
    for rollout in rollouts:
        last = rollout[-1]
        if last.remove_sample or last.reward is None:
            continue
        score = record_of(last).get("score")
        match = float(last.get_reward_value(args)) if score is None else float(score["em"])
        if not 0 <= match <= 1:
            raise ConfigError(
                f"reward {match}: no accuracy, which lies in [0, 1]; set red.accuracy_aware and red.policy_shift to "
                "false"
            )
        matches.append(match)
    # Where nothing is known, the factor G^(1 − 2·accuracy) is 1.
    return statistics.fmean(matches) if matches else 0.5


def _samples(rows: Sequence[Row], number: int, accuracy: float, model: Sample, args: Args) -> list[Sample]:
    """Samples of one rollout and one group, whose numbers are negative and so nobody else's."""
    own = -1 - number
    make: Any = type(model)
    samples: list[Sample] = []
    for position, row in enumerate(rows):
        prompt_ids, response_ids, loss_mask = row.encoded
        samples.append(
            make(
                group_index=own,
                rollout_id=own,
                index=own * len(rows) - position,
                tokens=[*prompt_ids, *response_ids],
                response=row.text,
                response_length=len(response_ids),
                loss_mask=list(loss_mask),
                # slime looks at the first sample to know whether all have them.
                rollout_log_probs=None if model.rollout_log_probs is None else [0.0] * len(response_ids),
                reward=reward_in_slimes_form(args, accuracy),
                status=status_of(model, "COMPLETED"),
                metadata={"source_name": SOURCE, "row": row.number},
            )
        )
    return samples


def _demonstrations(args: Args, config: RedConfig) -> Demonstrations:
    global _loaded
    if _loaded is None or _loaded[0] != config:
        loaded = load(args, config, runtime(args).tokenizer)
        logger.info("RED: %d demonstrations of %s, %d a step", len(loaded), config.sft_data, config.sft_batch_size)
        _loaded = config, loaded
    return _loaded[1]
