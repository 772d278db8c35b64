"""slime-search: train LLM search agents by reinforcement learning on slime."""

__version__ = "0.1.0"
