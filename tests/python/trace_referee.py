"""A referee of disputes, written from docs/dispute-trace.md: which element follows from an opening. Whole integers throughout;
nothing here is Bulla's code. verdict() says "holds", "differs", "range", "fails" or "unproved" (an operand out of its bounds
counts as the last)."""
import dataclasses
import hashlib
import struct

EMPTY = bytes(32)
BLOCK, CHUNK, LINEAR_CHUNK, LEAF = 512, 256, 512, 1024
MILLION, SCALE, W_MOST, NOT_ALLOWED = 10 ** 6, 1477319722, (1 << 24) - 1, -(1 << 32)
KINDS = ["sampling", "embed", "norm_quant", "quant", "linear", "norm", "rope", "head_quant", "key_quant", "value_quant",
         "attend", "gate", "add", "softcap"]
E8, ME, W, M, BIAS, E, G, TURN, A = range(9)
NO_POSITION = 1 << 64


class Unproved(Exception):
    pass


class Range(Exception):
    pass


class Fails(Exception):
    pass


# The Merkle tree of RFC 6962.

def leaf_hash(data):
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def proof_length(first, last, total):
    length = 0
    while total > 1:
        length += (first & 1) + (not last & 1 and last + 1 < total)
        first, last, total = first // 2, last // 2, (total + 1) // 2
    return length


def root_of(hashes, first, total, proof):
    """The root that consecutive leaves' hashes and their proof lead to."""
    proof, nodes = list(proof), list(hashes)
    while total > 1:
        last = first + len(nodes) - 1
        if first & 1:
            nodes.insert(0, proof.pop(0))
            first -= 1
        if not last & 1 and last + 1 < total:
            nodes.append(proof.pop(0))
        nodes = [node_hash(*nodes[i:i + 2]) if i + 1 < len(nodes) else nodes[i] for i in range(0, len(nodes), 2)]
        first, total = first // 2, (total + 1) // 2
    return nodes[0]


def hashes_in(data):
    return [data[i:i + 32] for i in range(0, len(data), 32)]


# The program part of a model file.

@dataclasses.dataclass
class Tensor:
    dtype: int
    columns: int
    offset: int
    bytes: int


OPERATION = struct.Struct("<HHI3iIIIIIIIIIiiiiiiiiQ12i48x")
FIELDS = ("kind layer flags input0 input1 input2 n outputs heads head_size kv_heads block window rotary C F F_g k k1 k2 ke c a2 "
          "eps").split()
DTYPES = {1: "<b", 2: "<B", 3: "<h", 4: "<H", 5: "<i", 6: "<I", 7: "<Q"}


class Operation:
    def __init__(self, record):
        values = OPERATION.unpack(record)
        for name, value in zip(FIELDS, values):
            setattr(self, name, value)
        self.kind_name = KINDS[self.kind]
        self.inputs = [i for i in (self.input0, self.input1, self.input2)]
        self.tensors = values[len(FIELDS):]


