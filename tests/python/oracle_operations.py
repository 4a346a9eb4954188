"""The operations of docs/canonical.md in numpy integers, written from that page alone.

Every operation takes a row for each of several positions. Values are int64: the page keeps products below
2^62; what may exceed that (the sum of squares) is summed in Python's integers. Sums of 8-bit products go
through floating-point matrix products of numbers small enough for every partial sum to be exact. A bound
that the page marks ‡ is reported to `bounds`, which remembers which rows broke it.
"""
import math

import numpy

LIMIT = 1 << 31
BLOCK = 64
QUERY_CHUNK = 256
# Columns for which sums of products of numbers up to 127 stay below 2^24, where binary32 is exact.
EXACT_COLUMNS = (1 << 24) // (127 * 127)


class Bounds:
    """Which rows broke a bound, and which one first."""

    def __init__(self, rows):
        self.broken = [None] * rows

    def require(self, holds, what):
        holds = numpy.asarray(holds)
        holds = holds.reshape(len(self.broken), -1).all(axis=1)
        for row in numpy.flatnonzero(~holds):
            if self.broken[row] is None:
                self.broken[row] = what

    def require_below_limit(self, values, what):
        self.require(numpy.abs(values) < LIMIT, what)

    def rows(self):
        return [row for row, what in enumerate(self.broken) if what is not None]


def round_shift(value, shift):
    """RS: rounds half up; a shift of 0 leaves the value."""
    shift = numpy.asarray(shift, numpy.int64)
    return (value + ((numpy.int64(1) << shift) >> 1)) >> shift


def bit_length(value):
    """Of non-negative numbers below 2^53, which binary64 holds exactly."""
    assert (value >= 0).all() and (value < 1 << 53).all()
    return numpy.frexp(value.astype(numpy.float64))[1].astype(numpy.int64)


def hadamard(x, block):
    """The unnormalised Hadamard transform in Sylvester order of each block of the last axis."""
    shape = x.shape
    span = 1
    while span < block:
        pairs = x.reshape(-1, 2, span)
        x = numpy.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
        span *= 2
    return x.reshape(shape)


def sums_of_squares(x):
    """Of the last axis, exact, as an object array of Python's integers."""
    squares = x * x
    high = (squares >> 32).sum(axis=-1).astype(object)
    low = (squares & 0xFFFFFFFF).sum(axis=-1).astype(object)
    return high * (1 << 32) + low


def roots(x, eps, bounds):
    """r = isqrt(ss + eps) of the last axis; 1 where ss + eps is out of bounds."""
    sums = sums_of_squares(x) + eps
    bounds.require((sums < 1 << 62).astype(bool), "ss")
    return numpy.vectorize(lambda value: math.isqrt(value) if value < 1 << 62 else 1, otypes=[numpy.int64])(sums)


def quantize(x, exponents, block):
    """q, m and T of the last axis."""
    a = x << exponents
    largest = numpy.abs(a).max(axis=-1)
    shift = numpy.maximum(0, bit_length(largest) + (block.bit_length() - 1) - 30)
    h = hadamard(round_shift(a, shift[..., None]), block)
    m = numpy.abs(h).max(axis=-1)
    assert (m <= 1 << 30).all()
    length = bit_length(m)
    factor = (numpy.int64(127) << (length + 16)) // numpy.maximum(m, 1)
    q = round_shift(h * factor[..., None], (length + 16)[..., None])
    q = numpy.where(m[..., None] == 0, 0, q)
    assert (numpy.abs(q) <= 127).all()
    return q, m, shift


def quant(x, block):
    q, m, shift = quantize(x, 0, block)
    return q, m << shift


def norm_quant(x, exponents, block, c, eps, bounds):
    r = roots(x, eps, bounds)
    q, m, shift = quantize(x, exponents, block)
    scales = numpy.zeros(len(x), numpy.int64)
    for row in range(len(x)):
        quotient = (int(m[row]) << 31) // int(r[row])
        power = int(shift[row]) + c - 31
        scale = quotient << power if power >= 0 else quotient >> -power
        scales[row] = min(scale, 1 << 62)  # linear refuses anything near that
    return q, scales


def products(q, weights):
    """acc: the sums of the products of q [rows, n] and weights [outputs, n], each element within ±127."""
    total = numpy.zeros((len(q), len(weights)), numpy.int64)
    for start in range(0, q.shape[1], EXACT_COLUMNS):
        part = slice(start, start + EXACT_COLUMNS)
        total += (q[:, part].astype(numpy.float32) @ weights[:, part].astype(numpy.float32).T).astype(numpy.int64)
    return total


