"""docs/canonical.md once more, a position and a number at a time, in Python's integers: what the oracle's
vectorised operations are tested with on small programs. Nothing is computed before it is asked for, so the pairs
(operation, position) that it comes by are those that the page calls evaluated."""
import functools
import math
import sys

sys.setrecursionlimit(1000000)

LIMIT = 1 << 31
PRODUCT = 1 << 62


class Broken(Exception):
    """A bound marked ‡ does not hold."""


def within(value, limit=LIMIT):
    if abs(value) >= limit:
        raise Broken
    return value


def product(a, b):
    assert abs(a * b) < PRODUCT
    return a * b


def rs(a, k):
    return (a + (1 << k - 1)) >> k if k else a


def hadamard(x):
    if len(x) == 1:
        return x
    middle = len(x) // 2
    first, second = hadamard(x[:middle]), hadamard(x[middle:])
    return [a + b for a, b in zip(first, second)] + [a - b for a, b in zip(first, second)]


def quantize(x, e, b):
    a = [value << exponent for value, exponent in zip(x, e)]
    t = max(0, max(map(abs, a)).bit_length() + b.bit_length() - 1 - 30)
    a = [rs(value, t) for value in a]
    h = [value for start in range(0, len(a), b) for value in hadamard(a[start:start + b])]
    m = max(map(abs, h))
    if m == 0:
        return [0] * len(x), 0, t
    l = m.bit_length()
    r = 127 * (1 << l + 16) // m
    return [(product(value, r) + (1 << l + 15)) >> (l + 16) for value in h], m, t


def root(x, eps):
    return math.isqrt(within(sum(value * value for value in x) + eps, 1 << 62))


