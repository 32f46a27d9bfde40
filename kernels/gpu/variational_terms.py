# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""`ddpm.kernels.variational_terms` as device functions."""

import triton
import triton.language as tl

from ddpm.kernels import variational_terms as host
from ddpm.kernels.gpu.log_normal_cdf import log_interval
from ddpm.kernels.gpu.philox import block_normals
from ddpm.kernels.streams import Stream

_TRAINING_NOISE = tl.constexpr(int(Stream.TRAINING_NOISE))
_OUTERMOST = tl.constexpr(host.OUTERMOST)
_SMALLEST_LOG_RATIO = tl.constexpr(host.SMALLEST_LOG_RATIO)
_SMALLEST_LOGIT = tl.constexpr(host.SMALLEST_LOGIT)


@triton.jit
def column(table_ptr, t, levels, COLUMN: tl.constexpr):
    """Number of a level, NaN where t is outside 0..levels - 1."""
    known = (t >= 0) & (t < levels)
    return tl.load(table_ptr + t * 6 + COLUMN, mask=known, other=float("nan"))


@triton.jit
def place_of_noise(seed_ptr, step_ptr, sample_ptr, row, STEP_STRIDE: tl.constexpr):
    """Seed, step and sample index, 0 where they are not given."""
    if seed_ptr is None or step_ptr is None or sample_ptr is None:
        seed = row * 0
        step = seed
        sample = seed
    else:
        seed = tl.load(seed_ptr)
        step = tl.load(step_ptr + row * STEP_STRIDE)
        sample = tl.load(sample_ptr + row)
    return seed, step, sample


