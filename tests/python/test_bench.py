#!/usr/bin/env python3
"""What `make bench` measures with, without its peer: how rows are made of measurements, how settings are chosen, what is
seen of processes, and the model of random weights in a small shape."""
import contextlib
import io
import os
import subprocess
import sys
import tempfile

import gguf

import tiny_gguf
from checks import Checks
from small_source import PROGRAM, ROOT

sys.path.insert(0, os.path.join(ROOT, "bench"))
import chat_speed
import engines
import large_model
import processes
import speed
import tables


class Side:
    """Gives the speeds it was made with, one after another."""

    def __init__(self, name, speeds):
        self.name, self.speeds = name, list(speeds)

    def speed(self, case):
        return self.speeds.pop(0)


def check_rows(checks):
    sides = [Side("Bulla", [30, 10, 20]), Side("Q8_0", [5, 4, 8])]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        row = speed.measure(sides, "decode", "tokens/s", lambda side: side.speed(None), 3)
    checks.equal(row["Bulla"], {"median": 20, "low": 10, "high": 30, "values": [30, 10, 20]}, "median and spread")
    checks.equal(row["ratio to Q8_0"], 4.0, "the ratio of medians")
    checks.contains(printed.getvalue(), "Bulla 20.0 (10.0 to 30.0)  Q8_0 5.00 (4.00 to 8.00)  4.00 x Q8_0", "a line")
    chat = {"what": "chat, decode", "unit": "tokens/s", "questions": 2, "tokens": 48, "with": row["Bulla"],
            "without": row["Q8_0"], "ratio": 4.0}
    bandwidth = {"bytes a token": 136.5e6, "GB/s": 20.0, "memory GB/s by bytes read": {136500000: 25.0, 1 << 30: 24.0},
                 "share": 0.8}
    text = tables.markdown({"machine": {"processor": "a processor"}, "threads": 2, "models": [
        {"model": "m.gguf", "sides": ["Bulla", "Q8_0"], "rows": [row], "bandwidth": bandwidth, "speculation": chat}]})
    for part in ("| decode, tokens/s | 20.0 (10.0 to 30.0) | 5.00 (4.00 to 8.00) | 4.00 |\n",
                 "136.5 MB of weights are read a token, 20.0 GB/s; memory gives 25.0 over 136 MB, 24.0 over 1073 MB",
                 "80 %", "with speculation 20.0"):
        checks.contains(text, part, "the tables")


def check_settings(checks):
    """The best of each case's candidates is chosen and used, with fewer threads where those are faster."""
    class Peer(engines.Llama):
        def measured(self, case, settings):
            return settings.flash_attention * 100 + (settings.ubatch == 2048) * 10 - (settings.threads if case.decode else 0)

    peer = Peer("Q8_0", "folder", "model", 2)
    checks.equal(peer.choose(speed.QUICK_CASES[0]), {"flash_attention": 1, "ubatch": 2048, "threads": 1}, "for prefill")
    checks.equal(peer.choose(speed.DECODE), {"flash_attention": 1, "ubatch": 512, "threads": 1}, "for decode")
    checks.equal(peer.speed(speed.DECODE), 99, "the case's own settings are used")
    checks.contains(peer.evaluate(4096), "-fa", "a command for memory, before its case was measured")


def check_processes(checks):
    first, last = processes.output_times(["sh", "-c", "sleep 0.2; echo a; sleep 0.2; echo b; sleep 0.2"])
    checks.true(0.2 <= first < last - 0.15, f"first output after {first} s, last after {last} s")
    bytes_held = 64 << 20
    peak = processes.peak_pss([sys.executable, "-c", f"x = bytearray({bytes_held}); import time; time.sleep(0.3)"])
    checks.true(64 <= peak < 200, f"64 MiB and an interpreter: {peak} MiB")
    for what, call in (("times", processes.output_times), ("memory", processes.peak_pss)):
        try:
            call(["sh", "-c", "echo a; exit 3"])
            checks.true(False, f"{what} of a program that fails")
        except SystemExit as ended:
            checks.contains(str(ended), "ended with 3", f"{what} of a program that fails")


def check_large_model(checks, folder):
    large_model.LAYERS, large_model.HIDDEN, large_model.INNER = 2, 64, 96
    large_model.HEADS, large_model.KV_HEADS, large_model.HEAD_SIZE = 4, 2, 16
    tokenizer, path, imported = (os.path.join(folder, name) for name in ("tokenizer.gguf", "random.gguf", "random.bulla"))
    tiny_gguf.write(tokenizer, "llama")
    large_model.write(path, tokenizer)
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    checks.equal(len(found), 3 + 2 * 9, "tensors")
    down = found["blk.1.ffn_down.weight"]
    checks.equal((list(down.shape), down.tensor_type), ([96, 64], gguf.GGMLQuantizationType.Q8_0), "a matrix")
    weights = gguf.quants.dequantize(down.data, down.tensor_type)
    checks.true(abs(weights.std() - large_model.SPREAD) < 0.1 * large_model.SPREAD and abs(weights.mean()) < 0.002,
                f"its weights spread by {weights.std()} about {weights.mean()}")
    subprocess.run([PROGRAM, "import", path, "--fast", "-o", imported], check=True, capture_output=True)
    bulla = engines.Bulla(PROGRAM, imported, 2)
    checks.true(bulla.speed(engines.Case("decode", decode=4, depth=4, streams=2)) > 0, "Bulla runs it")
    checks.true(bulla.speed(engines.Case("prefill", prefill=8)) > 0, "and its prompt")
    checks.equal(bulla.profile(engines.Case("decode", decode=4, depth=4))["decode"]["tokens"], 4, "and profiles it")
    first, last = processes.output_times(bulla.first_token())
    checks.true(0 < first <= last, "its first token")
    if not chat_speed.has_speculation(bulla):
        checks.equal(chat_speed.measure(bulla, 1), None, "no row where the program does not speculate")


def main():
    checks = Checks()
    check_rows(checks)
    check_settings(checks)
    check_processes(checks)
    with tempfile.TemporaryDirectory() as folder:
        check_large_model(checks, folder)
    checks.finish()


if __name__ == "__main__":
    main()
