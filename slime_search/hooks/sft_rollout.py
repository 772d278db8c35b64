"""``--rollout-function-path`` for a cold start on slime's ``--loss-type sft_loss``.

slime's own SFT rollout masks by role and would train on what a tool wrote into a turn. This one takes the same data
source, whose prompts, epochs and saved position stay slime's, and masks by who wrote what.
"""

from slime_search.errors import DataError
from slime_search.hooks.contract import Args, DataSource, Sample, option, reward_in_slimes_form
from slime_search.hooks.demonstrations import Encoder, parse
from slime_search.hooks.runtime import load_tokenizer


def generate_rollout(args: Args, rollout_id: int, data_source: DataSource, evaluation: bool = False) -> list[Sample]:
    """The next ``--rollout-batch-size`` demonstrations as samples.

    The prompt is the column that --input-key names; segments, task and tags are in that of --metadata-key.

    Raises:
        DataError: a row is no demonstration, or --n-samples-per-prompt is not 1.
    """
    assert not evaluation, "there is nothing to evaluate in a cold start; leave --eval-interval out"
    encoder = Encoder(load_tokenizer(args.hf_checkpoint), option(args, "apply_chat_template_kwargs"))
    samples = []
    for group in data_source.get_samples(args.rollout_batch_size):
        if len(group) != 1:
            raise DataError(f"--n-samples-per-prompt {len(group)}: a demonstration is trained on once; set it to 1")
        (sample,) = group
        try:
            encoded = encoder.encode(parse(sample.prompt, sample.metadata or {}))
        except DataError as error:
            raise DataError(f"{args.prompt_data}, sample {sample.index}: {error}") from None
        sample.tokens = [*encoded.prompt_ids, *encoded.response_ids]
        sample.response_length = len(encoded.response_ids)
        sample.loss_mask = list(encoded.loss_mask)
        sample.reward = reward_in_slimes_form(args, 0.0)
        samples.append(sample)
    return samples
