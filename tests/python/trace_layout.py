"""docs/dispute-trace.md up to its openings: trees, the program part, what is evaluated, arrays and cells. For trace_referee.py;
written from the page, not from Bulla's code."""
import dataclasses
import hashlib
import struct

EMPTY = bytes(32)
CHUNK, LINEAR_CHUNK, LEAF = 256, 512, 1024
KINDS = ["sampling", "embed", "norm_quant", "quant", "linear", "norm", "rope", "head_quant", "key_quant", "value_quant",
         "attend", "gate", "add", "softcap"]
E8, ME, W, M, BIAS, E, G, TURN, A = range(9)
NO_POSITION = 1 << 64


class Unproved(Exception):
    """A proof, a length or an operand is wrong."""


class Range(Exception):
    """A bound is left."""


class Fails(Exception):
    """A check does not hold."""


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
        self.inputs = [self.input0, self.input1, self.input2]
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
