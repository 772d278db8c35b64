import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from slime_search.local.induction import SEEDED_HEADS
from slime_search.local.policy import build_model

LENGTH = 60


def attention_to_previous_and_to_follower(
    tokenizer: PreTrainedTokenizerFast, *, induction: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean attention over a twice repeated random text, a head: of layer 0 to the token before, and of layer 1, in the
    second half, to the token that followed the present one in the first half."""
    model: LlamaForCausalLM = build_model(tokenizer, 0, induction=induction)
    model.set_attn_implementation("eager")
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(300, len(tokenizer), (8, LENGTH), generator=generator)
    with torch.no_grad():
        layer_0, layer_1, _ = model(torch.cat([text, text], 1), output_attentions=True).attentions
    previous = torch.diagonal(layer_0, offset=-1, dim1=2, dim2=3)[..., 5:]
    follower = torch.diagonal(layer_1, offset=1 - LENGTH, dim1=2, dim2=3)[..., 1:]
    return previous.mean((0, 2)), follower.mean((0, 2))


def test_seeded_heads_look_at_the_previous_token_and_at_what_followed_this_one(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    previous, follower = attention_to_previous_and_to_follower(tokenizer, induction=True)
    assert (previous[:SEEDED_HEADS] > 0.8).all()
    assert (follower[:SEEDED_HEADS] > 10 / (2 * LENGTH)).all()


def test_a_plain_random_start_does_neither(tokenizer: PreTrainedTokenizerFast) -> None:
    previous, follower = attention_to_previous_and_to_follower(tokenizer, induction=False)
    assert (previous < 0.1).all()
    assert (follower < 2 / LENGTH).all()