class Program:
    def __init__(self, part, proof, model_root):
        operations, tensors, self.vocabulary = struct.unpack_from("<III", part, 20)
        self.logits_F, = struct.unpack_from("<i", part, 40)
        operations_at, tensors_at = struct.unpack_from("<QQ", part, 48)
        self.operations = [Operation(part[operations_at + 192 * i:operations_at + 192 * (i + 1)])
                           for i in range(operations)]
        self.tensors = []
        for i in range(tensors):
            record = part[tensors_at + 128 * i:tensors_at + 128 * (i + 1)]
            _, columns, offset, length = struct.unpack_from("<IIQQ", record, 80)
            self.tensors.append(Tensor(record[72], columns, offset, length))
        self.region_length = self.tensors[-1].offset + self.tensors[-1].bytes
        self.model_root = model_root
        leaves = [leaf_hash(part[i:i + LEAF]) for i in range(0, len(part), LEAF)]
        if root_of(leaves, 0, -(-self.region_length // LEAF), hashes_in(proof)) != model_root:
            raise Unproved("the program part")
        self.groups = [0]
        for i in range(1, operations):
            opens = i == 1 or self.operations[i].layer != self.operations[i - 1].layer
            self.groups.append(self.groups[-1] + opens)
        self.groups.append(self.groups[-1] + 1)
        self.border = [o.kind_name in ("key_quant", "value_quant") for o in self.operations] + [False]
        self.border[operations - 1] = True
        for i, o in enumerate(self.operations):
            for j in o.inputs:
                if j >= 0 and self.groups[j] != self.groups[i]:
                    self.border[j] = True

    def members(self, group):
        return [i for i, g in enumerate(self.groups) if g == group]


class Answer:
    def __init__(self, program, tokens, prompt, sampling, range_, allowed, trace_root):
        self.program, self.tokens, self.prompt, self.sampling = program, tokens, prompt, sampling
        self.range, self.allowed, self.trace_root = range_, allowed, trace_root
        self.positions = len(tokens) if range_ else len(tokens) - 1
        count = len(program.operations)
        self.lowest = [NO_POSITION] * count + [prompt - 1]
        self.lowest[count - 1] = prompt - 1
        for i in reversed(range(count)):
            o, own = program.operations[i], self.lowest[i]
            if own == NO_POSITION:
                continue
            seen = max(0, own - o.window + 1) if o.window else 0
            for slot, j in enumerate(o.inputs):
                if j >= 0:
                    needed = seen if o.kind_name == "attend" and slot else own
                    self.lowest[j] = min(self.lowest[j], needed)

    def evaluated(self, operation, position):
        before = self.range is None or (position, operation) < tuple(self.range)
        return position < self.positions and position >= self.lowest[operation] and before


# Arrays: (name, elements, width, is a result, is a witness).

def chunks(n, size=CHUNK):
    return -(-n // size)


def quantise_arrays(o):
    size, segments = (o.head_size, o.heads) if o.heads else (o.n, 1)
    folds, is_norm = segments * chunks(size), o.kind_name == "norm_quant"
    return [("A", folds, 8), ("H1", o.n if o.block > 64 else 0, 4), ("h", o.n, 4), ("m", folds, 8),
            ("ss", folds if is_norm else 0, 8), ("q", o.n, 1, True),
            ("s", segments, 4 if o.kind_name in ("head_quant", "key_quant") else 8, True)]


class View:
    """What attend sees from a position."""
    def __init__(self, o, t):
        self.first = max(0, t + 1 - o.window) if o.window else 0
        self.start = self.first // 64 * 64
        self.blocks = t // 64 - self.first // 64 + 1
        self.slots = 64 * self.blocks
        self.last = t


def attend_arrays(o, t):
    v, h, kv, size = View(o, t), o.heads, o.kv_heads, o.head_size
    c = chunks(v.blocks)
    return [("z", h * v.slots, 4), ("kv", kv * v.slots, 1), ("vt", kv * size * v.slots, 1), ("Z", h * v.blocks, 4),
            ("K", kv * v.blocks, 1), ("e", h * v.slots, 4), ("S", h * v.blocks, 4), ("O", h * size * v.blocks, 4),
            ("Zall", h * c, 4), ("Kall", kv * c, 1), ("f", h * v.blocks, 4), ("Sall", h * c, 8), ("B", h * size * c, 8),
            ("o", h * size, 4, True)]


def sampling_arrays(answer):
    V = answer.program.vocabulary
    c, greedy = chunks(V), answer.sampling["temperature"] == 0
    drawn = 0 if greedy else 1
    return [("a", V, 8), ("max", c, 8), ("least", c if greedy else 0, 4), ("w", V * drawn, 4),
            ("cut1", 2 * drawn, 8, False, True), ("above1", c * drawn, 8), ("equal1", c * drawn, 8), ("below1", c * drawn, 8),
            ("sum1", c * drawn, 8), ("check1", drawn, 1), ("cut2", 2 * drawn, 8, False, True), ("equal2", c * drawn, 8),
            ("sum2", c * drawn, 8), ("check2", drawn, 1), ("run", c * drawn, 8), ("token", 1, 1)]


def arrays_of(answer, operation, position):
    if operation == len(answer.program.operations):
        arrays = sampling_arrays(answer)
    else:
        o = answer.program.operations[operation]
        kind = o.kind_name
        if kind.endswith("quant") and kind != "value_quant":
            arrays = quantise_arrays(o)
        elif kind == "value_quant":
            arrays = [("k_v", o.heads, 4, True), ("v8", o.n, 1, True)]
        elif kind == "norm":
            arrays = [("ss", o.heads * chunks(o.head_size), 8), ("y", o.outputs, 4, True)]
        elif kind == "linear":
            arrays = [("acc", o.outputs * chunks(o.n, LINEAR_CHUNK), 4), ("y", o.outputs, 4, True)]
        elif kind == "attend":
            arrays = attend_arrays(o, position)
        else:
            arrays = [("y", o.outputs, 4, True)]
    return [(a + (False, False))[:5] for a in arrays]


# The results of an operation: which array has the vector or the bytes, which the scales.
def result_arrays(o):
    kind = o.kind_name
    if kind == "value_quant":
        return 1, 0
    if kind.endswith("quant"):
        return 5, 6
    if kind in ("norm", "linear"):
        return 1, 1
    return (13, 13) if kind == "attend" else (0, 0)


class Cell:
    """A cell's arrays message."""
    def __init__(self, answer, group, position, message, named=None):
        self.answer, self.group, self.position, self.message, self.named = answer, group, position, message, named
        self.roots, at = {}, 0
        for operation in answer.program.members(group):
            for array, _ in enumerate(arrays_of(answer, operation, position)):
                self.roots[operation, array] = message[at:at + 32]
                at += 32
        self.witnesses = message[at:]

    def is_range_operation(self, operation):
        return self.named is not None and [self.position, operation] == list(self.answer.range)

    def is_right(self, leaf):
        """Whether the message gives the cell's leaf, as "Arrays" of "Bisection" asks."""
        program, border, witnesses = self.answer.program, b"", self.witnesses
        is_sampling = self.group == program.groups[-1]
        if len(witnesses) != (32 if is_sampling and self.answer.sampling["temperature"] else 0):
            return False
        for operation in program.members(self.group):
            evaluated = self.answer.evaluated(operation, self.position)
            there = evaluated or self.is_range_operation(operation)
            for array, (_, count, _, is_result, is_witness) in enumerate(arrays_of(self.answer, operation, self.position)):
                root = self.roots[operation, array]
                if (not there or count == 0) and root != EMPTY:
                    return False
                if there and is_witness and count:
                    if leaf_hash(b"\1" + witnesses[:16]) != root:
                        return False
                    witnesses = witnesses[16:]
                if is_result and program.border[operation]:
                    border += root if evaluated else EMPTY
        return leaf_hash(b"\2" + border) == leaf


class Opening:
    """The reads of one step, out of its opening."""
    def __init__(self, cell, operation, data):
        self.cell, self.answer, self.program = cell, cell.answer, cell.answer.program
        self.operation, self.position, self.data, self.at = operation, cell.position, data, 0
        self.other = None  # (cell number, its border's roots by operation and array)

    def take(self, length):
        if self.at + length > len(self.data):
            raise Unproved("short")
        self.at += length
        return self.data[self.at - length:self.at]

    def leaves(self, size, tag, begin, end, total, root):
        """Bytes begin to end out of leaves of `size` bytes."""
        first, last = begin // size, (end - 1) // size
        stop, count = min((last + 1) * size, total), -(-total // size)
        if end > total:
            raise Unproved("beyond the end")
        data = self.take(stop - first * size)
        proof = hashes_in(self.take(32 * proof_length(first, last, count)))
        hashes = [leaf_hash(tag + data[i:i + size]) for i in range(0, len(data), size)]
        if root_of(hashes, first, count, proof) != root:
            raise Unproved("a proof")
        return data[begin - first * size:end - first * size]

    def elements(self, root, total, width, first, count):
        if count == 0:
            return []
        if first + count > total:
            raise Unproved("beyond an array")
        data = self.leaves(BLOCK, b"\1", first * width, (first + count) * width, total * width, root)
        return [int.from_bytes(data[i:i + width], "little", signed=True) for i in range(0, len(data), width)]

    def array(self, array, first, count=None):
        _, total, width, _, _ = arrays_of(self.answer, self.operation, self.position)[array]
        values = self.elements(self.cell.roots[self.operation, array], total, width, first, 1 if count is None else count)
        return values[0] if count is None else values

    def open_cell(self, group, position):
        number = group * self.answer.positions + position
        if self.other and self.other[0] == number:
            return self.other[1]
        border = [(i, a) for i in self.program.members(group) if self.program.border[i]
                  for a, array in enumerate(arrays_of(self.answer, i, position)) if array[3]]
        data = self.take(32 * len(border))
        total = (self.program.groups[-1] + 1) * self.answer.positions
        proof = hashes_in(self.take(32 * proof_length(number, number, total)))
        if root_of([leaf_hash(b"\2" + data)], number, total, proof) != self.answer.trace_root:
            raise Unproved("a cell")
        self.other = (number, dict(zip(border, hashes_in(data))))
        return self.other[1]

    def result(self, operation, array, position, first, count):
        if not self.answer.evaluated(operation, position):
            raise Unproved("not evaluated")
        group = self.program.groups[operation]
        roots = (self.cell.roots if (group, position) == (self.cell.group, self.position)
                 else self.open_cell(group, position))
        _, total, width, _, _ = arrays_of(self.answer, operation, position)[array]
        return self.elements(roots[operation, array], total, width, first, count)

    def input(self, slot, first, count=None, position=None, scale=False):
        operation = self.program.operations[self.operation].inputs[slot]
        array = result_arrays(self.program.operations[operation])[scale]
        position = self.position if position is None else position
        values = self.result(operation, array, position, first, 1 if count is None else count)
        return values[0] if count is None else values

    def tensor(self, number, first, count=None):
        tensor = self.program.tensors[number]
        form = DTYPES[tensor.dtype]
        size, wanted = struct.calcsize(form), 1 if count is None else count
        if (first + wanted) * size > tensor.bytes:
            raise Unproved("beyond a tensor")
        begin = tensor.offset + first * size
        data = self.leaves(LEAF, b"", begin, begin + wanted * size, self.program.region_length, self.program.model_root)
        values = [value for value, in struct.iter_unpack(form, data)]
        return values[0] if count is None else values

    def allowed_byte(self, index):
        root = self.answer.allowed[self.position + 1 - self.answer.prompt]
        return self.elements(root, (self.program.vocabulary + 7) // 8, 1, index, 1)[0]


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


def isqrt(n):
    import math
    return math.isqrt(n)


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
    return isqrt(ss + o.eps)


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


def verdict(cell, operation, array, index, value, data):
    """What the referee says of one step."""
    answer = cell.answer
    name, count, _, _, is_witness = arrays_of(answer, operation, cell.position)[array]
    named = cell.is_range_operation(operation)
    if not (answer.evaluated(operation, cell.position) or named) or index >= count or is_witness:
        return "not a step"
    if named and (array, index) > tuple(cell.named):
        return "not a step"
    named = named and (array, index) == tuple(cell.named)
    opening = Opening(cell, operation, data)
    try:
        try:
            found = element(opening, name, index)
        finally:
            if opening.at != len(data):
                raise Unproved("bytes that nothing asked for")
    except Unproved:
        return "unproved"
    except Range:
        return "holds" if named else "range"
    except Fails:
        return "fails"
    if named:
        return "differs"
    return "holds" if found == value else "differs"
