"""Loads the encoder that a family and a model's name stand for."""

import difflib
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoConfig, DPRContextEncoder, DPRQuestionEncoder

from slime_search.retrieval.encoders.families import AUTO, FAMILIES, Family
from slime_search.retrieval.encoders.precision import Precision, dtype_for
from slime_search.retrieval.encoders.sentence_encoder import SentenceEncoder, ToFloat32
from slime_search.retrieval.errors import SetupError

DEFAULT_BATCH_SIZE = 64

_TOKEN_VECTORS: Any = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


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
