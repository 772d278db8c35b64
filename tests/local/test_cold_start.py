import pytest
import torch
from transformers import PreTrainedTokenizerFast

from slime_search.core.tokens import TokenCodec
from slime_search.core.trajectory import Owner
from slime_search.local.cold_start import WORLD_WEIGHT, cold_start, encode_demonstration
from slime_search.local.dataset import DatasetPaths
from slime_search.local.demonstrations import Demonstration, Turn, read_demonstrations
from slime_search.local.muon import Muon, orthogonalize
from slime_search.local.policy import build_model
from slime_search.local.policy_format import TAGS


@pytest.fixture(scope="module")
def demonstrations(dataset: DatasetPaths) -> list[Demonstration]:
    return list(read_demonstrations(dataset.demonstrations))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_a_few_steps_lower_the_loss_and_are_reported(
    tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    model = build_model(tokenizer, 0)
    reported: list[tuple[int, float]] = []
    losses = cold_start(
        model, tokenizer, demonstrations, steps=12, seed=0, on_step=lambda step, loss: reported.append((step, loss))
    )
    assert reported == list(enumerate(losses, start=1))
    assert losses[-1] < losses[0] - 0.5
    assert not model.training


def test_a_seed_gives_the_same_weights(tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]) -> None:
    first, again = build_model(tokenizer, 0), build_model(tokenizer, 0)
    assert cold_start(first, tokenizer, demonstrations, steps=2, seed=3) == cold_start(
        again, tokenizer, demonstrations, steps=2, seed=3
    )
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])


def test_an_interruption_gets_through_and_leaves_the_last_whole_step(
    tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    interrupted, whole = build_model(tokenizer, 0), build_model(tokenizer, 0)

    def press_ctrl_c(step: int, loss: float) -> None:
        if step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cold_start(interrupted, tokenizer, demonstrations, steps=1, seed=0, on_step=press_ctrl_c)
    cold_start(whole, tokenizer, demonstrations, steps=1, seed=0)
    for name, weight in interrupted.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name])
        assert weight.isfinite().all()


def test_no_demonstrations_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="demonstrations"):
        cold_start(build_model(tokenizer, 0), tokenizer, [], steps=1, seed=0)


def test_the_model_is_graded_on_its_own_tokens_above_all(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = (Turn(Owner.MODEL, "<think> a </think>"), Turn(Owner.WORLD, "<information></information>"))
    codec = TokenCodec(tokenizer)
    example = encode_demonstration(Demonstration("?", turns), codec, TAGS.prompt_encoder(codec, tokenizer))
    own = tokenizer.convert_tokens_to_ids("<think>")
    start = example.token_ids.index(own)
    assert example.weights == [WORLD_WEIGHT] * start + [1.0] * 4 + [WORLD_WEIGHT] * 2


@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (40, 16)])
def test_orthogonalize_keeps_singular_vectors_and_evens_out_the_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    (result,) = orthogonalize(matrix[None])
    in_the_same_basis = left.T @ result @ right.T
    assert torch.allclose(in_the_same_basis, torch.diag(in_the_same_basis.diagonal()), atol=1e-4)
    values = in_the_same_basis.diagonal()
    assert values.max() < 1.3
    assert values.median() > 0.65


def test_muon_agrees_with_pytorchs_own_up_to_its_half_precision() -> None:
    torch.manual_seed(0)
    start = [torch.randn(24, 24), torch.randn(24, 48), torch.randn(24, 24)]
    ours, theirs = ([torch.nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    optimizers = (
        Muon(ours, lr=1e-2),
        torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, before in zip(ours, theirs, start, strict=True):
        moved = (one - before).norm()
        assert (one - other).norm() < 0.05 * moved
