"""The agent loop, its record, and the interfaces that engines, dialects and tools fill."""
