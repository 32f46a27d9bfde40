"""The page: what is measured and how, and the tables."""

from collections.abc import Sequence

from benchmarks.sampler_orders.measure import Results, Series
from benchmarks.sampler_orders.paths import PATHS

PAGE = """\
# Orders of convergence on analytic mixtures

Every sampler of the catalogue runs with the exact network of a Gaussian mixture, and the law of
what it draws is compared with the exact law. Tables are written by

    python -m benchmarks.sampler_orders --out docs/sampler-orders.md

and held by `tests/ddpm/test_mixture_orders.py` and `tests/ddpm/test_bound_orders.py`. Everything
runs on the float64 rows of the step tables, so that no error is hidden by rounding; only the
Brownian paths below draw numbers.

![Errors against steps, and the bound's excess against levels]({figure})

## What is measured

The schedule is even in log-SNR from -5 at level T to 5 at level 1, and K steps lead from one to the
other. A sampler starts from the **exact law at level T** and is stopped **at level 1**, so that its
steps are the only error. What a whole run adds is another matter, and no more steps help against
it: N(0, I) in place of the law at level T, and the last row, which returns x0_hat where data have
noise left. On this schedule, which is short to show orders with few steps, these two are

| dimensions | N(0, I) to the law at level T | last estimate to the data |
| ---: | ---: | ---: |
{ends}

and a schedule that goes from -10 to 10 has them small; its steps are twice as long.

The distance is Wasserstein's of order 2, W. On the line it compares quantiles. Samplers without
noise map the quantiles at level T to those at level 1, where the exact flow is the map from
quantile to quantile. For samplers with noise the density is carried from row to row by quadrature
(Chapman and Kolmogorov): this is the weak error, of all moments together. The data are a mixture of
2 components on the line; the product of that one and one of 3, turned in the plane, with full
covariances; and in 64 dimensions the line's mixture along one axis and normal laws with variances
from 0.02 to 1.5 along 63 others, turned in space. Squares of W add up over the axes of a product.

Slopes are fitted by least squares to the last three columns.

{laws}

Heun and stochastic-heun make 2 K - 1 calls of the network for K steps, predictor-corrector 2 K - 1,
the others K. \\* See the next section.

### Predictor and corrector

Corrections have a length of their own, which does not shorten with the steps. Their law at rest is
too wide, so that with K to infinity the samples at a fixed level tend to that law and not to the
exact one: the slopes above are on their way there. The difference scales with the noise of the
level, which is why a run down to clean data still ends right. On normal data of variance 0.5 from
log-SNR -5 to 0, where the law at rest is {apart:.2e} from the exact one, the distance to the law at
rest falls with order 1:

{corrections}

## Along paths

**The flow.** A mixture of 3 components in the plane that is no product of axes; errors are root
mean squares over 147 points spread by its law at level T (Gauss and Hermite's nodes of each
component), against DOP853 with a tolerance of 1e-12 on the score's own form of the flow.

{flow}

**Strong order.** Mean distance of the results of K and of 2 K steps along the same Brownian path,
on the line, {paths} paths. The noise of these equations does not depend on x, so that Euler and
Maruyama's order is 1 and not 1/2; the two solvers of weak order 2 have strong order 1, as they know
a path at the ends of their steps alone. The equation "sub-vp" is left out: its steps freeze a noise
that depends on time, so that the noises of short steps do not add up to that of a long one.

{strong}

## The bound

The bound of the exact network on E -log p(x_1), of the line's data noised to log-SNR 4, over n even
steps in log-SNR down to -12. It is computed by the library's functions (`Loss.bound_terms`,
`prior_bits_per_image`) at nodes of (x_0, noise) in place of draws. The exact value is
{entropy:.6f} nats. "Measured" is how far the bound on -log p lies above it; "exact reverse" is
KL(q(x_T), N(0, 1)) + sum of E KL(q(x_(t-1) given x_t), p(x_(t-1) given x_t)) from the reference's
exact reverse at this n; C is the constant of the leading term by quadrature over log-SNR:
u^2 E[V^2] / 4 with the posterior's variance, u^2 Var[V] / 4 with the best constant one and
u^3 E[K^2] / 12 with the exact one, where u is the SNR and V, K are variance and third cumulant of
x_0 given x_t.

{bounds}
"""

CAPTIONS = {
    "1": "One dimension, 2 components", "2": "Two dimensions, 6 components",
    "64": "64 dimensions, 2 components",
}  # fmt: skip


def markdown(results: Results, figure: str) -> str:
    """The page.

    Args:
        results: Of `everything`.
        figure: Name of the picture, beside the page.
    """
    steps = results["steps"]
    laws = [
        f"### {CAPTIONS[dimensions]}\n\n{table(steps, rows, 'predictor')}"
        for dimensions, rows in results["laws"].items()
    ]
    ends = [f"| {name} | {a:.3f} | {b:.3f} |" for name, (a, b) in results["ends"].items()]
    return PAGE.format(
        figure=figure, ends="\n".join(ends), laws="\n\n".join(laws), paths=PATHS,
        apart=results["corrections_apart"],
        corrections=table(results["correction_steps"], results["corrections"]),
        flow=table(steps, results["flow"]), entropy=results["entropy"],
        strong=table(results["strong_steps"], results["strong"]), bounds=_bounds(results),
    )  # fmt: skip


def table(steps: Sequence[int], rows: Sequence[Series], starred: str = "") -> str:
    """Errors by steps, slope and order, which has a star where a name begins with a word."""
    head = "".join(f" {'K = ' if not i else ''}{count} |" for i, count in enumerate(steps))
    lines = [f"| sampler | order |{head} slope |", "| --- | ---: |" + " ---: |" * (len(steps) + 1)]
    for row in rows:
        errors = "".join(f" {error:.2e} |" for error in row["errors"])
        star = "\\*" if starred and row["name"].startswith(starred) else ""
        lines.append(f"| {row['name']} | {row['order']}{star} |{errors} {row['slope']:.2f} |")
    return "\n".join(lines)


def _bounds(results: Results) -> str:
    steps = results["steps"]
    head = "".join(f" {'n = ' if not i else ''}{count} |" for i, count in enumerate(steps))
    lines = [f"| variance of a step | nats |{head}", "| --- | --- |" + " ---: |" * len(steps)]
    for row in results["bounds"]:
        power = f"n^{row['rate']}" if row["rate"] > 1 else "n"
        scaled = [
            error * count ** row["rate"] / row["constant"]
            for error, count in zip(row["measured"], steps, strict=True)
        ]
        for name, values, form in (
            ("measured", row["measured"], ".3e"), ("exact reverse", row["predicted"], ".3e"),
            (f"measured {power} / C, C = {row['constant']:.3f}", scaled, ".3f"),
        ):  # fmt: skip
            cells = "".join(f" {value:{form}} |" for value in values)
            lines.append(f"| {row['variance']} | {name} |{cells}")
    return "\n".join(lines)