class Plain:
    """The evaluation of one token sequence, position by position as asked."""

    def __init__(self, model, tokens):
        self.model, self.tokens = model, [int(token) for token in tokens]
        self.operations = {operation["index"]: operation for operation in model.operations}
        self.values, self.broken = {}, []
        self.exp15, self.exp24, self.exp31 = (table.tolist() for table in model.mantissas)

    def logits(self, position):
        """None where something on the way is broken."""
        return self.value(self.model.operations[-1]["index"], position)

    def range(self):
        return min(self.broken)[:2] if self.broken else None

    def value(self, index, position):
        """An operation's result at a position; None where it, or what it needs, breaks a bound."""
        if (index, position) not in self.values:
            operation = self.operations[index]
            try:
                result = getattr(self, operation["kind"])(operation, position)
            except Broken:
                self.broken.append((position, index))
                result = None
            self.values[index, position] = result
        return self.values[index, position]

    @functools.lru_cache(maxsize=None)
    def listed(self, name):
        return self.model.tensor(name).ravel().tolist()

    def tensor(self, operation, name):
        own = operation["tensors"].get(name)
        return None if own is None else self.listed(own)

    def source(self, operation, position, place=0):
        return self.value(operation["inputs"][place], position)

    def embed(self, operation, position):
        token = self.tokens[position]
        multiplier = self.tensor(operation, "ME")[token]
        row = self.model.of(operation, "E8")[token].tolist()
        return [rs(value * multiplier, operation["ke"]) for value in row]

    def norm_quant(self, operation, position):
        x = self.source(operation, position)
        if x is None:
            return None
        r = root(x, operation["eps"])
        q, m, t = quantize(x, self.tensor(operation, "e"), operation["b"])
        power = t + operation["c"] - 31
        s = m * 2 ** 31 // r
        return q, s << power if power >= 0 else s >> -power

    def quant(self, operation, position):
        x = self.source(operation, position)
        if x is None:
            return None
        q, m, t = quantize(x, [0] * len(x), operation["b"])
        return q, m << t

    def linear(self, operation, position):
        found = self.source(operation, position)
        if found is None:
            return None
        q, s = found
        within(s, 1 << 15 + operation["k1"])
        bias = self.tensor(operation, "bias")
        y = []
        for row, (weights, multiplier) in enumerate(zip(self.model.of(operation, "W").tolist(),
                                                        self.tensor(operation, "M"))):
            acc = sum(map(int.__mul__, weights, q))
            scale = rs(product(s, multiplier), operation["k1"])
            assert scale < LIMIT and abs(acc) < LIMIT
            y.append(within(rs(product(acc, scale), operation["k2"]) + (bias[row] if bias else 0)))
        return y

    def heads_of(self, operation, position):
        x = self.source(operation, position)
        size = operation["head_size"]
        return None if x is None else [x[head * size:head * size + size] for head in range(operation["heads"])]

    def norm(self, operation, position):
        heads = self.heads_of(operation, position)
        if heads is None:
            return None
        gain, y = self.tensor(operation, "G"), []
        for x in heads:
            inverse = (1 << 46) // root(x, operation["eps"])
            y += [within(rs(product(rs(product(value, inverse), 22), g), operation["k"])) for value, g in zip(x, gain)]
        return y

    def rope(self, operation, position):
        heads = self.heads_of(operation, position)
        if heads is None:
            return None
        cosines, pairs = self.listed("table.COS"), operation["rotary"] // 2
        for x in heads:
            for pair, turn in enumerate(self.tensor(operation, "turn")):
                n = ((position * turn + (1 << 47)) % (1 << 64)) >> 48
                c, s = cosines[n], cosines[(n - (1 << 14)) % (1 << 16)]
                first, second = (pair, pair + pairs) if operation["half"] else (2 * pair, 2 * pair + 1)
                a, b = x[first], x[second]
                x[first], x[second] = within(rs(a * c - b * s, 14)), within(rs(a * s + b * c, 14))
        return [value for x in heads for value in x]

    def head_quant(self, operation, position):
        heads = self.heads_of(operation, position)
        if heads is None:
            return None
        result = []
        for x in heads:
            q, m, t = quantize(x, [0] * len(x), operation["b"])
            result.append((q, within(m << t)))
        return result

    def key_quant(self, operation, position):
        result = self.head_quant(operation, position)
        return result and [(k8, rs(s * operation["C"], 16)) for k8, s in result]

    def value_quant(self, operation, position):
        heads = self.heads_of(operation, position)
        if heads is None:
            return None
        result = []
        for x in heads:
            k = 0
            while max(map(abs, x)) > 127 << k:
                k += 1
            within(k, 25)
            result.append(([rs(value, k) for value in x], k))
        return result

    def attend(self, operation, t):
        window = operation["window"]
        seen = [p for p in range(t + 1) if window is None or t - p < window]
        queries = self.source(operation, t, 0)
        keys = {p: self.source(operation, p, 1) for p in seen}
        values = {p: self.source(operation, p, 2) for p in seen}
        if queries is None or None in keys.values() or None in values.values():
            return None
        result = []
        for head, (q8, s_q) in enumerate(queries):
            kv = head * operation["kv_heads"] // operation["heads"]
            result += self.attend_head(operation, q8, s_q, {p: keys[p][kv] + values[p][kv] for p in seen})
        return result

    def attend_head(self, operation, q8, s_q, cache):
        z, table = {}, self.tensor(operation, "A")
        for p, (k8, t_k, _, _) in cache.items():
            acc = sum(map(int.__mul__, q8, k8))
            z[p] = within(rs(product(rs(product(acc, s_q), 22), t_k), operation["a2"]))
            if table:
                z[p] = self.cap(table, z[p])
        blocks = []
        for j in sorted({p // 64 for p in cache}):
            own = [p for p in cache if p // 64 == j]
            z_j, k_j = max(z[p] for p in own), max(cache[p][3] for p in own)
            s_j, o_j = 0, [0] * len(q8)
            for p in own:
                e = self.exponential(self.exp15, z_j - z[p])
                s_j += e
                w = e >> (k_j - cache[p][3])
                o_j = [total + w * value for total, value in zip(o_j, cache[p][2])]
            blocks.append((z_j, k_j, s_j, o_j))
        top_z, top_k = max(block[0] for block in blocks), max(block[1] for block in blocks)
        s, b = 0, [0] * len(q8)
        for z_j, k_j, s_j, o_j in blocks:
            f = self.exponential(self.exp31, top_z - z_j)
            s += rs(product(s_j, f), 15)
            b = [total + rs(product(value, f), 15 + top_k - k_j) for total, value in zip(b, o_j)]
        d = max(0, s.bit_length() - 32)
        r = (1 << 55) // (s >> d)
        return [within(rs(product(rs(value, d), r), 53 - top_k)) for value in b]

    @staticmethod
    def exponential(mantissas, distance):
        return mantissas[distance % 1024] >> distance // 1024

    @staticmethod
    def cap(table, x):
        if not -(1 << 19) <= x < 1 << 19:
            return table[0] if x < 0 else table[1024]
        i, f = (x + (1 << 19)) >> 10, (x + (1 << 19)) & 1023
        return table[i] + rs((table[i + 1] - table[i]) * f, 10)

    def gate(self, operation, position):
        g = self.source(operation, position)
        u = self.source(operation, position, 1) if operation["gated"] else g
        if g is None or u is None:
            return None
        table, result = self.tensor(operation, "A"), []
        shift = operation["F_g"] - 16
        for value, up in zip(g, u):
            t = within(rs(value, shift) if shift >= 0 else value << -shift)
            i, f = (t + (1 << 20)) >> 11, (t + (1 << 20)) & 2047
            a = t if t >= 1 << 20 else 0 if t < -(1 << 20) else table[i] + rs((table[i + 1] - table[i]) * f, 11)
            result.append(within(rs(product(a, up), operation["k"])) if operation["gated"] else a)
        return result

    def add(self, operation, position):
        x, y = self.source(operation, position, 0), self.source(operation, position, 1)
        return None if x is None or y is None else [within(a + b) for a, b in zip(x, y)]

    def softcap(self, operation, position):
        x = self.source(operation, position)
        return x and [self.cap(self.tensor(operation, "A"), value) for value in x]


def sample(logits, fraction_bits, settings, position, exp24, draw_number):
    """The section "Sampling" without penalties, in the order of its sentences."""
    ids = range(len(logits))
    largest = max(logits)
    if settings.temperature == 0:
        return logits.index(largest)
    weights = [Plain.exponential(exp24, (largest - logit) * 1477319722 // (settings.temperature << fraction_bits))
               for logit in logits]
    ranked = sorted(ids, key=lambda token: (-weights[token], token))
    ranked = ranked[:settings.top_k or len(ranked)]
    whole, part, prefix = sum(weights[token] for token in ranked), 0, []
    for token in ranked:
        prefix.append(token)
        part += weights[token]
        if 10 ** 6 * part >= settings.top_p * whole:
            break
    kept = [token for token in prefix if weights[token] * 10 ** 6 >= settings.min_p * weights[prefix[0]]]
    draw = draw_number(settings.seed, position) * sum(weights[token] for token in kept) >> 64
    running = 0
    for token in sorted(kept):
        running += weights[token]
        if running > draw:
            return token
    raise AssertionError("the draw is below the total")
