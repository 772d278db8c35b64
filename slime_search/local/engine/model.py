"""The model: loaded from a Hugging Face folder, run on a batch of requests, given new weights in place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from slime_search.errors import SlimeSearchError
from slime_search.local.engine.attention import SlotCache, use_slot_attention


class ModelError(SlimeSearchError, ValueError):
    """A model folder that this engine can't serve; the message says what is wrong with it."""


class BatchedModel:
    """A causal language model and the requests that it is decoding, in rows as `SlotCache` keeps them.

    Args:
        model: with full attention in every layer. It is changed for this use, and no longer good for another.
        max_rows: the most requests at once.
        context_length: the most tokens of a request, prompt and completion together.
    """

    def __init__(self, model: PreTrainedModel, *, max_rows: int, context_length: int) -> None:
        config = model.config
        _check(model, context_length)
        self.context_length = context_length
        self.vocab_size: int = config.vocab_size
        self._model = model.eval()
        self._slots = SlotCache(config.num_hidden_layers, max_rows, context_length)
        self._last: Tensor | None = None
        use_slot_attention(model)
        # Of a prompt, only the last token's output counts. The last layer's MLP adds to a residual of all tokens, where
        # its (rows, 1, hidden) is broadcast; the output layer then picks the one row that is right.
        for layer in (model.base_model.layers[-1].mlp, model.get_output_embeddings()):
            layer.register_forward_pre_hook(self._keep_last)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Appends one row a prompt. Returns the logits of each prompt's next token: (prompts, vocabulary)."""
        return self._prefill(prompts, all_logits=False)[:, -1].float()

    def score(self, prompts: Sequence[Sequence[int]], starts: Sequence[int]) -> tuple[Tensor, list[list[float]]]:
        """The same, and the log-probability of each prompt's tokens after its token at ``starts``."""
        logits = self._prefill(prompts, all_logits=True)
        log_probs = []
        for row, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
            scored = logits[row, start : len(prompt) - 1].float().log_softmax(-1)
            log_probs.append(scored.gather(-1, torch.tensor(prompt[start + 1 :])[:, None])[:, 0].tolist())
        last = torch.tensor([len(prompt) - 1 for prompt in prompts])
        return logits[torch.arange(len(prompts)), last].float(), log_probs

    def _prefill(self, prompts: Sequence[Sequence[int]], *, all_logits: bool) -> Tensor:
        """(prompts, tokens, vocabulary), the last token's alone unless all are asked for."""
        lengths = [len(prompt) for prompt in prompts]
        width = max(lengths)
        tokens = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
        self._slots.begin_prefill(len(prompts), width)
        self._last = None if all_logits else torch.tensor(lengths) - 1
        # No mask: under a causal one, no token of a prompt sees the padding to its right.
        logits = self._forward(tokens, torch.arange(width)[None], None)
        self._slots.end_prefill(lengths)
        return logits

    def decode(self, tokens: Sequence[int]) -> Tensor:
        """Appends ``tokens[i]`` to row ``i``, for all rows. Returns the next token's logits: (rows, vocabulary)."""
        positions, mask = self._slots.begin_decode()
        self._last = None
        logits = self._forward(torch.tensor(tokens)[:, None], positions, mask)
        self._slots.end_decode()
        return logits[:, -1].float()

    def remove(self, row: int) -> None:
        """Frees a row; the last row moves into it."""
        self._slots.remove(row)

    def truncate(self, rows: int) -> None:
        """Frees all rows from ``rows`` on."""
        self._slots.truncate(rows)

    def read_weights(self, folder: Path) -> dict[str, Tensor]:
        """The tensors of ``folder``'s safetensors files, checked against the model; safe beside a running pass.

        Raises:
            ModelError: a file can't be read, or a tensor is missing, unknown or of another shape.
        """
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ModelError(f"{folder}: no *.safetensors file there")
        new: dict[str, Tensor] = {}
        for file in files:
            try:
                new |= load_file(file)
            except (OSError, SafetensorError) as error:
                raise ModelError(f"{file}: {error}") from None
        current = dict(self._model.named_parameters(remove_duplicate=False))
        required = {name for name, _ in self._model.named_parameters()}
        for name in sorted(required - new.keys()):
            raise ModelError(f"{folder}: tensor {name} is missing")
        for name, tensor in new.items():
            if name not in current:
                raise ModelError(f"{folder}: tensor {name} is not one of the model's")
            if tensor.shape != current[name].shape:
                raise ModelError(f"{folder}: tensor {name} is {[*tensor.shape]}, not {[*current[name].shape]}")
        # A tied output layer may be stored a second time, under its own name.
        return {name: new[name] for name in required}

    def set_weights(self, weights: dict[str, Tensor]) -> None:
        """Puts what `read_weights` returned into the model. The rows keep the keys and values they have."""
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                parameter.copy_(weights[name])

    def _forward(self, tokens: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        output = self._model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._slots,
            use_cache=True,
        )
        logits: Tensor = output.logits
        return logits

    def _keep_last(self, _layer: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor] | None:
        """Narrows a layer's input from (rows, tokens, hidden) to the last token of each prompt: (rows, 1, hidden)."""
        if self._last is None:
            return None
        hidden: Tensor = inputs[0]
        return (hidden[torch.arange(len(hidden)), self._last][:, None],)


def _check(model: PreTrainedModel, context_length: int) -> None:
    config = model.config
    layers = getattr(model.base_model, "layers", ())
    if not layers or not hasattr(layers[-1], "mlp"):
        raise ModelError(f"{config.model_type}: this engine takes models built like Llama or Qwen2 only")
    if other := set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        raise ModelError(f"{config.model_type}: this engine has full attention only, not {', '.join(sorted(other))}")
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if rope_type in ("dynamic", "longrope"):
        raise ModelError(f"{config.model_type}: rope type {rope_type} depends on the other requests of a batch")
    if not 0 < context_length <= config.max_position_embeddings:
        raise ModelError(
            f"context_length {context_length} is not within the model's {config.max_position_embeddings} positions"
        )


def load_model(folder: Path) -> PreTrainedModel:
    """The model of a Hugging Face folder, in fp32.

    Raises:
        ModelError: there is no causal language model in it.
    """
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: {error}") from None
