#!/usr/bin/env python3
"""Small random programs in the form that `bulla inspect` prints, with every operation of docs/canonical.md.

usage: program_random.py inspect FOLDER [--program | --tensor NAME,...]

build(seed, shape) makes one, write(FOLDER, model) keeps it. Shifts are chosen by running each operation on random tokens as it is
emitted, so that values have the sizes that the page aims at; `tight` leaves one shift too small by a few bits,
so that some positions raise RANGE.
"""
import dataclasses
import json
import math
import os
import random
import sys

import numpy

import oracle
import oracle_operations as operations
import oracle_tables as tables

CALIBRATION_TOKENS = 40
NUMPY_NAMES = {"i8": "<i1", "u8": "<u1", "i16": "<i2", "u16": "<u2", "i32": "<i4", "u32": "<u4", "u64": "<u8"}


@dataclasses.dataclass
class Shape:
    vocabulary: int = 80
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 16
    rotary: int = 16
    half: bool = True
    inner: int = 96
    biases: bool = False
    head_norms: str = ""  # "head", "all" or none
    post_norms: bool = False
    windows: tuple = (None,)
    score_cap: float = 0
    logits_cap: float = 0
    gated: bool = True
    activation: str = "silu"
    gain_powers: int = 8
    tight: str = ""


# The families that Bulla imports, by what sets their programs apart; and corners that no family has yet.
SHAPES = {
    "llama": Shape(half=False),
    "mistral": Shape(windows=(7,), kv_heads=1),
    "qwen2": Shape(biases=True, hidden=96, heads=6, kv_heads=2),
    "qwen3": Shape(head_norms="head", heads=8, kv_heads=2, layers=3),
    "gemma2": Shape(post_norms=True, windows=(6, None), score_cap=50, logits_cap=30, activation="gelu_tanh", layers=4),
    "gemma3": Shape(post_norms=True, head_norms="head", windows=(5, 5, None), activation="gelu_tanh", layers=3,
                    heads=4, kv_heads=1, hidden=80),
    "phi3": Shape(rotary=12, head_size=24, hidden=72, heads=3, kv_heads=3),
    "ungated": Shape(gated=False, activation="gelu_tanh", windows=(3,), layers=3),
    "all-head norms": Shape(head_norms="all", layers=1, hidden=56, inner=40),
}


class Memory:
    """A program in memory, with what oracle.Run asks of a model."""

    def __init__(self):
        self.tensors, self.operations = {}, []
        for bits in (15, 24, 31):
            self.tensors[f"table.EXP{bits}"] = ("u32", tables.exponential_mantissas(bits)[None, :])
        self.tensors["table.COS"] = ("i16", tables.cosines()[None, :])
        self.mantissas = [self.tensor(f"table.EXP{bits}").ravel().astype(numpy.int64) for bits in (15, 24, 31)]
        self.cosines = self.tensor("table.COS").ravel()
        self.program = {"version": 1, "model_root": "", "context": 1 << 20, "operations": self.operations}

    def tensor(self, name):
        return self.tensors[name][1]

    of, vector = oracle.Model.of, oracle.Model.vector


