"""Fixed-point arithmetic of the integer programs, on numpy arrays of int64.

A value is a two's complement integer of a given width; its real value is integer / 2^scale. Results are
wrapped modulo 2^width, nothing saturates. Rescaling rounds down ("floor") or like a C division
("toward-zero"). `exp_neg`, `reciprocal`, `sigmoid` and `tanh` are the functions of the SIRNN paper
(arXiv 2105.04236) as its authors' library computes them; inside them every shift rounds down.
"""

from functools import lru_cache

import numpy as np

FLOOR, TOWARD_ZERO = "floor", "toward-zero"
ROUNDINGS = (FLOOR, TOWARD_ZERO)
DIGIT_BITS = 8  # width of one look-up index of exp


def wrap(v, bits):
    """The signed `bits`-wide value congruent to v modulo 2^bits."""
    half = np.int64(1) << np.int64(bits - 1)
    return ((v + half) & ((half << np.int64(1)) - 1)) - half


def rescale(v, shift, rounding):
    """R(v, shift): v / 2^shift, rounded as told."""
    if rounding == FLOOR:
        return v >> shift
    if rounding == TOWARD_ZERO:
        return np.where(v < 0, -((-v) >> shift), v >> shift)
    raise ValueError(f"unknown rounding {rounding!r}")


def fits(v, bits):
    """True if every element is a signed integer of that width."""
    v = np.asarray(v)
    return v.size == 0 or bool(v.min() >= -(1 << (bits - 1)) and v.max() < 1 << (bits - 1))


@lru_cache(maxsize=None)
def _exp_digit(digit, scale_in, scale_out):
    v = np.arange(1 << DIGIT_BITS, dtype=np.float64) * 2.0 ** (DIGIT_BITS * digit - scale_in)
    return np.trunc(np.exp(-v) * 2.0**scale_out).astype(np.int64)


def exp_neg(n, scale_in, scale_out, bits=16):
    """e^(-n) for 0 <= n < 2^bits."""
    factors = []
    for digit in range(-(-bits // DIGIT_BITS)):
        index = (n >> (DIGIT_BITS * digit)) & ((1 << DIGIT_BITS) - 1)
        factors.append(_exp_digit(digit, scale_in, scale_out)[index])
    while len(factors) > 1:
        pairs = [(a * b) >> scale_out for a, b in zip(factors[::2], factors[1::2])]
        factors = pairs + factors[len(factors) & ~1 :]
    return factors[0]


@lru_cache(maxsize=None)
def _reciprocal_tables(m):
    p = 1.0 + np.arange(1 << m) / 2.0**m
    z = p * (p + 2.0**-m)
    a0 = np.trunc(2.0 ** (m + 3) / z).astype(np.int64)
    a1 = np.trunc(2.0 ** (2 * m + 2) * (2.0 ** -(m + 1) + np.sqrt(z)) / z).astype(np.int64)
    return a0, a1


def reciprocal(den, scale):
    """1/den for den in [1, 2); `den` and the result have the same scale, of at most 18."""
    if not 2 < scale <= 18:
        raise ValueError(f"reciprocal: scale {scale} is outside 3..=18")
    m = -(-(scale - 2) // 2)
    a0, a1 = _reciprocal_tables(m)
    index = (den >> (scale - m)) - (1 << m)
    rest = den & ((1 << (scale - m)) - 1)
    return ((a1[index] << (scale + 1 - m)) - a0[index] * rest) >> (m + 3)


def _exp_and_reciprocal(n, scale_in, scale_out):
    one = 1 << scale_out
    e = exp_neg(n, scale_in, scale_out)
    den = one + e - (e == one)  # 1 + e^0 = 2 would leave the domain of the reciprocal
    return e, reciprocal(den, scale_out)


def sigmoid(x, scale_in, scale_out):
    """Logistic function of 16-bit integers."""
    e, inverse = _exp_and_reciprocal(np.abs(x), scale_in, scale_out)
    return np.where(x >= 0, inverse, (e * inverse) >> scale_out)


def tanh(x, scale_in, scale_out):
    """Hyperbolic tangent of 16-bit integers."""
    # e^(-2|x|): reading |x| with one fractional bit less doubles it.
    e, inverse = _exp_and_reciprocal(np.abs(x), scale_in - 1, scale_out)
    t = (((1 << scale_out) - e) * inverse) >> scale_out
    return np.where(x < 0, -t, t)
