"""Counter-based random numbers: Philox4x32-10 and a polynomial Box-Muller transform.

Every number is a function of (seed, step, sample, stream, index) and of nothing else: not of the
batch it is drawn in, nor of the block, thread or device that draws it. Element i of a sample is
lane i % 4 of the Philox block at the counter

    (i // 4,  sample mod 2**32,  step,  stream + 2**8 * (sample // 2**32))

under the key (seed mod 2**32, seed // 2**32). On a CPU numba draws where it is installed
(`ddpm.kernels.cpu.philox`), otherwise and elsewhere the torch operations below; both give the same
bits. Words are held in int64, which keeps the 64-bit products of Philox exact. The normals use
float32 multiplications, additions and square roots only, each its own torch operation, so that no
compiler can fuse two of them for some elements and not for others.
"""

from collections.abc import Iterator
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from ddpm.kernels import checks, compiled

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_BUMPS = (0x9E3779B9, 0xBB67AE85)
WORD_MASK = 0xFFFFFFFF

# Minimax fits, ascending powers. With f = m - 1 in [sqrt(1/2) - 1, sqrt(2) - 1]: -2 ln(1 + f) =
# f LOG(f). With h in [-1, 1] and y = h h: cos(pi h / 2) = c + c y COS(y) and
# sin(pi h / 2) = h + h c SIN(y) with c = 1 - y: what is added is small, and so are its errors.
LOG_COEFFICIENTS = (
    -1.9999994039535522,
    1.000011920928955,
    -0.666738748550415,
    0.4992465078830719,
    -0.3972344994544983,
    0.3459111452102661,
    -0.32939064502716064,
    0.20504188537597656,
)
COS_COEFFICIENTS = (
    -0.23370054364204407,
    0.01996883749961853,
    -0.0008939823019318283,
    2.3865297407610342e-05,
)
SIN_COEFFICIENTS = (
    0.5707963109016418,
    -0.0751672089099884,
    0.00452163303270936,
    -0.0001508895365986973,
)
SQRT_HALF_BITS = 0x3F3504F3
EXPONENT_MASK = -0x800000
# -2 ln 2 in two parts, scaled for an exponent that still sits in bits 23 and up. The first has 17
# significant bits, so that its products with all exponents -33..0 are exact.
EXPONENT_HIGH = -1.38629150390625 * 2.0**-23
EXPONENT_LOW = -2.8572136405724535e-06 * 2.0**-23

# Counters worked on at a time: three int64 pairs of this many counters stay in a 1 MiB cache, and
# one pair stays below the 2**15 elements from which torch starts threads for each operation.
_CACHE_BLOCK = 15 * 1024


