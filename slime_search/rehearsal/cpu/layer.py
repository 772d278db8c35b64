"""``--spec slime_search.rehearsal.cpu.layer layer``: one layer of a Llama, Qwen2.5 or Qwen3 without Transformer Engine.

Megatron's own layers without Transformer Engine refuse packed sequences, and slime always packs. What is fused there is
here one module as well, so that parameters have the names that slime converts to and from Hugging Face's.
"""

from typing import Any

import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec  # type: ignore[import-not-found]
from megatron.core.tensor_parallel import ColumnParallelLinear  # type: ignore[import-not-found]
from megatron.core.transformer.identity_op import IdentityOp  # type: ignore[import-not-found]
from megatron.core.transformer.module import MegatronModule  # type: ignore[import-not-found]
from torch import Tensor

from slime_search.rehearsal.cpu.packed_attention import packed_attention


class NormAndLinear(ColumnParallelLinear):  # type: ignore[misc]
    """RMSNorm and the linear layer behind it, as Transformer Engine's fused module of both."""

    def __init__(self, input_size: int, output_size: int, *, config: Any, **options: Any) -> None:
        super().__init__(input_size, output_size, config=config, **options)
        self.layer_norm_weight = torch.nn.Parameter(torch.ones(input_size, dtype=config.params_dtype))
        self.epsilon = config.layernorm_epsilon

    def forward(self, input_: Tensor, weight: Tensor | None = None, **options: Any) -> Any:
        wide = input_.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return super().forward(self.layer_norm_weight * (wide * scale).to(input_.dtype), weight, **options)


class PackedAttention(MegatronModule):  # type: ignore[misc]
    """The attention itself, between Megatron's projections."""

    def __init__(
        self, config: Any, layer_number: int, attn_mask_type: Any, attention_type: str, **options: Any
    ) -> None:
        super().__init__(config=config)
        self.scale = options.get("softmax_scale")

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, packed_seq_params: Any = None, **_: Any
    ) -> Tensor:
        assert packed_seq_params is not None, "slime packs every batch"
        return packed_attention(query, key, value, packed_seq_params.cu_seqlens_q.tolist(), self.scale)


def layer(args: Any, config: Any, vp_stage: int | None) -> Any:
    """Megatron's specification of a layer, as slime asks for it."""
    spec = get_gpt_layer_local_spec(normalization="RMSNorm", qk_layernorm=args.qk_layernorm)
    parts = spec.submodules
    parts.input_layernorm = parts.pre_mlp_layernorm = IdentityOp
    parts.self_attention.submodules.linear_qkv = parts.mlp.submodules.linear_fc1 = NormAndLinear
    parts.self_attention.submodules.core_attention = PackedAttention
    # It would rename the norms in checkpoints to what they are called as modules of their own.
    parts.sharded_state_dict_keys_map = {}
    return spec
