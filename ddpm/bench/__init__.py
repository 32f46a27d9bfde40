"""The two laboratories: what a compiler promises of each operation, and what a clock finds."""