def philox4x32(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 of Salmon et al. (2011), the bijection behind every draw.

    Args:
        counter: int64 [4, ...], the words c0..c3, each in 0..2**32 - 1.
        key: int64 [2], the words k0, k1, each in 0..2**32 - 1.

    Returns:
        int64 [4, ...], four words in 0..2**32 - 1 for every counter.
    """
    state = counter.reshape(4, -1)
    even, odd = _rounds(state[0::2].clone(), state[1::2].clone(), _key_schedule(key))
    return torch.stack((even[0], odd[0], even[1], odd[1])).view_as(counter)


def words(seed: Tensor, step: Tensor, sample: Tensor, stream: int, size: int) -> Tensor:
    """Random 32-bit words.

    Args:
        seed: int64 [], any value; negative seeds stand for their two's complement bits.
        step: int64 [] or [B], in 0..2**32 - 1.
        sample: int64 [B], global sample indices in 0..2**56 - 1.
        stream: tag of the use, 0..255 (see `ddpm.kernels.streams.Stream`).
        size: words per sample, 0..2**34.

    Returns:
        int64 [B, size], each in 0..2**32 - 1.

    Raises:
        ValueError: an argument is outside its range.
    """
    checks.check_counter(seed, step, sample, stream, size)
    lanes = sample.new_empty(sample.shape[0], -(-size // 4) * 4)
    loop = _compiled_for(lanes)
    if loop is None or not loop.words(seed, step, sample, stream, lanes):
        checks.check_counter_range(step, sample)
        _fill_words(seed, step, sample, stream, lanes)
    return lanes if lanes.shape[1] == size else lanes[:, :size].contiguous()


def normals(
    seed: Tensor,
    step: Tensor,
    sample: Tensor,
    stream: int,
    size: int,
    out: Tensor | None = None,
) -> Tensor:
    """Standard normal numbers by the Box-Muller transform of the words above.

    With (w_r, w_a) the words of lanes (0, 1) or (2, 3): u = w_r 2**-32 + 2**-33 in float32,
    theta = 2 pi w_a 2**-32, and the two lanes receive sqrt(-2 ln u) times cos and sin of theta.
    |z| reaches sqrt(66 ln 2) = 6.764. The error against exact arithmetic on the same words is below
    1e-6, and largest in the tails, where one unit in the last place is 4.8e-7.

    Args:
        seed: int64 [], any value.
        step: int64 [] or [B], in 0..2**32 - 1.
        sample: int64 [B], global sample indices in 0..2**56 - 1.
        stream: tag of the use, 0..255.
        size: numbers per sample, 0..2**34.
        out: float32 [B, size], contiguous, receives the numbers; for callers that work in blocks
            and use one buffer for all. None to allocate it.

    Returns:
        float32 [B, size], out where it is given.

    Raises:
        ValueError: an argument is outside its range, or out does not fit.
    """
    checks.check_counter(seed, step, sample, stream, size)
    batch, padded = sample.shape[0], -(-size // 4) * 4
    if out is not None:
        checks.check_dtype("out", out, (torch.float32,))
        checks.check_shape("out", out, (batch, size))
        checks.check_contiguous("out", out)
        checks.check_same_device(sample.device, out=out)
        checks.check_no_grad(out=out)
    lanes = out
    if lanes is None or padded != size:
        lanes = torch.empty(batch, padded, dtype=torch.float32, device=sample.device)
    loop = _compiled_for(lanes)
    if loop is None or not loop.normals(seed, step, sample, stream, lanes):
        checks.check_counter_range(step, sample)
        _fill_normals(seed, step, sample, stream, lanes)
    numbers = lanes if padded == size else lanes[:, :size]
    return numbers.contiguous() if out is None or padded == size else out.copy_(numbers)


@cache
def _compiled() -> ModuleType | None:
    """Give the generator compiled by numba, where numba is installed and not switched off."""
    if not compiled.available():
        return None
    from ddpm.kernels.cpu import philox

    return philox


def _compiled_for(lanes: Tensor) -> ModuleType | None:
    """Give the compiled generator for lanes on a CPU, but not while torch is tracing.

    It checks the place itself, at a tenth of the cost, and leaves the message to the torch path.
    """
    if lanes.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    return _compiled()


def _fill_words(seed: Tensor, step: Tensor, sample: Tensor, stream: int, lanes: Tensor) -> None:
    """Fill int64 [B, 4 n] by torch operations."""
    pairs = lanes.view(lanes.shape[0], lanes.shape[1] // 4, 2, 2)
    for rows, columns, even, odd in _blocks(seed, step, sample, stream, pairs.shape[1]):
        block = pairs[rows, columns].permute(2, 0, 1, 3)
        block[..., 0] = even
        block[..., 1] = odd


def _fill_normals(seed: Tensor, step: Tensor, sample: Tensor, stream: int, lanes: Tensor) -> None:
    """Fill float32 [B, 4 n] by torch operations."""
    pairs = lanes.view(lanes.shape[0], lanes.shape[1] // 4, 2, 2)
    for rows, columns, even, odd in _blocks(seed, step, sample, stream, pairs.shape[1]):
        box_muller(even, odd, pairs[rows, columns].permute(2, 0, 1, 3))


def box_muller(radius_word: Tensor, angle_word: Tensor, out: Tensor) -> Tensor:
    """Turn pairs of words into pairs of normal numbers.

    Args:
        radius_word: int64 [...], w_r in 0..2**32 - 1.
        angle_word: int64 [...], w_a in its low 32 bits; overwritten.
        out: float32 [..., 2], receives (r cos theta, r sin theta).

    Returns:
        out.
    """
    radius = _radius(radius_word.to(torch.float32).mul_(2.0**-32).add_(2.0**-33))
    # The top bit of w_a becomes a sign; the other 31 become the angle in quarter turns, -1..1.
    h = (angle_word << 32).to(torch.float32)
    torch.copysign(radius, h, out=radius)
    h.copy_(angle_word.bitwise_left_shift_(33)).mul_(2.0**-63)
    y = h * h
    c = 1.0 - y
    sine = _polynomial(y, SIN_COEFFICIENTS).mul_(c * h).add_(h)
    torch.mul(radius, sine, out=out[..., 1])
    cosine = _polynomial(y, COS_COEFFICIENTS, out=sine).mul_(y).mul_(c).add_(c)
    torch.mul(radius, cosine, out=out[..., 0])
    return out


def _radius(u: Tensor) -> Tensor:
    """Give sqrt(-2 ln u) for u in [2**-33, 1], float32, overwriting u."""
    bits = u.view(torch.int32)
    exponent = (bits - SQRT_HALF_BITS).bitwise_and_(EXPONENT_MASK)
    bits.sub_(exponent)
    f = u.sub_(1.0)
    log = _polynomial(f, LOG_COEFFICIENTS).mul_(f)
    scale = exponent.to(torch.float32)
    log.add_(scale * EXPONENT_LOW).add_(scale.mul_(EXPONENT_HIGH))
    # Some float32 square roots of torch (MKL's) are not correctly rounded; through float64 all are.
    return log.copy_(log.double().sqrt_())


def _polynomial(x: Tensor, coefficients: tuple[float, ...], out: Tensor | None = None) -> Tensor:
    """Evaluate by Horner's rule, one multiplication and one addition per degree."""
    value = torch.mul(x, coefficients[-1], out=out)
    for coefficient in coefficients[-2:0:-1]:
        value.add_(coefficient).mul_(x)
    return value.add_(coefficients[0])


def _rounds(even: Tensor, odd: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Ten rounds on words (c0, c2) and (c1, c3), both [2, ...]; both are overwritten.

    A round sends (c0, c2) to the high halves of the two products and (c1, c3) to the low ones,
    each crossed over. The crossing is left out and undone by the next round, so that after every
    odd number of rounds the pairs stand in the order (c2, c0) and (c3, c1).
    """
    shape = (2,) + (1,) * (even.ndim - 1)
    multipliers = torch.tensor(MULTIPLIERS, device=even.device).view(shape)
    crossed = multipliers.flip(0)
    even0, even1 = even.unbind()
    (odd0, odd1), product = odd.unbind(), torch.empty_like(even)
    product0, product1 = product.unbind()
    for number, key in enumerate(keys.view(ROUNDS, *shape).unbind()):
        torch.mul(even, crossed if number % 2 else multipliers, out=product)
        torch.bitwise_right_shift(product, 32, out=even)
        even0.bitwise_xor_(odd1)
        even1.bitwise_xor_(odd0)
        even.bitwise_xor_(key).bitwise_and_(WORD_MASK)
        # The low half keeps the product's upper bits: the next round's mask drops them.
        odd, odd0, odd1, product, product0, product1 = product, product0, product1, odd, odd0, odd1
    return even, odd.bitwise_and_(WORD_MASK)


def _key_schedule(key: Tensor) -> Tensor:
    """Key words of all rounds [10, 2], in the order in which `_rounds` meets them."""
    bumps = torch.tensor(KEY_BUMPS, device=key.device)
    keys = key + torch.arange(ROUNDS, device=key.device)[:, None] * bumps
    keys.bitwise_and_(WORD_MASK)
    keys[0::2] = keys[0::2].flip(1)
    return keys


def _blocks(
    seed: Tensor, step: Tensor, sample: Tensor, stream: int, quads: int
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Yield (rows, counters, words of lanes 0 and 2, words of lanes 1 and 3), pairs [2, r, c]."""
    batch = sample.shape[0]
    keys = _key_schedule(torch.stack((seed, seed >> 32)).bitwise_and_(WORD_MASK))
    block = _CACHE_BLOCK if sample.device.type == "cpu" else max(1, batch * quads)
    width = max(1, min(block, quads))
    height = max(1, block // width)
    step = step.expand(batch)
    for first in range(0, batch if quads else 0, height):
        rows = slice(first, min(first + height, batch))
        for left in range(0, quads, width):
            columns = slice(left, min(left + width, quads))
            counters = _counters(step[rows], sample[rows], stream, columns)
            even, odd = _rounds(*counters, keys)
            yield rows, columns, even, odd


def _counters(step: Tensor, sample: Tensor, stream: int, columns: slice) -> tuple[Tensor, Tensor]:
    """Counter words (c0, c2) and (c1, c3) of some samples, each [2, rows, counters]."""
    shape = (2, sample.shape[0], columns.stop - columns.start)
    even = torch.empty(shape, dtype=torch.int64, device=sample.device)
    odd = torch.empty_like(even)
    even[0] = torch.arange(columns.start, columns.stop, device=sample.device)
    even[1] = (step & WORD_MASK)[:, None]
    odd[0] = (sample & WORD_MASK)[:, None]
    odd[1] = ((sample >> 32) << 8 | stream)[:, None]
    return even, odd
