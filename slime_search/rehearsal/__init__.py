"""A whole training on slime, rehearsed on this machine's CPU: slime's own trainer, Megatron, SGLang and its router."""
