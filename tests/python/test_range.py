#!/usr/bin/env python3
"""No RANGE on the demo models: over mixed lines, code, Chinese, prompts of random tokens and one run to the full
context; and how close the values of each kind of operation come to their bounds.

Counts: 10,000 lines, 2,000 random prompts and the whole context where BULLA_TEST_COUNTS is full, else fewer. The
sequences run through the engine (tests/tool_range.c); headroom is measured on a sample, an operation at a time.

usage: test_range.py [MODEL]...     smollm2, gemma3
"""
import glob
import json
import os
import random
import struct
import subprocess
import sys
import sysconfig

import demo_models
from checks import Checks
from lines import SENTENCES, lines

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
LINES, PROMPTS, LINE_TOKENS = (10000, 2000, 512) if FULL else (70, 25, 128)
CODE_TOKENS, CHINESE_TOKENS, LONG_TOKENS = (40000, 30000, 0) if FULL else (1024, 512, 512)
PIECE = 512
TOOL = os.path.join(demo_models.BUILD, "tests", "tool_range")
ROOM = -1.0  # log2 of the largest value over its bound: at least a factor of 2 is left


def ids_record(ids):
    return struct.pack(f"<III{len(ids)}I", 0, len(ids), 0, *ids)


def text_record(text, limit):
    return struct.pack("<III", 1, len(text), limit) + text


def read(path):
    with open(path, "rb") as file:
        return file.read()


def python_sources():
    for path in sorted(glob.glob(os.path.join(sysconfig.get_paths()["stdlib"], "*.py"))):
        yield read(path)


def c_sources():
    for path in sorted(glob.glob(os.path.join(demo_models.ROOT, "src", "*", "*.c"))):
        yield read(path)


def pieces(texts, tokens):
    """Records of about PIECE tokens (3 bytes each) until there are `tokens`."""
    result = []
    for text in texts:
        for start in range(0, len(text), 3 * PIECE):
            if len(result) * PIECE >= tokens:
                return result
            result.append(text_record(text[start:start + 3 * PIECE], PIECE))
    return result


def interleaved(*generators):
    generators = list(generators)
    while generators:
        for generator in list(generators):
            text = next(generator, None)
            if text is None:
                generators.remove(generator)
            else:
                yield text


def chinese_texts():
    """Long Chinese texts: the sentences of the catalogues and of lines.py, in changing order."""
    source = random.Random(7)
    sentences = [line.decode() for line in lines(4000, seed=9, valid=True)
                 if any("\u4e00" <= character <= "\u9fff" for character in line.decode())]
    sentences += [SENTENCES["zh"], SENTENCES["zh-tw"]] * 20
    while True:
        source.shuffle(sentences)
        yield "\n".join(sentences).encode()


def chinese():
    return pieces(chinese_texts(), CHINESE_TOKENS)


def random_prompts(vocabulary):
    source = random.Random(11)
    return [ids_record([source.randrange(vocabulary) for _ in range(source.randint(1, 64))]) for _ in range(PROMPTS)]


def long_text():
    """More than any demo model's context: prose of many languages and code in turns."""
    parts, size = [], 0
    for text in interleaved(c_sources(), python_sources()):
        parts += [text, "\n\n".join(SENTENCES.values()).encode()]
        size += len(text)
        if size > 1 << 20:
            break
    return b"\n\n".join(parts)


def run(path, mode, records):
    done = subprocess.run([TOOL, path, mode], input=b"".join(records), capture_output=True)
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode(errors="replace")


def check_runs(checks, name, path, program):
    groups = {
        "mixed lines": [text_record(line, LINE_TOKENS) for line in lines(LINES, seed=5)],
        "code": pieces(interleaved(c_sources(), python_sources()), CODE_TOKENS),
        "Chinese": chinese(),
        "random prompts": random_prompts(program["vocabulary"]),
        "one long run": [text_record(long_text(), LONG_TOKENS)],
    }
    for group, records in groups.items():
        code, printed, error = run(path, "run", records)
        done = printed[-1].split() if printed else ["nothing"]
        if not checks.true(code == 0 and done[0] == "done", f"{name}, {group}: ended with {code}: {error[-400:]}"):
            continue
        raised = [line for line in printed if line.startswith("range")]
        for line in raised[:3]:
            operation = program["operations"][int(line.split()[3])]
            print(f"    {line}: {operation['kind']} of layer {operation['layer']}", flush=True)
        checks.equal(len(raised), 0, f"{name}, {group}: sequences with RANGE")
        print(f"{name}, {group}: {done[1]} sequences, {done[2]} tokens, {len(raised)} RANGE", flush=True)
        if group == "one long run":
            wanted = LONG_TOKENS or program["context"]
            checks.equal(int(done[2]), wanted, f"{name}: tokens of the long run")


def check_headroom(checks, name, path, program):
    sample = ([text_record(line, 64) for line in lines(60, seed=6)] + random_prompts(program["vocabulary"])[:20] +
              pieces(c_sources(), 512) + chinese()[:1])
    code, printed, error = run(path, "headroom", sample)
    if not checks.true(code == 0 and printed, f"{name}, headroom: ended with {code}: {error[-400:]}"):
        return
    closest = {}
    for line in printed:
        index, kind, bound, room = line.split()
        key = f"{kind} {bound}"
        if key not in closest or float(room) > closest[key][0]:
            closest[key] = (float(room), int(index))
    for key, (room, index) in sorted(closest.items(), key=lambda item: -item[1][0]):
        layer = program["operations"][index]["layer"]
        print(f"{name}, headroom: {key:20} within 2^{room:.2f} of its bound (operation {index}, layer {layer})", flush=True)
        checks.true(room <= ROOM, f"{name}: {key} of operation {index} comes within 2^{room:.2f} of its bound")


def main(names):
    if not os.path.exists(TOOL) or not os.path.exists(demo_models.PROGRAM):
        Checks.skip(f"{TOOL} is not built")
    if not demo_models.sources():
        Checks.skip("no demo models (BULLA_MODELS)")
    checks = Checks()
    for name, _ in demo_models.sources():
        if names and name not in names:
            continue
        path = demo_models.model(name)
        program = json.loads(subprocess.run([demo_models.PROGRAM, "inspect", path, "--program"], check=True,
                                            stdout=subprocess.PIPE).stdout)
        check_headroom(checks, name, path, program)
        check_runs(checks, name, path, program)
    checks.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
