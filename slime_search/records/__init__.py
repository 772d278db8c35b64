"""A rollout as a line of JSON: made from samples or from slime's dumps, and read again."""
