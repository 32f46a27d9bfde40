"""A run as one page: its curves, samples, scores, configuration, and how to get it again."""