class Builder:
    def __init__(self, seed, shape):
        self.random = random.Random(seed)
        self.numbers = numpy.random.default_rng(seed)
        self.shape = shape
        self.model = Memory()
        self.model.program.update(vocabulary=shape.vocabulary, layers=shape.layers)
        self.run = oracle.Run(self.model, self.numbers.integers(0, shape.vocabulary, CALIBRATION_TOKENS))
        self.layer = None
        self.tables = {}

    def emit(self, kind, inputs=(), found=None, **parameters):
        """Adds the operation and runs it; parameters that are arrays (dtype, array) become tensors."""
        index = len(self.model.operations)
        named = {}
        for name, value in list(parameters.items()):
            if isinstance(value, tuple):
                named[name] = f"{index}.{kind}.{name}"
                dtype, array = parameters.pop(name)
                array = array.astype(NUMPY_NAMES[dtype])
                self.model.tensors[named[name]] = (dtype, array if array.ndim == 2 else array[None, :])
        operation = {"index": index, "kind": kind, "layer": self.layer, "inputs": list(inputs), "tensors": named,
                     **parameters}
        self.run.range = None
        self.run.evaluate(operation, 0)
        assert self.shape.tight or self.run.range is None, self.run.range
        if self.shape.tight == kind and found is not None and self.random.random() < 0.7:
            operation[found] = max(0, operation[found] - self.random.randint(2, 5))
        self.model.operations.append(operation)
        return index

    def arrays(self, index):
        return self.run.values[index].arrays

    def largest(self, index):
        return int(numpy.abs(self.arrays(index)[0]).max())

    def width(self, index):
        return self.arrays(index)[0].reshape(CALIBRATION_TOKENS, -1).shape[1]

    def block(self, size):
        return min(size & -size, 4096)

    def shift_to(self, largest, bits):
        """The shift after which `largest` has `bits` bits."""
        return max(0, int(largest).bit_length() - bits)

    def embed(self):
        shape = self.shape
        rows = self.numbers.integers(-127, 128, (shape.vocabulary, shape.hidden))
        rows[:, :2] = self.numbers.choice([-127, 127], (shape.vocabulary, 2))
        multipliers = self.numbers.integers(1 << 13, 1 << 16, shape.vocabulary)
        return self.emit("embed", E8=("i8", rows), ME=("u16", multipliers), ke=2)

    def norm_quant(self, x):
        n = self.width(x)
        exponents = self.numbers.integers(0, self.shape.gain_powers + 1, n)
        largest_s = None
        for c in (20, None):
            if c is None:
                c = 20 + 26 - largest_s.bit_length()
            result = self.emit("norm_quant", [x], e=("u8", exponents), b=self.block(n), c=c,
                               eps=self.random.choice([1, 12345, 10 ** 9]))
            if largest_s is None:
                largest_s = int(self.arrays(result)[1].max())
                self.model.operations.pop()
        return result

    def linear(self, q, outputs, bits, bias=False):
        inputs = self.width(q)
        weights = numpy.clip(numpy.rint(self.numbers.standard_t(4, (outputs, inputs)) * 25), -127, 127)
        weights[numpy.arange(outputs), self.numbers.integers(0, inputs, outputs)] = 127
        multipliers = self.numbers.integers(1 << 14, 1 << 16, outputs)
        multipliers[0] = 65535
        q8, s = self.arrays(q)
        k1 = max(0, int(s.max()).bit_length() + 2 - 15)
        scale = operations.round_shift(s[:, None] * multipliers[None, :], k1)
        y = numpy.abs(operations.products(q8, weights.astype(numpy.int8)) * scale).max()
        tensors = {"W": ("i8", weights), "M": ("u16", multipliers)}
        if bias:
            tensors["bias"] = ("i32", self.numbers.integers(-1 << bits - 2, 1 << bits - 2, outputs))
        found = "k2" if self.random.random() < 0.5 else "k1"
        # A k1 that is too small by so much that s is out of bounds; k2 so that y is near its bound.
        if self.shape.tight == "linear" and found == "k2":
            bits = 30
        return self.emit("linear", [q], found, k1=k1, k2=self.shift_to(y, bits), **tensors)

    def norm(self, x, heads, bits):
        n = self.width(x) // heads
        gain = self.numbers.integers(-1 << 23, 1 << 23, n)
        if self.shape.tight == "norm":
            bits = 30
        # Results are at most the gain times 2^24 by the shift k.
        return self.emit("norm", [x], "k", heads=heads, head_size=n, eps=self.random.choice([1, 999]),
                         k=24 + 24 - bits, G=("i32", gain))

    def projection(self, hidden, heads, norms):
        shape = self.shape
        x = self.linear(hidden, heads * shape.head_size, 20, shape.biases)
        if norms and shape.head_norms:
            x = self.norm(x, heads if shape.head_norms == "head" else 1, 20)
        if norms:
            pairs = shape.rotary // 2
            base = self.random.choice([100.0, 10000.0])
            turns = [round(2 ** 64 * base ** (-pair / pairs) / (2 * math.pi)) for pair in range(pairs)]
            x = self.emit("rope", [x], heads=heads, head_size=shape.head_size, rotary=shape.rotary, half=shape.half,
                          turn=("u64", numpy.array(turns, numpy.uint64)))
        return x

    def attention(self, hidden):
        shape = self.shape
        heads, kv_heads, size = shape.heads, shape.kv_heads, shape.head_size
        q = self.emit("head_quant", [self.projection(hidden, heads, True)], heads=heads, head_size=size,
                      b=self.block(size))
        k = self.emit("key_quant", [self.projection(hidden, kv_heads, True)], heads=kv_heads, head_size=size,
                      b=self.block(size), C=self.random.randint(1 << 12, 60000))
        v = self.emit("value_quant", [self.projection(hidden, kv_heads, False)], heads=kv_heads, head_size=size)
        # Scores near ±2^13, eight octaves.
        (q8, s_q), (k8, t_k) = self.arrays(q), self.arrays(k)
        group = numpy.arange(heads) * kv_heads // heads
        acc = numpy.einsum("qhd,khd->hqk", q8, k8[:, group])
        z = operations.round_shift(acc * s_q.T[:, :, None], 22) * t_k.T[group][:, None, :]
        window = shape.windows[self.layer % len(shape.windows)]
        tensors = {}
        if shape.score_cap:
            tensors["A"] = ("i32", self.softcap_table(shape.score_cap * 1024 * math.log2(math.e)))
        bits = 30 if shape.tight == "attend" else 20 if shape.score_cap else 13
        return self.emit("attend", [q, k, v], "a2", heads=heads, kv_heads=kv_heads, head_size=size,
                         a2=self.shift_to(numpy.abs(z).max(), bits), window=window, **tensors)

    def softcap_table(self, units):
        if units not in self.tables:
            self.tables[units] = tables.softcap(int(units))
        return self.tables[units]

    def feed_forward(self, hidden):
        shape = self.shape
        g = self.linear(hidden, shape.inner, 18)
        if shape.activation not in self.tables:
            self.tables[shape.activation] = tables.activation(getattr(tables, shape.activation))
        inputs = [g, self.linear(hidden, shape.inner, 24)] if shape.gated else [g]
        bits = 29 if shape.tight == "gate" else 26
        k = self.shift_to(self.largest(g) * 4 * self.largest(inputs[-1]), bits) if shape.gated else 0
        gated = self.emit("gate", inputs, "k" if shape.gated else None, A=("i32", self.tables[shape.activation]),
                          gated=shape.gated, F_g=self.random.choice([14, 16, 17]), k=k)
        return self.emit("quant", [gated], b=self.block(shape.inner))

    def add(self, x, q, bits):
        """The residual x and what comes back into it, after its post-norm where there is one."""
        y = self.linear(q, self.shape.hidden, bits)
        if self.shape.post_norms:
            y = self.norm(y, 1, bits)
        return self.emit("add", [x, y])

    def build(self):
        shape = self.shape
        bits = 30 if shape.tight == "add" else 22
        x = self.embed()
        for self.layer in range(shape.layers):
            attended = self.attention(self.norm_quant(x))
            x = self.add(x, self.emit("quant", [attended], b=self.block(self.width(attended))), bits)
            x = self.add(x, self.feed_forward(self.norm_quant(x)), bits)
        self.layer = None
        logits_bits = 16
        x = self.linear(self.norm_quant(x), shape.vocabulary, logits_bits)
        if shape.logits_cap:
            self.emit("softcap", [x], A=("i32", self.softcap_table(shape.logits_cap * 4096)))
        self.model.program["logits_F"] = 13
        self.model.program["tensors"] = [
            {"name": name, "dtype": dtype, "shape": list(array.shape), "bytes": array.nbytes}
            for name, (dtype, array) in self.model.tensors.items()]
        return self.model


def build(seed, shape):
    return Builder(seed, shape).build()


def write(folder, model):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "program.json"), "w") as file:
        json.dump(model.program, file)
    for name, (_, array) in model.tensors.items():
        array.tofile(os.path.join(folder, name))


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "inspect" and sys.argv[3] == "--program":
        names = ["program.json"]
    elif len(sys.argv) == 5 and sys.argv[1] == "inspect" and sys.argv[3] == "--tensor":
        names = sys.argv[4].split(",")
    else:
        sys.exit(__doc__)
    for name in names:
        with open(os.path.join(sys.argv[2], name), "rb") as file:
            sys.stdout.buffer.write(file.read())


if __name__ == "__main__":
    main()
