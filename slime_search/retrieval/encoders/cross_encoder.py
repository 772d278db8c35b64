"""Cross-encoders of sentence-transformers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import sentence_transformers
import torch

from slime_search.retrieval.choices import Precision
from slime_search.retrieval.encoders.precision import dtype_for
from slime_search.retrieval.errors import SetupError

DEFAULT_BATCH_SIZE = 64


class CrossEncoderError(SetupError):
    """A cross-encoder can't be had; the message names the option, its value and the fix."""


def load_cross_encoder(
    model: str, *, device: str = "cpu", precision: str = Precision.AUTO, batch_size: int = DEFAULT_BATCH_SIZE
) -> "SentenceCrossEncoder":
    """Loads a model from a folder or the Hugging Face Hub.

    Args:
        model: a folder, or a name such as ``BAAI/bge-reranker-base``.
        device: as torch writes it, ``cpu`` or ``cuda:0``.
        precision: what the transformer computes in; the score itself is in fp32.
        batch_size: pairs a forward pass, at most.

    Raises:
        CrossEncoderError: there is no such model, device or precision, or the model gives a pair several labels.
    """
    try:
        dtype = dtype_for(Precision(precision), device)
    except ValueError:
        raise CrossEncoderError(f"precision: {precision!r} is not one of {', '.join(Precision)}") from None
    try:
        network = sentence_transformers.CrossEncoder(model, device=device)
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise CrossEncoderError(
            f"reranker: {model!r} can't be loaded on {device} ({first_line}); name a folder with a cross-encoder, "
            "or a model of the Hub such as BAAI/bge-reranker-base"
        ) from error
    if network.num_labels != 1:
        raise CrossEncoderError(
            f"reranker: {model!r} gives a pair {network.num_labels} labels and not one score; "
            "name a cross-encoder that was trained to rerank, such as BAAI/bge-reranker-base"
        )
    network.to(dtype)
    _score_in_float32(network)
    return SentenceCrossEncoder(network, batch_size=batch_size)


class SentenceCrossEncoder:
    """Scores in batches of pairs of similar length, so that little is computed for padding.

    Args:
        model: computes where and as it was loaded, and gives a pair one score.
        batch_size: pairs a forward pass, at most.
    """

    def __init__(self, model: sentence_transformers.CrossEncoder, *, batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size

    def score(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """One score a (query, passage) pair, in order; what is beyond the model's length limit is left out.

        A score is the model's logit. Behind a sigmoid, passages that all fit well would be equal.
        """
        if not pairs:
            return np.empty(0, np.float32)
        scores = self._model.predict(
            list(pairs), batch_size=self._batch_size, show_progress_bar=False, activation_fn=torch.nn.Identity()
        )
        return np.asarray(scores, dtype=np.float32)


def _score_in_float32(network: torch.nn.Module) -> None:
    """Keeps the last layer in fp32: bf16 has so few numbers that passages would get equal scores."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear) and layer.out_features == 1:
            layer.float().register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