def linear(q, s, weights, multipliers, k1, k2, bias, bounds):
    assert 0 <= k1 <= 30
    holds = s < 1 << (15 + k1)
    bounds.require(holds, "s")
    s = numpy.where(holds, s, 0)
    scale = round_shift(s[:, None] * multipliers.astype(numpy.int64)[None, :], k1)
    y = round_shift(products(q, weights) * scale, k2)
    if bias is not None:
        y += bias
    bounds.require_below_limit(y, "y")
    return y


def norm(x, gain, eps, k, bounds):
    """Of x [rows, runs, n]."""
    inverse = (numpy.int64(1) << 46) // roots(x, eps, bounds)
    unit = round_shift(x * inverse[..., None], 22)
    y = round_shift(unit * gain.astype(numpy.int64), k)
    bounds.require_below_limit(y, "y")
    return y


def rope(x, positions, turns, half, cosine_table, bounds):
    """Of x [rows, heads, head size]; turns [rotary / 2] uint64."""
    rotary = 2 * len(turns)
    turned = positions.astype(numpy.uint64)[:, None] * turns.astype(numpy.uint64)[None, :]  # modulo 2^64
    index = ((turned + numpy.uint64(1 << 47)) >> numpy.uint64(48)).astype(numpy.int64)
    cosine = cosine_table.astype(numpy.int64)[index][:, None, :]
    sine = cosine_table.astype(numpy.int64)[(index - (1 << 14)) % (1 << 16)][:, None, :]
    first, second = ((slice(0, rotary // 2), slice(rotary // 2, rotary)) if half
                     else (slice(0, rotary, 2), slice(1, rotary, 2)))
    a, b = x[..., first], x[..., second]
    y = x.copy()
    y[..., first] = round_shift(a * cosine - b * sine, 14)
    y[..., second] = round_shift(a * sine + b * cosine, 14)
    bounds.require_below_limit(y, "y")
    return y


def head_quant(x, block, bounds):
    q, s = quant(x, block)
    bounds.require(s < LIMIT, "s")
    return q, numpy.where(s < LIMIT, s, 0)


def key_quant(x, block, c, bounds):
    q, s = head_quant(x, block, bounds)
    return q, round_shift(s * c, 16)


def value_quant(x, bounds):
    largest = numpy.abs(x).max(axis=-1)
    shift = numpy.zeros(largest.shape, numpy.int64)
    while (too_large := largest > numpy.int64(127) << shift).any():
        shift += too_large
    bounds.require(shift <= 24, "k_v")
    return round_shift(x, shift[..., None]), shift


def exponential(mantissas, distance):
    """EXPn[D], from its table of 1,024 and a shift; n octaves shift all n bits out."""
    return mantissas[distance & 1023] >> numpy.minimum(distance >> 10, 62)


def capped(table, x):
    """The softcap by table: linear between entries, constant outside ±2^19."""
    shifted = numpy.clip(x, -(1 << 19), 1 << 19) + (1 << 19)
    index, fraction = shifted >> 10, shifted & 1023
    return table[index] + round_shift((table[numpy.minimum(index + 1, 1024)] - table[index]) * fraction, 10)


def attend(queries, keys, a2, window, table, mantissas, bounds):
    """queries: (q8 [rows, heads, size], s_q [rows, heads], first position); keys: (k8, t_k, v8, k_v, first
    position), each [rows, kv heads, ...]. mantissas: those of EXP15 and EXP31."""
    q8, s_q, query_first = queries
    parts = []
    for start in range(0, len(q8), QUERY_CHUNK):
        rows = slice(start, start + QUERY_CHUNK)
        parts.append(attend_chunk((q8[rows], s_q[rows], query_first + start), keys, a2, window, table, mantissas,
                                  bounds, start))
    return numpy.concatenate(parts)


def attend_chunk(queries, keys, a2, window, table, mantissas, bounds, chunk_start):
    q8, s_q, query_first = queries
    k8, t_k, v8, k_v, key_first = keys
    count, heads, size = q8.shape
    kv_heads = k8.shape[1]
    # Keys in whole aligned blocks: what is missing in front and at the end is never visible.
    front = key_first % BLOCK
    k8, t_k, v8, k_v = (pad(x, front) for x in (k8, t_k, v8, k_v))
    key_positions = key_first - front + numpy.arange(len(k8))
    positions = query_first + numpy.arange(count)
    distance = positions[:, None] - key_positions[None, :]
    visible = (distance >= 0) & (key_positions >= key_first)[None, :]
    if window is not None:
        visible &= distance < window
    assert visible.any(axis=1).all()
    result = numpy.zeros((count, heads, size), numpy.int64)
    inside = numpy.ones((len(bounds.broken), 2), bool)  # by row: z, o
    own = slice(chunk_start, chunk_start + count)
    for head in range(heads):
        kv = head * kv_heads // heads
        acc = (q8[:, head].astype(numpy.float64) @ k8[:, kv].astype(numpy.float64).T).astype(numpy.int64)
        z = round_shift(round_shift(acc * s_q[:, head, None], 22) * t_k[None, :, kv], a2)
        inside[own, 0] &= ((numpy.abs(z) < LIMIT) | ~visible).all(axis=1)
        z = numpy.where(numpy.abs(z) < LIMIT, z, 0)
        if table is not None:
            z = capped(table, z)
        o = weighted(z, visible, v8[:, kv], k_v[:, kv], mantissas)
        inside[own, 1] &= (numpy.abs(o) < LIMIT).all(axis=1)
        result[:, head] = o
    bounds.require(inside[:, 0], "z")
    bounds.require(inside[:, 1], "o")
    return result


def pad(x, front):
    back = -(front + len(x)) % BLOCK
    return numpy.pad(x, [(front, back)] + [(0, 0)] * (x.ndim - 1))


def weighted(z, visible, v8, k_v, mantissas):
    """One head's result from its scores z [rows, keys]: first within blocks, then over them."""
    exp15, exp31 = mantissas
    rows, blocks = len(z), z.shape[1] // BLOCK
    z, visible = (x.reshape(rows, blocks, BLOCK) for x in (z, visible))
    k_v = numpy.broadcast_to(k_v.reshape(1, blocks, BLOCK), visible.shape)
    seen = visible.any(axis=2)
    block_z = numpy.where(visible, z, -LIMIT).max(axis=2)
    block_k = numpy.where(visible, k_v, 0).max(axis=2)
    e = numpy.where(visible, exponential(exp15, numpy.where(visible, block_z[..., None] - z, 0)), 0)
    w = numpy.where(visible, e >> numpy.where(visible, block_k[..., None] - k_v, 0), 0)
    block_s = e.sum(axis=2)
    values = v8.reshape(blocks, BLOCK, -1).astype(numpy.float64)
    block_o = (w.transpose(1, 0, 2).astype(numpy.float64) @ values).astype(numpy.int64).transpose(1, 0, 2)
    # Blocks out of sight hold zeros, which any factor leaves zeros.
    top_z, top_k = block_z.max(axis=1), block_k.max(axis=1)
    f = exponential(exp31, numpy.where(seen, top_z[:, None] - block_z, 0))
    s = round_shift(block_s * f, 15).sum(axis=1)
    b = round_shift(block_o * f[..., None], (15 + top_k[:, None] - block_k)[..., None]).sum(axis=1)
    d = numpy.maximum(0, bit_length(s) - 32)
    reciprocal = (numpy.int64(1) << 55) // (s >> d)
    return round_shift(round_shift(b, d[:, None]) * reciprocal[:, None], (53 - top_k)[:, None])


def gate(g, u, table, fraction_bits, k, bounds):
    """u None: ungated."""
    t = round_shift(g, fraction_bits - 16) if fraction_bits >= 16 else g << (16 - fraction_bits)
    bounds.require_below_limit(t, "t")
    shifted = numpy.clip(t, -(1 << 20), (1 << 20) - 1) + (1 << 20)
    index, fraction = shifted >> 11, shifted & 2047
    a = table[index] + round_shift((table[index + 1] - table[index]) * fraction, 11)
    a = numpy.where(t >= 1 << 20, t, numpy.where(t < -(1 << 20), 0, a))
    if u is None:
        return a
    a = numpy.where(numpy.abs(t) < LIMIT, a, 0)
    y = round_shift(a * u, k)
    bounds.require_below_limit(y, "y")
    return y


def add(x, y, bounds):
    bounds.require_below_limit(x + y, "x + y")
    return x + y
