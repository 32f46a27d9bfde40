"""Orders of convergence of every sampler, and of the variational bound, on analytic mixtures.

    python -m benchmarks.sampler_orders --out docs/sampler-orders.md

writes the page, its figure and its numbers as JSON. Whatever can be is computed without drawing a
number: laws on the line by quantiles or by quadrature, more dimensions from their axes.
"""
