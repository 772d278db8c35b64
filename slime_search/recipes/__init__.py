"""Each recipe wires engine, dialect, tools and reward into one agent loop."""
