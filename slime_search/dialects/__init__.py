"""How a model writes an action and reads an observation."""
