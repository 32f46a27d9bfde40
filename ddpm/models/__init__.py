"""Networks of (x, t) that predict from noisy images."""
