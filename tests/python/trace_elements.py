"""docs/dispute-trace.md, "Arrays and elements": what an element follows to be, with its operands read from an opening
(trace_referee.Opening). Whole integers throughout; written from the page, not from Bulla's code."""
import hashlib
import math
import struct

from trace_layout import (A, BIAS, CHUNK, E, E8, Fails, G, LINEAR_CHUNK, M, ME, Range, TURN, Unproved, View, W, chunks,
                          result_arrays)

MILLION, SCALE, W_MOST, NOT_ALLOWED = 10 ** 6, 1477319722, (1 << 24) - 1, -(1 << 32)


# Arithmetic of docs/canonical.md.

def rs(a, k):
    return (a + (1 << k - 1)) >> k if k else a


def fits(value):
    if not -(1 << 31) < value < 1 << 31:
        raise Range
    return value


def bounded(value, low, high):
    """low <= value < high"""
    if not low <= value < high:
        raise Unproved("an operand")
    return value


def half_up(numerator, denominator):
    return (2 * numerator + denominator) // (2 * denominator)


def exponential(opening, table, bits, D):
    if D >> 10 >= bits:
        return 0
    return opening.tensor(table, D & 1023) >> (D >> 10)


def interpolated(opening, A_, i, f, bits):
    low, high = opening.tensor(A_, i, 2)
    return low + rs((high - low) * f, bits)


def softcapped(opening, A_, z):
    if z < -(1 << 19):
        return opening.tensor(A_, 0)
    if z >= 1 << 19:
        return opening.tensor(A_, 1024)
    return interpolated(opening, A_, z + (1 << 19) >> 10, z + (1 << 19) & 1023, 10)


def sign(row, j):
    return -1 if bin(row & j).count("1") & 1 else 1


def square_sum(start, values):
    for value in values:
        start += value * value
        if start >= 1 << 62:
            raise Range
    return start


def root_of_norm(o, ss):
    if bounded(ss, 0, 1 << 62) + o.eps >= 1 << 62:
        raise Range
    return math.isqrt(ss + o.eps)


# Elements, a function a kind: (opening, operation, array's name, index) -> value.