@triton.jit
def _error_and_raw(
    output_ptr,
    x0_ptr,
    noise_ptr,
    signal,
    sigma,
    seed,
    step,
    sample,
    row,
    start,
    lane,
    mask,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The target less the prediction, and raw, float32 [BLOCK]; unspecified where mask is false."""
    base = row * SIZE + start
    of_sample = output_ptr + (row * (2 * SIZE) + start + lane)
    pred = tl.load(of_sample, mask=mask, other=0.0).to(tl.float32)
    raw = tl.load(of_sample + SIZE, mask=mask, other=0.0).to(tl.float32)
    if PREDICTION == "x0" or PREDICTION == "v":
        x0 = tl.load(x0_ptr + (base + lane), mask=mask, other=0.0).to(tl.float32)
    if PREDICTION != "x0":
        if noise_ptr is None:
            noise = block_normals(seed, step, sample, _TRAINING_NOISE, start, BLOCK, WIDE)
        else:
            noise = tl.load(noise_ptr + (base + lane), mask=mask, other=0.0).to(tl.float32)
    if PREDICTION == "eps":
        error = noise - pred
    elif PREDICTION == "x0":
        error = x0 - pred
    elif PREDICTION == "score":
        error = tl.fma(noise, -1.0 / sigma, pred * -1.0)
    else:
        error = tl.fma(signal, noise, (sigma * -1.0) * x0) - pred
    return error, raw


@triton.jit
def _inverse_ratio(raw, d0, d1, LEARNED: tl.constexpr):
    """s2 / variance, its logarithm, and the derivative of log(variance) by raw over d1."""
    if LEARNED == "log":
        log = tl.fma(raw, d1 * -1.0, d0 * -1.0)
        inverse = tl.exp(log)
        slope = tl.full(raw.shape, 1.0, tl.float32)
    else:
        share = 1.0 / (tl.exp(raw * -1.0) + 1.0)
        inverse = 1.0 / tl.fma(share, d1, d0)
        log = tl.log(inverse)
        slope = (1.0 - share) * share * inverse
    return inverse, log, slope


@triton.jit
def _decoder(error, raw, x0, root, d0, d1, half, LEARNED: tl.constexpr):
    """The decoder's term at level 1, its derivatives by the error and by raw, float32."""
    raw = raw.to(tl.float64)
    d0 = d0.to(tl.float64)
    d1 = d1.to(tl.float64)
    if LEARNED == "log":
        log_ratio = tl.fma(raw, d1, d0)
        slope = d1
    else:
        logit = tl.maximum(raw, _SMALLEST_LOGIT, propagate_nan=tl.PropagateNan.ALL)
        share = 1.0 / (tl.exp(logit * -1.0) + 1.0)
        ratio = tl.fma(share, d1, d0)
        log_ratio = tl.log(ratio)
        slope = d1 * share * (1.0 - share) / ratio
    log_ratio = tl.maximum(log_ratio, _SMALLEST_LOG_RATIO, propagate_nan=tl.PropagateNan.ALL)
    scale = tl.exp(log_ratio * -0.5)
    gain = root.to(tl.float64) * scale
    centre = gain * error.to(tl.float64)
    wide = half.to(tl.float64) * scale
    nats, by_centre, by_half = log_interval(centre, wide, x0 <= -_OUTERMOST, x0 >= _OUTERMOST)
    by_ratio = tl.fma(centre, by_centre, wide * by_half) * -0.5
    return (
        nats.to(tl.float32),
        (gain * by_centre).to(tl.float32),
        (slope * by_ratio).to(tl.float32),
    )


@triton.jit
def divergence_sums(
    output_ptr,
    x0_ptr,
    noise_ptr,
    signal,
    sigma,
    seed,
    step,
    sample,
    row,
    first,
    root,
    d0,
    d1,
    SIZE: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
    LEARNED: tl.constexpr,
):
    """Sums over LENGTH elements of the squared error and of the divergence, above level 1."""
    wide: tl.constexpr = output_ptr.dtype.element_ty.primitive_bitwidth == 16 and BLOCK >= 8
    lane = tl.arange(0, BLOCK)
    squares = tl.zeros([BLOCK], tl.float32)
    terms = tl.zeros([BLOCK], tl.float32)
    for offset in range(0, LENGTH, BLOCK):
        start = first + offset
        mask = lane < SIZE - start
        error, raw = _error_and_raw(
            output_ptr, x0_ptr, noise_ptr, signal, sigma, seed, step, sample, row, start,
            lane, mask, SIZE, BLOCK, PREDICTION, wide,
        )  # fmt: skip
        inverse, log, _ = _inverse_ratio(raw, d0, d1, LEARNED)
        square = error * error
        # What is 1 at equality is subtracted first, so that the small rest keeps its digits.
        term = tl.fma(inverse * (root * root), square, (inverse - 1.0) - log)
        if SIZE % LENGTH != 0:
            square = tl.where(mask, square, 0.0)
            term = tl.where(mask, term, 0.0)
        squares += square
        terms += term
    return tl.sum(squares, 0), tl.sum(terms, 0) * 0.5


@triton.jit
def decoder_sums(
    output_ptr,
    x0_ptr,
    noise_ptr,
    signal,
    sigma,
    seed,
    step,
    sample,
    row,
    first,
    root,
    d0,
    d1,
    half,
    SIZE: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
    LEARNED: tl.constexpr,
):
    """Sums over LENGTH elements of the squared error and of the decoder's term, at level 1."""
    lane = tl.arange(0, BLOCK)
    squares = tl.zeros([BLOCK], tl.float32)
    terms = tl.zeros([BLOCK], tl.float32)
    for offset in range(0, LENGTH, BLOCK):
        start = first + offset
        mask = lane < SIZE - start
        error, raw = _error_and_raw(
            output_ptr, x0_ptr, noise_ptr, signal, sigma, seed, step, sample, row, start,
            lane, mask, SIZE, BLOCK, PREDICTION, False,
        )  # fmt: skip
        x0 = tl.load(x0_ptr + (row * SIZE + start + lane), mask=mask, other=0.0).to(tl.float32)
        nats, _, _ = _decoder(error, raw, x0, root, d0, d1, half, LEARNED)
        squares += tl.where(mask, error * error, 0.0)
        terms += tl.where(mask, nats, 0.0)
    return tl.sum(squares, 0), tl.sum(terms, 0)


@triton.jit
def divergence_gradients(
    out_ptr,
    output_ptr,
    x0_ptr,
    noise_ptr,
    signal,
    sigma,
    seed,
    step,
    sample,
    row,
    start,
    root,
    d0,
    d1,
    minus_simple,
    each,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
    LEARNED: tl.constexpr,
    DETACH: tl.constexpr,
):
    """Write the gradients of BLOCK elements above level 1."""
    wide: tl.constexpr = output_ptr.dtype.element_ty.primitive_bitwidth == 16 and BLOCK >= 8
    lane = tl.arange(0, BLOCK)
    mask = lane < SIZE - start
    error, raw = _error_and_raw(
        output_ptr, x0_ptr, noise_ptr, signal, sigma, seed, step, sample, row, start,
            lane, mask, SIZE, BLOCK, PREDICTION, wide,
    )  # fmt: skip
    inverse, _, slope = _inverse_ratio(raw, d0, d1, LEARNED)
    square = root * root
    excess = tl.fma(inverse, tl.fma(error * error, square, 1.0), -1.0)
    for_raw = excess * slope * ((each * -0.5) * d1)
    if DETACH:
        for_pred = error * minus_simple
    else:
        for_pred = error * tl.fma(inverse, (each * -1.0) * square, minus_simple)
    _store(out_ptr, for_pred, for_raw, row, start, lane, mask, SIZE)


@triton.jit
def decoder_gradients(
    out_ptr,
    output_ptr,
    x0_ptr,
    noise_ptr,
    signal,
    sigma,
    seed,
    step,
    sample,
    row,
    first,
    root,
    d0,
    d1,
    half,
    minus_simple,
    each,
    SIZE: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
    LEARNED: tl.constexpr,
    DETACH: tl.constexpr,
):
    """Write the gradients of LENGTH elements at level 1."""
    lane = tl.arange(0, BLOCK)
    for offset in range(0, LENGTH, BLOCK):
        start = first + offset
        mask = lane < SIZE - start
        error, raw = _error_and_raw(
            output_ptr, x0_ptr, noise_ptr, signal, sigma, seed, step, sample, row, start,
            lane, mask, SIZE, BLOCK, PREDICTION, False,
        )  # fmt: skip
        x0 = tl.load(x0_ptr + (row * SIZE + start + lane), mask=mask, other=0.0).to(tl.float32)
        _, by_error, by_raw = _decoder(error, raw, x0, root, d0, d1, half, LEARNED)
        for_pred = minus_simple * error
        if not DETACH:
            for_pred = tl.fma(each * -1.0, by_error, for_pred)
        _store(out_ptr, for_pred, each * by_raw, row, start, lane, mask, SIZE)


@triton.jit
def _store(out_ptr, for_pred, for_raw, row, start, lane, mask, SIZE: tl.constexpr):
    """Write the gradients of the prediction and of raw, rounded once."""
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    of_sample = out_ptr + (row * (2 * SIZE) + start + lane)
    tl.store(of_sample, for_pred.to(dtype), mask=mask)
    tl.store(of_sample + SIZE, for_raw.to(dtype), mask=mask)
