"""Loads the encoder that a family and a model's name stand for."""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoConfig, DPRContextEncoder, DPRQuestionEncoder

from slime_search.retrieval.choices import Precision
from slime_search.retrieval.encoders.encoder import AUTO, FAMILIES, Family, Vectors
from slime_search.retrieval.encoders.precision import dtype_for
from slime_search.retrieval.errors import SetupError

DEFAULT_BATCH_SIZE = 64
_TOKEN_VECTORS: Any = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


class SentenceEncoder:
    """Encodes in batches of texts of similar length, so that little is computed for padding.

    Args:
        model: moves and computes where and as it was loaded.
        query_prefix: what comes before every query.
        passage_prefix: what comes before every passage.
        batch_size: texts a forward pass, at most.
    """

    def __init__(
        self, model: SentenceTransformer, *, query_prefix: str = "", passage_prefix: str = "", batch_size: int
    ) -> None:
        self._model = model
        self._query_prefix = query_prefix
        self._passage_prefix = passage_prefix
        self._batch_size = batch_size
        dimension = model.get_embedding_dimension()
        # A module of the user's own need not say what it makes.
        self._dimension = self._encode(["x"], "").shape[1] if dimension is None else dimension

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self._dimension

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """One vector a query, in order; what is beyond the model's length limit is left out."""
        return self._encode(texts, self._query_prefix)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """One vector a passage, in order; what is beyond the model's length limit is left out."""
        return self._encode(texts, self._passage_prefix)

    def _encode(self, texts: Sequence[str], prefix: str) -> Vectors:
        if not texts:
            return np.empty((0, self._dimension), np.float32)
        vectors = self._model.encode(
            list(texts), prompt=prefix, batch_size=self._batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


class ToFloat32(torch.nn.Module):
    """Goes on in fp32 behind the transformer: means, lengths and products of bf16 numbers would lose the order."""

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        features["token_embeddings"] = features["token_embeddings"].float()
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """There is nothing to save."""


class EncoderError(SetupError):
    """An encoder can't be had; the message names the option, its value and the fix."""


def load_encoder(
    model: str,
    *,
    family: str = AUTO,
    device: str = "cpu",
    precision: str = Precision.AUTO,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> SentenceEncoder:
    """Loads a model from a folder or the Hugging Face Hub.

    Args:
        model: a folder, or a name such as ``intfloat/e5-base-v2``.
        family: a key of ``FAMILIES``, which settles prefixes, pooling and lengths; ``auto`` takes the model's own
            sentence-transformers settings and its prompts "query" and "document" (or "passage").
        device: as torch writes it, ``cpu`` or ``cuda:0``.
        precision: what the transformer computes in; pooling and everything behind it is in fp32.
        batch_size: texts a forward pass, at most.

    Raises:
        EncoderError: there is no such model, family, device or precision.
    """
    if family != AUTO and family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise EncoderError(f"retriever_name: {family!r} is not one of {AUTO}, {', '.join(FAMILIES)}{hint}")
    _check_device(device)
    try:
        dtype = dtype_for(Precision(precision), device)
    except ValueError:
        raise EncoderError(f"precision: {precision!r} is not one of {', '.join(Precision)}") from None
    try:
        network = _own(model, device) if family == AUTO else _of_family(FAMILIES[family], model, device)
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise EncoderError(
            f"retriever_model: {model!r} can't be loaded ({first_line}); name a folder with a Hugging Face encoder, "
            "or a model of the Hub"
        ) from error
    network[0].to(dtype)
    network.insert(1, ToFloat32())
    network.eval()
    if family == AUTO:
        prefixes = _own_prefixes(network)
    else:
        prefixes = FAMILIES[family].query_prefix, FAMILIES[family].passage_prefix
    return SentenceEncoder(network, query_prefix=prefixes[0], passage_prefix=prefixes[1], batch_size=batch_size)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise EncoderError(f"device: {device!r} can't be used ({first_line}); write cpu, cuda or cuda:0") from None


def _own(model: str, device: str) -> SentenceTransformer:
    return SentenceTransformer(model, device=device)


def _of_family(family: Family, model: str, device: str) -> SentenceTransformer:
    transformer = Transformer(model, modality_config=_TOKEN_VECTORS, module_output_name="token_embeddings")
    if AutoConfig.from_pretrained(model).model_type == "dpr":
        transformer.model = _bert_of_dpr(model)
    modules: list[Any] = [transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=family.pooling)]
    if family.normalize:
        modules.append(Normalize())
    return SentenceTransformer(modules=modules, device=device)


def _bert_of_dpr(model: str) -> torch.nn.Module:
    """The transformer inside a DPR encoder, whose first token's vector is what DPR compares."""
    architectures = AutoConfig.from_pretrained(model).architectures or ()
    bert: torch.nn.Module
    if "DPRContextEncoder" in architectures:
        bert = DPRContextEncoder.from_pretrained(model).ctx_encoder.bert_model
    else:
        bert = DPRQuestionEncoder.from_pretrained(model).question_encoder.bert_model
    return bert


def _own_prefixes(network: SentenceTransformer) -> tuple[str, str]:
    prompts = network.prompts
    return prompts.get("query") or "", prompts.get("document") or prompts.get("passage") or ""
