#!/usr/bin/env python3
"""An independent executor of Bulla models, written from docs/canonical.md and docs/program.md alone. It reads
what `bulla inspect` prints, nothing else, and shares no code with the program.

usage: oracle.py BULLA MODEL PROMPT_IDS OUTPUT_IDS [--finish stop|length|range] [--temperature T] [--seed S]
                 [--top-k K] [--top-p P] [--min-p P]

Ids are separated by commas. An answer is checked by running prompt and answer in one pass and sampling from
every position from which a token was sampled. Exit status 0 where every token is the same.
"""
import argparse
import decimal
import json
import subprocess
import sys

import numpy

import oracle_operations as operations
import oracle_sampling as sampling

DTYPES = {"i8": "<i1", "u8": "<u1", "i16": "<i2", "u16": "<u2", "i32": "<i4", "u32": "<u4", "i64": "<i8", "u64": "<u8"}


class Model:
    """A model's program and tensors. `command` is the program (and its leading arguments) that has `inspect`."""

    def __init__(self, command, path):
        self.read = {}
        self.command = [command] if isinstance(command, str) else list(command)
        self.path = path
        self.program = json.loads(self._inspect("--program"))
        if self.program["version"] != 1:
            raise ValueError(f"{path}: program version {self.program['version']}, expected 1")
        self.tensors = {tensor["name"]: tensor for tensor in self.program["tensors"]}
        self.operations = self.program["operations"]
        self.read_all()
        self.mantissas = [self.tensor(f"table.EXP{bits}").ravel().astype(numpy.int64) for bits in (15, 24, 31)]
        self.cosines = self.tensor("table.COS").ravel()

    def _inspect(self, *arguments):
        return subprocess.run([*self.command, "inspect", self.path, *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True).stdout

    def read_all(self):
        """Every tensor at once, by a list of names, where the program takes one: each call hashes the whole file."""
        names = list(self.tensors)
        try:
            content = memoryview(self._inspect("--tensor", ",".join(names)))
        except subprocess.CalledProcessError:
            return
        expected = sum(self.tensors[name]["bytes"] for name in names)
        if len(content) != expected:
            raise ValueError(f"{self.path}: {len(content)} bytes of tensors, expected {expected}")
        for name in names:
            size = self.tensors[name]["bytes"]
            self._keep(name, content[:size])
            content = content[size:]

    def _keep(self, name, content):
        entry = self.tensors[name]
        if len(content) != entry["bytes"]:
            raise ValueError(f"{name}: {len(content)} bytes, expected {entry['bytes']}")
        self.read[name] = numpy.frombuffer(content, DTYPES[entry["dtype"]]).reshape(entry["shape"])

    def tensor(self, name):
        if name not in self.read:
            self._keep(name, self._inspect("--tensor", name))
        return self.read[name]

    def of(self, operation, name):
        """A tensor of an operation by the page's name, or None where it has none."""
        tensor = (operation.get("tensors") or {}).get(name)
        return None if tensor is None else self.tensor(tensor)

    def vector(self, operation, name):
        tensor = self.of(operation, name)
        return None if tensor is None else tensor.ravel().astype(numpy.int64)


class Value:
    """An operation's result at the positions from `first` on: arrays whose first axis is the position."""

    def __init__(self, first, *arrays):
        self.first, self.arrays = first, arrays

    def since(self, first):
        return [array[first - self.first:] for array in self.arrays]


def first_positions(program_operations, first_sampled):
    """For each operation, the first position at which it is evaluated: its result reaches the logits of a
    position from which a token is sampled. Evaluated are all positions from there to the last one."""
    first = {program_operations[-1]["index"]: first_sampled}
    for operation in reversed(program_operations):
        own = first.get(operation["index"])
        if own is None:
            continue
        for place, source in enumerate(operation["inputs"]):
            reached = own
            if operation["kind"] == "attend" and place > 0:
                reached = 0 if operation["window"] is None else max(0, own - operation["window"] + 1)
            first[source] = min(first.get(source, reached), reached)
    return first


class Run:
    """A program over tokens. `range`: None or the (position, operation index, what) of the reported RANGE."""

    def __init__(self, model, tokens):
        self.model = model
        self.tokens = numpy.array(tokens, numpy.int64)
        if len(tokens) > model.program["context"] or (self.tokens >= model.program["vocabulary"]).any():
            raise ValueError("tokens beyond the context or the vocabulary")
        self.values = {}
        self.range = None

    def logits(self, first_sampled):
        """Of each position from first_sampled on; only what they need is evaluated."""
        program_operations = self.model.operations
        first = first_positions(program_operations, first_sampled)
        last_use = {source: operation["index"] for operation in program_operations for source in operation["inputs"]}
        for operation in program_operations:
            index = operation["index"]
            if index not in first:
                continue
            self.evaluate(operation, first[index])
            for source in set(operation["inputs"]):
                if last_use[source] == index:
                    del self.values[source]
        return self.values[program_operations[-1]["index"]].arrays[0]

    def evaluate(self, operation, first):
        """The operation at all positions from `first` on."""
        bounds = operations.Bounds(len(self.tokens) - first)
        arrays = getattr(self, "_" + operation["kind"])(operation, first, bounds)
        arrays = arrays if isinstance(arrays, tuple) else (arrays,)
        broken = bounds.rows()
        for row in broken:
            # What follows from a broken row is never reported: its position is passed on as zeros.
            for array in arrays:
                array[row] = 0
        if broken and (self.range is None or first + broken[0] < self.range[0]):
            row = broken[0]
            self.range = (first + row, operation["index"], f"{operation['kind']} {bounds.broken[row]}")
        self.values[operation["index"]] = Value(first, *arrays)

    def _input(self, operation, place, first):
        arrays = self.values[operation["inputs"][place]].since(first)
        return arrays[0] if len(arrays) == 1 else arrays

    def _heads(self, operation, first):
        x = self._input(operation, 0, first)
        return x.reshape(len(x), operation["heads"], operation["head_size"])

    def _embed(self, operation, first, bounds):
        tokens = self.tokens[first:]
        rows = self.model.of(operation, "E8")[tokens].astype(numpy.int64)
        scales = self.model.vector(operation, "ME")[tokens]
        return operations.round_shift(rows * scales[:, None], operation["ke"])

    def _norm_quant(self, operation, first, bounds):
        x = self._input(operation, 0, first)
        return operations.norm_quant(x, self.model.vector(operation, "e"), operation["b"], operation["c"],
                                     operation["eps"], bounds)

    def _quant(self, operation, first, bounds):
        return operations.quant(self._input(operation, 0, first), operation["b"])

    def _linear(self, operation, first, bounds):
        q, s = self._input(operation, 0, first)
        return operations.linear(q, s, self.model.of(operation, "W"), self.model.vector(operation, "M"),
                                 operation["k1"], operation["k2"], self.model.vector(operation, "bias"), bounds)

    def _norm(self, operation, first, bounds):
        y = operations.norm(self._heads(operation, first), self.model.vector(operation, "G"), operation["eps"],
                            operation["k"], bounds)
        return y.reshape(len(y), -1)

    def _rope(self, operation, first, bounds):
        turns = self.model.of(operation, "turn").ravel()
        if 2 * len(turns) != operation["rotary"]:
            raise ValueError(f"operation {operation['index']}: {len(turns)} turns, rotary {operation['rotary']}")
        positions = numpy.arange(first, len(self.tokens))
        y = operations.rope(self._heads(operation, first), positions, turns, operation["half"], self.model.cosines,
                            bounds)
        return y.reshape(len(y), -1)

    def _head_quant(self, operation, first, bounds):
        return operations.head_quant(self._heads(operation, first), operation["b"], bounds)

    def _key_quant(self, operation, first, bounds):
        return operations.key_quant(self._heads(operation, first), operation["b"], operation["C"], bounds)

    def _value_quant(self, operation, first, bounds):
        return operations.value_quant(self._heads(operation, first), bounds)

    def _attend(self, operation, first, bounds):
        q8, s_q = self._input(operation, 0, first)
        keys_first = 0 if operation["window"] is None else max(0, first - operation["window"] + 1)
        k8, t_k = self._input(operation, 1, keys_first)
        v8, k_v = self._input(operation, 2, keys_first)
        exp15, _, exp31 = self.model.mantissas
        o = operations.attend((q8, s_q, first), (k8, t_k, v8, k_v, keys_first), operation["a2"], operation["window"],
                              self.model.vector(operation, "A"), (exp15, exp31), bounds)
        return o.reshape(len(o), -1)

    def _gate(self, operation, first, bounds):
        up = self._input(operation, 1, first) if len(operation["inputs"]) == 2 else None
        return operations.gate(self._input(operation, 0, first), up, self.model.vector(operation, "A"),
                               operation["F_g"], operation["k"], bounds)

    def _add(self, operation, first, bounds):
        return operations.add(self._input(operation, 0, first), self._input(operation, 1, first), bounds)

    def _softcap(self, operation, first, bounds):
        return operations.capped(self.model.vector(operation, "A"), self._input(operation, 0, first))


class Answer:
    """What the model answers to `prompt`, recomputed beside `output`, the answer to be checked: each token is
    sampled from the true prefix, so it says where the two first differ."""

    def __init__(self, model, prompt, output, settings, finish="length"):
        # After a stop or the greatest length nothing is sampled from the last token; after a RANGE it was tried.
        tried = len(output) + (finish == "range")
        run = Run(model, (list(prompt) + list(output))[:len(prompt) + tried - 1])
        logits = run.logits(len(prompt) - 1)
        self.range = run.range
        possible = tried if run.range is None else max(0, min(tried, run.range[0] - len(prompt) + 1))
        self.output = []
        for count in range(possible):
            try:
                token = sampling.sample(logits[count], model.program["logits_F"], settings, len(prompt) + count,
                                        model.mantissas[1], prompt, output[:count])
            except sampling.OutOfBounds as error:
                self.range = (len(prompt) - 1 + count, len(model.operations), str(error))
                break
            self.output.append(token)

    def agrees_with(self, output, finish):
        return self.output == list(output) and (self.range is not None) == (finish == "range")


def answer_alone(model, prompt, settings, count):
    """The first `count` tokens, or those before a RANGE, one pass a token: slow, and shares no prefix."""
    output = []
    while len(output) < count:
        answer = Answer(model, prompt, output + [0], settings)
        if answer.range is not None:
            return output, answer.range
        output.append(answer.output[-1])
    return output, None


def millionths(text):
    return sampling.divide_half_up(int(decimal.Decimal(text) * 10 ** 12), 10 ** 6)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name in ("bulla", "model", "prompt", "output"):
        parser.add_argument(name)
    parser.add_argument("--finish", default="length", choices=("stop", "length", "range"))
    for name, default in (("temperature", "0"), ("top-p", "1"), ("min-p", "0")):
        parser.add_argument("--" + name, default=default)
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    prompt, output = ([int(token) for token in text.split(",") if token] for text in (given.prompt, given.output))
    settings = sampling.Settings(temperature=millionths(given.temperature), top_p=millionths(given.top_p),
                                 min_p=millionths(given.min_p), top_k=given.top_k, seed=given.seed)
    answer = Answer(Model(given.bulla, given.model), prompt, output, settings, given.finish)
    print(json.dumps({"output": answer.output, "range": answer.range}))
    sys.exit(0 if answer.agrees_with(output, given.finish) else 1)


if __name__ == "__main__":
    main()
