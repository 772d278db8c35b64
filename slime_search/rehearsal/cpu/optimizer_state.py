"""Megatron's distributed optimizer, loaded from a checkpoint without Apex and Transformer Engine.

It asks for the number of steps in a state that torch's Adam does not have before its first step, so Megatron's own way
to fill a state in is called before; what it puts there is then replaced by the checkpoint's. The number is restored
apart from the moments, as one tensor for all parameters, and then looked for among them: each parameter gets its own.
"""

import functools
from collections.abc import Mapping
from typing import Any


def complete(module: Any) -> None:
    """``module`` is ``megatron.core.optimizer.distrib_optimizer``."""
    optimizer = module.DistributedOptimizer
    ask, fill = optimizer.sharded_state_dict, optimizer._set_main_param_and_optimizer_states

    @functools.wraps(ask)
    def with_state(self: Any, *arguments: Any, **options: Any) -> Any:
        if not self.optimizer.state:
            self._init_optimizer_states_with_dummy_values()
        return ask(self, *arguments, **options)

    @functools.wraps(fill)
    def with_step(self: Any, model_param: Any, tensors: Mapping[str, Any]) -> Any:
        group, order = self.model_param_group_index_map[model_param]
        own = self.optimizer.state[self.optimizer.param_groups[group]["params"][order]]
        if "step" in own:
            own["step"] = own["step"].clone()
            tensors = {"step": own["step"], **tensors}
        return fill(self, model_param, tensors)

    optimizer.sharded_state_dict, optimizer._set_main_param_and_optimizer_states = with_state, with_step
