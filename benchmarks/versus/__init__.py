"""Three training loops around one network, one processor and one budget; see docs/versus.md."""
