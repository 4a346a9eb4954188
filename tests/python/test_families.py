#!/usr/bin/env python3
"""Every family of models and every feature against logits that transformers computed in float32 from small
models with outlier channels (tests/goldens, made by its make_goldens.py): within LIMIT, and with the feature
switched off in config.json or in the weights, the same golden missed by three times that.

The logits come from bench/logits of the build tree: records of u32 (n, n ids, first position wanted) in; i32 F,
u32 vocabulary and the rows of i32 out, little-endian.

usage: test_families.py [NAME]...
"""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy
import safetensors.numpy

from checks import Checks

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDENS = os.path.join(ROOT, "tests", "goldens")
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
PROGRAM, TOOL = os.path.join(BUILD, "src", "bulla"), os.path.join(BUILD, "bench", "logits")
LIMIT = 0.03
ONE = {"F32": struct.pack("<f", 1), "F16": struct.pack("<e", 1), "BF16": struct.pack("<f", 1)[2:]}


def edit_config(path, place, value):
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    *parents, last = place.split(".")
    member = config
    for parent in parents:
        member = member[parent]
    member[last] = value
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)


def fill_tensors(path, pattern, value):
    """Sets all elements of the tensors whose name matches to 0 or 1; their number."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    length = struct.unpack_from("<Q", data)[0]
    filled = 0
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__" and re.search(pattern, name):
            element = ONE[entry["dtype"]] if value else bytes(len(ONE[entry["dtype"]]))
            first, end = (8 + length + offset for offset in entry["data_offsets"])
            data[first:end] = element * ((end - first) // len(element))
            filled += 1
    with open(path, "wb") as file:
        file.write(data)
    return filled


def logits(folder, options, ids, positions):
    """Bulla's logits of the last positions as numbers, or a sentence on what went wrong."""
    model = os.path.join(folder, "model.bulla")
    done = subprocess.run([PROGRAM, "import", folder, *options, "-o", model], capture_output=True)
    if done.returncode != 0:
        return f"import ended with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}"
    record = numpy.concatenate(([len(ids)], ids, [len(ids) - positions])).astype("<u4").tobytes()
    done = subprocess.run([TOOL, model], input=record, capture_output=True)
    if done.returncode != 0 or len(done.stdout) < 8:
        return f"logits ended with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}"
    fraction_bits, vocabulary = struct.unpack_from("<iI", done.stdout)
    values = numpy.frombuffer(done.stdout, "<i4", offset=8)
    if values.size != positions * vocabulary:
        return f"{values.size} logits, expected {positions} x {vocabulary}"
    return values.reshape(positions, vocabulary) / 2.0 ** fraction_bits


def relative_error(found, golden):
    centred = golden - golden.mean(axis=1, keepdims=True)
    return float(numpy.linalg.norm(found - golden) / numpy.linalg.norm(centred))


def run(name, golden, options, ablation=None):
    """Relative error of a golden's logits with or without an ablation, or a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        for file_name in ("config.json", "model.safetensors"):
            shutil.copy(os.path.join(GOLDENS, name, file_name), folder)
        shutil.copy(os.path.join(GOLDENS, "tokenizer.json"), folder)
        if ablation and "config" in ablation:
            edit_config(os.path.join(folder, "config.json"), ablation["config"], ablation["value"])
        elif ablation and not fill_tensors(os.path.join(folder, "model.safetensors"), ablation["tensors"],
                                           ablation["value"]):
            return f"no tensor matches {ablation['tensors']}"
        expected = golden["logits"].astype(numpy.float64)
        found = logits(folder, options, golden["ids"], len(expected))
        if isinstance(found, str):
            return found
        if found.shape != expected.shape:
            return f"logits {found.shape}, expected {expected.shape}"
        return relative_error(found, expected)


def check_golden(checks, name):
    with open(os.path.join(GOLDENS, name, "golden.json"), encoding="utf-8") as file:
        about = json.load(file)
    golden = safetensors.numpy.load_file(os.path.join(GOLDENS, name, "golden.safetensors"))
    error = run(name, golden, about["import_options"])
    good = isinstance(error, float)
    checks.true(good and error <= LIMIT, f"{name} ({about['about']}): {error}, expected at most {LIMIT}")
    print(f"{name:20} {error if not good else format(error, '.4f')}", flush=True)
    for ablation in about["ablations"] if good else []:
        changed = run(name, golden, about["import_options"], ablation)
        checks.true(isinstance(changed, float) and changed >= 3 * LIMIT,
                    f"{name} with {ablation['feature']}: {changed}, expected at least {3 * LIMIT:.2f}")
        shown = format(changed, ".4f") if isinstance(changed, float) else changed
        print(f"    {shown} (float: {ablation['change']:.4f})  {ablation['feature'][:80]}", flush=True)


def main(names):
    for path in (PROGRAM, TOOL):
        if not os.path.exists(path):
            Checks.skip(f"{path} is not built")
    checks = Checks()
    for name in names or sorted(os.listdir(GOLDENS)):
        if os.path.exists(os.path.join(GOLDENS, name, "golden.json")):
            check_golden(checks, name)
    checks.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
