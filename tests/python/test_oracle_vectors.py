#!/usr/bin/env python3
"""The oracle's operations against the canonical vectors, and its own tables against their SHA-256."""
import json
import os

import numpy

import oracle_operations as operations
import oracle_sampling as sampling
import oracle_tables as tables
from checks import Checks

ACTIVATIONS = {"silu": tables.silu, "gelu_tanh": tables.gelu_tanh}


def row(values, dtype=numpy.int64):
    return numpy.array([values], dtype)


class Vectors:
    def __init__(self, checks, folder):
        self.checks, self.folder = checks, folder
        self.exponential = {bits: tables.exponential_mantissas(bits) for bits in (15, 24, 31)}
        self.cosines = tables.cosines()
        self.activations = {name: tables.activation(function) for name, function in ACTIVATIONS.items()}

    def load(self, name):
        with open(os.path.join(self.folder, name + ".json")) as file:
            return json.load(file)

    def check_tables(self):
        own = {f"EXP{bits} mantissas, 1024 x u32 little-endian": table for bits, table in self.exponential.items()}
        own["COS, 65536 x i16 little-endian"] = self.cosines
        own.update({f"{name}, 1025 x i32 little-endian": table for name, table in self.activations.items()})
        expected = self.load("tables")
        self.checks.equal({name: tables.digest(table) for name, table in own.items()}, expected, "tables' SHA-256")
        print(f"tables: {len(expected)}")

    def check(self, name):
        """Each vector alone, as one row; then, where shapes allow, the operation does not mix rows."""
        cases = self.load(name)
        ranges = 0
        for number, case in enumerate(cases):
            bounds = operations.Bounds(1)
            result = getattr(self, name)(case, bounds)
            what = f"{name} {number}"
            if "range" in case:
                ranges += 1
                self.checks.equal(f"{name} {bounds.broken[0]}", case["range"], what)
            else:
                self.checks.equal((result, bounds.broken), (case["result"], [None]), what)
        self.checks.true(cases, f"{name} has vectors")
        print(f"{name}: {len(cases)}, of which RANGE {ranges}")

    def quantize(self, case, bounds):
        q, m, shift = operations.quantize(row(case["x"]), row(case["e"]), case["b"])
        return {"q": q[0].tolist(), "m": int(m[0]), "T": int(shift[0])}

    def norm_quant(self, case, bounds):
        q, s = operations.norm_quant(row(case["x"]), row(case["e"]), case["b"], case["c"], case["eps"], bounds)
        return {"q": q[0].tolist(), "s": int(s[0])}

    def linear(self, case, bounds):
        bias = None if case["bias"] is None else numpy.array(case["bias"])
        y = operations.linear(row(case["q"]), numpy.array([case["s"]]), numpy.array(case["W"], numpy.int8),
                              numpy.array(case["M"]), case["k1"], case["k2"], bias, bounds)
        return y[0].tolist()

    def norm(self, case, bounds):
        return operations.norm(row([case["x"]]), numpy.array(case["G"]), case["eps"], case["k"], bounds)[0, 0].tolist()

    def rope(self, case, bounds):
        turns = numpy.array([int(turn) for turn in case["turn"]], numpy.uint64)
        y = operations.rope(row([case["x"]]), numpy.array([case["pos"]]), turns, case["half"], self.cosines, bounds)
        return y[0, 0].tolist()

    def attend(self, case, bounds):
        k8, t_k, v8, k_v = (numpy.array(part, numpy.int64) for part in zip(*case["keys"]))
        keys = (k8[:, None], t_k[:, None], v8[:, None], k_v[:, None], 0)
        mantissas = tuple(self.exponential[bits].astype(numpy.int64) for bits in (15, 31))
        queries = (row([case["q8"]]), row([case["s_q"]]), case["t"])
        o = operations.attend(queries, keys, case["a2"], case["window"], None, mantissas, bounds)
        if case["window"] is not None:  # keys out of sight need not be there
            first = max(0, case["t"] - case["window"] + 1)
            seen = tuple(part[first:] for part in keys[:4]) + (first,)
            again = operations.attend(queries, seen, case["a2"], case["window"], None, mantissas, bounds)
            self.checks.true((o == again).all(), "attend without the keys out of sight")
        return o[0, 0].tolist()

    def gate(self, case, bounds):
        table = self.activations[case["act"]].astype(numpy.int64)
        return operations.gate(row(case["g"]), row(case["u"]), table, case["F_g"], case["k"], bounds)[0].tolist()

    def sample(self, case, bounds):
        settings = sampling.Settings(temperature=case["T_u"], top_k=case["top_k"], top_p=case["top_p"],
                                     min_p=case["min_p"], seed=int(case["seed"]))
        return sampling.sample(case["logits"], case["F"], settings, case["position"], self.exponential[24])


def main():
    checks = Checks()
    shared = os.environ.get("BULLA_SHARED")
    if shared is None:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        shared = os.path.join(os.path.dirname(root), "shared")
    folder = os.path.join(shared, "vectors", "canonical")
    if not os.path.isdir(folder):
        checks.skip("the canonical vectors are not there (BULLA_SHARED)")
    vectors = Vectors(checks, folder)
    vectors.check_tables()
    for name in ("quantize", "norm_quant", "linear", "norm", "rope", "attend", "gate", "sample"):
        vectors.check(name)
    checks.finish()


if __name__ == "__main__":
    main()