class Quantise:
    def __init__(self, r, o):
        self.r, self.o = r, o
        self.size = o.head_size if o.heads else o.n
        self.chunks = chunks(self.size)

    def scaled(self, first, count):
        x = self.r.input(0, first, count)
        e = self.r.tensor(self.o.tensors[E], first, count) if self.o.kind_name == "norm_quant" else [0] * count
        return [v << (k & 15) for v, k in zip(x, e)]

    def total(self, array, segment, high):
        return bounded(self.r.array(array, (segment + 1) * self.chunks - 1), 0, high)

    def largest(self, segment):
        return self.total(0, segment, 1 << 47)

    def shift(self, largest):
        return max(0, largest.bit_length() + self.o.block.bit_length() - 1 - 30)

    def fold(self, name, index):
        segment, c = divmod(index, self.chunks)
        first, count = segment * self.size + c * CHUNK, min(CHUNK, self.size - c * CHUNK)
        array = {"A": 0, "m": 3, "ss": 4}[name]
        before = self.r.array(array, index - 1) if c else 0
        if name == "ss":
            return square_sum(bounded(before, 0, 1 << 62), self.r.input(0, first, count))
        values = self.scaled(first, count) if name == "A" else self.r.array(2, first, count)
        return max([bounded(before, 0, 1 << 47 if name == "A" else (1 << 31) + 1)] + [abs(v) for v in values])

    def first_stage(self, first, count, row):
        T = self.shift(self.largest(first // self.size))
        return sum(sign(row, j) * rs(a, T) for j, a in enumerate(self.scaled(first, count)))

    def turned(self, name, index):
        b = self.o.block
        base, i = index // b * b, index % b
        if name == "H1":
            l, u = divmod(i, b // 64)
            return self.first_stage(base + 64 * u, 64, l)
        if b <= 64:
            return self.first_stage(base, b, i)
        u, l = divmod(i, 64)
        values = self.r.array(1, base + l * (b // 64), b // 64)
        return sum(sign(u, j) * v for j, v in enumerate(values))

    def quantised(self, index):
        m, h = self.total(3, index // self.size, (1 << 31) + 1), self.r.array(2, index)
        if m == 0:
            return 0
        l = m.bit_length()
        return (h * ((127 << l + 16) // m) + (1 << l + 15)) >> l + 16

    def scale(self, segment):
        m = self.total(3, segment, (1 << 31) + 1)
        T = self.shift(self.largest(segment))
        kind = self.o.kind_name
        if kind == "norm_quant":
            r = root_of_norm(self.o, self.r.array(4, (segment + 1) * self.chunks - 1))
            ratio, shift = (m << 31) // r, T + self.o.c - 31
            return min(1 << 62, ratio << shift) if shift >= 0 else 0 if shift <= -64 else ratio >> -shift
        s = m << T
        if kind == "quant":
            return s
        return rs(fits(s) * self.o.C, 16) if kind == "key_quant" else fits(s)

    def element(self, name, index):
        if name in ("A", "m", "ss"):
            return self.fold(name, index)
        if name in ("H1", "h"):
            return self.turned(name, index)
        return self.quantised(index) if name == "q" else self.scale(index)


def value_quant(r, o, name, index):
    if name == "v8":
        k = bounded(r.array(0, index // o.head_size), 0, 25)
        return rs(r.input(0, index), k)
    largest = max(abs(v) for v in r.input(0, index * o.head_size, o.head_size))
    k = next((k for k in range(25) if largest <= 127 << k), None)
    if k is None:
        raise Range
    return k


def norm(r, o, name, index):
    size = o.head_size
    if name == "ss":
        head, c = divmod(index, chunks(size))
        before = bounded(r.array(0, index - 1), 0, 1 << 62) if c else 0
        return square_sum(before, r.input(0, head * size + c * CHUNK, min(CHUNK, size - c * CHUNK)))
    ss, x = r.array(0, (index // size + 1) * chunks(size) - 1), r.input(0, index)
    gain = r.tensor(o.tensors[G], index % size)
    root = root_of_norm(o, ss)
    bounded(x, -root, root + 1)
    return fits(rs(rs(x * ((1 << 46) // root), 22) * gain, o.k))


def linear(r, o, name, index):
    c = chunks(o.n, LINEAR_CHUNK)
    if name == "acc":
        row, chunk = divmod(index, c)
        first, count = chunk * LINEAR_CHUNK, min(LINEAR_CHUNK, o.n - chunk * LINEAR_CHUNK)
        before = r.array(0, index - 1) if chunk else 0
        weights, q = r.tensor(o.tensors[W], row * o.n + first, count), r.input(0, first, count)
        return before + sum(a * b for a, b in zip(weights, q))
    acc, s = r.array(0, (index + 1) * c - 1), bounded(r.input(0, 0, scale=True), 0, (1 << 62) + 1)
    factor = r.tensor(o.tensors[M], index)
    bias = r.tensor(o.tensors[BIAS], index) if o.tensors[BIAS] >= 0 else 0
    if s >= 1 << 15 + o.k1:
        raise Range
    return fits(rs(acc * rs(s * factor, o.k1), o.k2) + bias)


def embed(r, o, name, index):
    token = r.answer.tokens[r.position]
    weight = r.tensor(o.tensors[E8], token * o.outputs + index)
    return rs(weight * r.tensor(o.tensors[ME], token), o.ke)


def rope(r, o, name, index):
    head, d = index // o.head_size * o.head_size, index % o.head_size
    if d >= o.rotary:
        return r.input(0, index)
    half = o.rotary // 2
    i = d % half if o.flags & 1 else d // 2
    first, second = (i, i + half) if o.flags & 1 else (2 * i, 2 * i + 1)
    a, b = r.input(0, head + first), r.input(0, head + second)
    turn = r.tensor(o.tensors[TURN], i)
    n = ((r.position * turn + (1 << 47)) % (1 << 64)) >> 48
    c, s = r.tensor(3, n), r.tensor(3, (n - (1 << 14)) % (1 << 16))
    return fits(rs(a * c - b * s if d == first else a * s + b * c, 14))


def gate(r, o, name, index):
    g = r.input(0, index)
    u = r.input(1, index) if o.flags & 2 else None
    t = fits(rs(g, o.F_g - 16) if o.F_g >= 16 else g << 16 - o.F_g)
    edge = 1 << 20
    a = t if t >= edge else 0 if t < -edge else interpolated(r, o.tensors[A], t + edge >> 11, t + edge & 2047, 11)
    return fits(a if u is None else rs(a * u, o.k))


def add(r, o, name, index):
    return fits(r.input(0, index) + r.input(1, index))


def softcap(r, o, name, index):
    return softcapped(r, o.tensors[A], r.input(0, index))


class Attend:
    def __init__(self, r, o):
        self.r, self.o, self.v = r, o, View(o, r.position)
        self.chunks = chunks(self.v.blocks)

    def kv_head(self, head):
        return head * self.o.kv_heads // self.o.heads

    def slot(self, name, index):
        row, slot = divmod(index, self.v.slots)
        p, size, r = self.v.start + slot, self.o.head_size, self.r
        if not self.v.first <= p <= self.v.last:
            return 0
        if name == "kv":
            return r.input(2, row, position=p, scale=True)
        if name == "vt":
            return r.input(2, row, position=p)
        if name == "e":
            Z, z = r.array(3, index // 64), r.array(0, index)
            return exponential(r, 0, 15, bounded(Z - z, 0, 1 << 40))
        q8, s_q = r.input(0, row * size, size), r.input(0, row, scale=True)
        kv = self.kv_head(row)
        k8, t_k = r.input(1, kv * size, size, position=p), r.input(1, kv, position=p, scale=True)
        z = fits(rs(rs(sum(a * b for a, b in zip(q8, k8)) * s_q, 22) * t_k, self.o.a2))
        return z if self.o.tensors[A] < 0 else softcapped(r, self.o.tensors[A], z)

    def block(self, name, index):
        row, j = divmod(index, self.v.blocks)
        if name == "S":
            return sum(self.r.array(5, index * 64, 64))
        begin = max(64 * j, self.v.first - self.v.start)
        end = min(64 * j + 64, self.v.last + 1 - self.v.start)
        return max(self.r.array(0 if name == "Z" else 1, row * self.v.slots + begin, end - begin))

    def weighted(self, index):
        row, j = divmod(index, self.v.blocks)
        head, i = divmod(row, self.o.head_size)
        kv, blocks, r = self.kv_head(head), self.v.blocks, self.r
        K = r.array(4, kv * blocks + j)
        e = r.array(5, (head * blocks + j) * 64, 64)
        k_v = r.array(1, (kv * blocks + j) * 64, 64)
        v8 = r.array(2, ((kv * self.o.head_size + i) * blocks + j) * 64, 64)
        return sum((a >> bounded(K - k, 0, 32)) * v for a, k, v in zip(e, k_v, v8) if a)

    def total(self, array, row):
        return self.r.array(array, (row + 1) * self.chunks - 1)

    def fold(self, name, index):
        row, c = divmod(index, self.chunks)
        r, blocks = self.r, self.v.blocks
        first, count = c * CHUNK, min(CHUNK, blocks - c * CHUNK)
        own, source = {"Zall": (8, 3), "Kall": (9, 4), "Sall": (11, 6), "B": (12, 7)}[name]
        before = r.array(own, index - 1) if c else None
        if name in ("Zall", "Kall"):
            return max(r.array(source, row * blocks + first, count) + ([] if before is None else [before]) +
                       ([0] if name == "Kall" else []))
        before = bounded(before or 0, 0 if name == "Sall" else 1 - (1 << 62), 1 << 62)
        if name == "Sall":
            S = r.array(source, row * blocks + first, count)
            f = r.array(10, row * blocks + first, count)
            return before + sum(rs(a * b, 15) for a, b in zip(S, f))
        head = row // self.o.head_size
        kv = self.kv_head(head)
        K = self.total(9, kv)
        O = r.array(source, row * blocks + first, count)
        f = r.array(10, head * blocks + first, count)
        k = r.array(4, kv * blocks + first, count)
        return before + sum(rs(a * b, 15 + bounded(K - c, 0, 32)) for a, b, c in zip(O, f, k))

    def result(self, index):
        head = index // self.o.head_size
        S = bounded(self.total(11, head), 1, 1 << 62)
        B = bounded(self.total(12, index), 1 - (1 << 62), 1 << 62)
        K = bounded(self.total(9, self.kv_head(head)), 0, 25)
        d = max(0, S.bit_length() - 32)
        R = (1 << 55) // (S >> d)
        limit = ((1 << 63) - 1 - (1 << 60)) // R
        return fits(rs(bounded(rs(B, d), -limit, limit + 1) * R, 53 - K))

    def element(self, name, index):
        if name in ("z", "kv", "vt", "e"):
            return self.slot(name, index)
        if name in ("Z", "K", "S"):
            return self.block(name, index)
        if name == "f":
            Z, Z_j = self.total(8, index // self.v.blocks), self.r.array(3, index)
            return exponential(self.r, 2, 31, bounded(Z - Z_j, 0, 1 << 40))
        if name == "O":
            return self.weighted(index)
        return self.result(index) if name == "o" else self.fold(name, index)


class Sampling:
    def __init__(self, r):
        self.r, self.s, self.answer = r, r.answer.sampling, r.answer
        self.V, self.F = r.program.vocabulary, r.program.logits_F
        self.chunks = chunks(self.V)

    def units(self, millionths):
        return half_up(millionths << self.F, MILLION)

    def adjusted(self, token):
        r, s, answer = self.r, self.s, self.answer
        last = r.operation - 1
        logit = r.result(last, result_arrays(r.program.operations[last])[0], r.position, token, 1)[0]
        if answer.allowed is not None and not r.allowed_byte(token // 8) >> (token & 7) & 1:
            return NOT_ALLOWED
        logit += sum(self.units(bias) for number, bias in s["biases"] if number == token)
        generated = answer.tokens[answer.prompt:r.position + 1].count(token)
        if s["repetition"] != MILLION and (generated or token in answer.tokens[:answer.prompt]):
            logit = half_up(logit * MILLION, s["repetition"]) if logit > 0 else half_up(logit * s["repetition"], MILLION)
        if generated:
            logit -= self.units(s["presence"])
        return fits(logit - self.units(s["frequency"] * generated))

    def total(self, array, high=1 << 62):
        return bounded(self.r.array(array, self.chunks - 1), 0, high)

    def largest(self):
        return bounded(self.r.array(1, self.chunks - 1), NOT_ALLOWED, 1 << 31)

    def chunk(self, array, c):
        return self.r.array(array, c * CHUNK, min(CHUNK, self.V - c * CHUNK))

    def cut(self, array):
        return [bounded(value, 0, 1 << 62) for value in self.r.array(array, 0, 2)]

    def weights(self, c):
        return [bounded(w, 0, W_MOST + 1) for w in self.chunk(3, c)]

    def least(self, c):
        largest = self.largest()
        before = self.r.array(2, c - 1) if c else self.V
        if before != self.V:
            return before
        return next((c * CHUNK + i for i, a in enumerate(self.chunk(0, c)) if a == largest), self.V)

    def weight(self, token):
        a, largest = bounded(self.r.array(0, token), NOT_ALLOWED, 1 << 31), self.largest()
        if a == NOT_ALLOWED:
            return 0
        D = bounded(largest - a, 0, 1 << 32) * SCALE // (self.s["temperature"] << self.F)
        return exponential(self.r, 1, 24, D)

    def fold(self, name, c):
        array = {"above1": 5, "equal1": 6, "below1": 7, "sum1": 8, "equal2": 11, "sum2": 12}[name]
        weight, _ = self.cut(4 if name.endswith("1") else 10)
        before = bounded(self.r.array(array, c - 1), 0, 1 << 62) if c else 0
        w = self.weights(c)
        return before + {"above": sum(x > weight for x in w), "equal": sum(x == weight for x in w),
                         "below": sum(0 < x < weight for x in w), "sum": sum(x for x in w if x > weight)}[name[:-1]]

    def check_top_k(self):
        weight, ties = self.cut(4)
        above, equal, below = self.total(5), self.total(6), self.total(7)
        K = self.s["top_k"] or self.V
        return weight >= 1 and 1 <= ties <= equal and (above + ties == K or
                                                        (above + ties < K and ties == equal and below == 0))

    def check_top_p(self):
        c1, n1 = self.cut(4)
        sum1 = self.total(8)
        c2, n2 = self.cut(10)
        equal, sum2 = self.total(11), self.total(12)
        needed = max(1, -(-self.s["top_p"] * (sum1 + n1 * c1) // MILLION))
        within = c2 > c1 or (c2 == c1 and n2 <= n1)
        return within and 1 <= n2 <= equal and sum2 + n2 * c2 >= needed > sum2 + (n2 - 1) * c2

    def kept(self, c):
        """The sum before a chunk, and its kept weights."""
        weight, ties = self.cut(10)
        equal = bounded(self.r.array(11, c - 1), 0, 1 << 62) if c else 0
        run = bounded(self.r.array(14, c - 1), 0, 1 << 62) if c else 0
        kept = []
        for w in self.weights(c):
            is_kept = w * MILLION >= self.s["min_p"] * W_MOST and (w > weight or (w == weight and equal < ties))
            kept.append(w if is_kept else 0)
            equal += w == weight
        return run, kept

    def check_token(self):
        token = self.answer.tokens[self.r.position + 1]
        if self.s["temperature"] == 0:
            largest = self.largest()
            return self.r.array(2, self.chunks - 1) == token and largest > NOT_ALLOWED
        total = self.total(14)
        run, kept = self.kept(token // CHUNK)
        message = b"bulla-sample" + struct.pack("<QQ", self.s["seed"], self.r.position + 1)
        draw = int.from_bytes(hashlib.sha256(message).digest()[:8], "little") * total >> 64
        run += sum(kept[:token % CHUNK])
        return kept[token % CHUNK] > 0 and run <= draw < run + kept[token % CHUNK]

    def element(self, name, index):
        if name in ("check1", "check2", "token"):
            if not {"check1": self.check_top_k, "check2": self.check_top_p, "token": self.check_token}[name]():
                raise Fails
            return 1
        if name == "max":
            before = [self.r.array(1, index - 1)] if index else []
            return max(before + self.chunk(0, index))
        if name == "run":
            run, kept = self.kept(index)
            return run + sum(kept)
        if name in ("a", "least", "w"):
            return {"a": self.adjusted, "least": self.least, "w": self.weight}[name](index)
        return self.fold(name, index)


FUNCTIONS = {"value_quant": value_quant, "norm": norm, "linear": linear, "embed": embed, "rope": rope, "gate": gate, "add": add,
             "softcap": softcap}


def element(opening, name, index):
    if opening.operation == len(opening.program.operations):
        return Sampling(opening).element(name, index)
    o = opening.program.operations[opening.operation]
    if o.kind_name == "attend":
        return Attend(opening, o).element(name, index)
    if o.kind_name in FUNCTIONS:
        return FUNCTIONS[o.kind_name](opening, o, name, index)
    return Quantise(opening, o).element(name, index)
