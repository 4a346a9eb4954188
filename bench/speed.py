#!/usr/bin/env python3
"""Bulla and llama.cpp in one run, alternately, on the same GGUF with the same threads.

usage: bench/speed.py [options]         needs python3 alone; `make bench` builds what it measures

  --models FOLDER   the demo GGUFs (BULLA_MODELS)
  --model NAME      part of a GGUF's file name; may be given again (all)
  --build FOLDER    build tree with src/bulla and bench/bandwidth (build/release)
  --threads N       of both (2)
  --rounds N        measurements of each, alternately (5)
  --quick           prefill of 512 and decode of 128 after 128 alone
  --json FILE       where the figures go

The peer measures itself (llama-bench, llama-batched-bench) on the GGUF as it is and on its Q8_0 (llama-quantize); its
flash attention and batch size are the better of those tried in the same run. Each line: median, spread (lowest and
highest), and the ratio of the medians.
"""
import argparse
import glob
import json
import os
import re
import statistics
import subprocess
import sys
import time

import peer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def output_of(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("%s\n%s" % (" ".join(command), done.stderr[-2000:]))
    return done.stdout


class Bulla:
    name = "bulla"

    def __init__(self, program, model, threads):
        self.program, self.model, self.threads = program, model, threads

    def bench(self, *options):
        text = output_of(self.program, "bench", self.model, "--threads", str(self.threads), "--json", "--repetitions", "1",
                         *options)
        return json.loads(text)

    def prefill(self, length):
        return self.bench("--prefill", str(length), "--decode", "0")["prefill_tokens_per_second"]

    def decode(self, depth, streams=1):
        return self.bench("--prefill", "0", "--decode", "128" if streams == 1 else "64", "--depth", str(depth), "--streams",
                          str(streams))["decode_tokens_per_second"]


class Llama:
    def __init__(self, name, folder, model, threads):
        self.name, self.folder, self.model, self.threads = name, folder, model, threads
        self.flash, self.batch = "0", "512"

    def bench(self, *options):
        text = output_of(os.path.join(self.folder, "llama-bench"), "-m", self.model, "-t", str(self.threads), "-fa", self.flash,
                         "-ub", self.batch, "-b", "2048", "-r", "1", "-o", "json", *options)
        return json.loads(text)[-1]["avg_ts"]

    def choose(self):
        """Its best settings for each thing measured, by one run of each."""
        best = 0
        for flash in ("0", "1"):
            for batch in ("128", "512", "2048"):
                self.flash, self.batch = flash, batch
                speed = self.prefill(512)
                if speed > best:
                    best, chosen = speed, (flash, batch)
        self.flash, self.batch = chosen
        return {"flash_attention": chosen[0], "ubatch": chosen[1]}

    def prefill(self, length):
        return self.bench("-p", str(length), "-n", "0")

    def decode(self, depth, streams=1):
        if streams == 1:
            return self.bench("-p", "0", "-n", "128", "-d", str(depth))
        text = output_of(os.path.join(self.folder, "llama-batched-bench"), "-m", self.model, "-t", str(self.threads),
                         "-c", str((depth + 128) * streams), "-npp", str(depth), "-ntg", "64", "-npl", str(streams),
                         "-fa", "on" if self.flash == "1" else "off", "--output-format", "jsonl")
        rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return rows[-1]["speed_tg"]


def measure(sides, name, call, rounds):
    """Alternately, so that the machine's changing speed meets all sides alike."""
    figures = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            figures[side.name].append(call(side))
    row = {"what": name}
    for side in sides:
        values = figures[side.name]
        row[side.name] = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    for side in sides[1:]:
        row["ratio to " + side.name] = row[sides[0].name]["median"] / row[side.name]["median"]
    print("  %-28s" % name + "".join("  %s %.1f (%.1f to %.1f)" % (
        side.name, row[side.name]["median"], row[side.name]["low"], row[side.name]["high"]) for side in sides) +
        "".join("  %.2f x %s" % (row["ratio to " + side.name], side.name) for side in sides[1:]), flush=True)
    return row


def peak_pss(command):
    """Highest proportional set size of a process, MiB, sampled."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            with open("/proc/%d/smaps_rollup" % process.pid, encoding="ascii") as file:
                found = re.search(r"^Pss:\s+(\d+)", file.read(), re.M)
                peak = max(peak, int(found.group(1)) if found else 0)
        except OSError:
            pass
        time.sleep(0.02)
    return peak / 1024


def quantised(folder, model, cache):
    target = os.path.join(cache, os.path.basename(model)[:-5] + ".Q8_0.gguf")
    if not os.path.exists(target):
        output_of(os.path.join(folder, "llama-quantize"), "--allow-requantize", model, target + ".partial", "Q8_0")
        os.rename(target + ".partial", target)
    return target


def measure_model(model, arguments, folder):
    cache = peer.cache_folder()
    program = os.path.join(arguments.build, "src", "bulla")
    imported = os.path.join(cache, os.path.basename(model)[:-5] + ".bulla")
    output_of(program, "import", model, "-o", imported)
    q8 = quantised(folder, model, cache)
    sides = [Bulla(program, imported, arguments.threads), Llama("Q8_0", folder, q8, arguments.threads),
             Llama("as published", folder, model, arguments.threads)]
    result = {"model": os.path.basename(model), "settings": {side.name: side.choose() for side in sides[1:]}, "rows": []}
    print("%s, %d threads; peer's settings %s" % (result["model"], arguments.threads, result["settings"]), flush=True)
    cases = [("prefill of 512", lambda side: side.prefill(512)), ("decode 128 after 128", lambda side: side.decode(128))]
    if not arguments.quick:
        cases += [("prefill of 4,096", lambda side: side.prefill(4096)), ("decode 128 after 4,096", lambda side: side.decode(4096)),
                  ("8 streams, decode", lambda side: side.decode(128, 8)), ("32 streams, decode", lambda side: side.decode(128, 32))]
    for name, call in cases:
        result["rows"].append(measure(sides, name, call, arguments.rounds))
    size = os.path.getsize(imported)
    bandwidth = [float(output_of(os.path.join(arguments.build, "bench", "bandwidth"), str(n), str(arguments.threads)))
                 for n in (size, 1 << 30)]
    result["bandwidth"] = {"GB/s over the model's size": bandwidth[0], "GB/s over 1 GiB": bandwidth[1]}
    print("  reading memory: %.1f GB/s over the model's size, %.1f over 1 GiB" % tuple(bandwidth))
    if not arguments.quick:
        threads = str(arguments.threads)
        ours = peak_pss([program, "bench", imported, "--threads", threads, "--prefill", "4096", "--decode", "0",
                         "--repetitions", "1"])
        theirs = peak_pss([os.path.join(folder, "llama-bench"), "-m", q8, "-t", threads, "-p", "4096", "-n", "0", "-r", "1"])
        result["peak_pss_mib"] = {"bulla": ours, "Q8_0": theirs, "ratio": ours / theirs}
        print("  peak memory, prompt of 4,096: bulla %.0f MiB, Q8_0 %.0f MiB, %.2f x" % (ours, theirs, ours / theirs))
    return result


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--models", default=os.environ.get("BULLA_MODELS"))
    parser.add_argument("--model", action="append")
    parser.add_argument("--build", default=os.environ.get("BULLA_BUILD") or os.path.join(ROOT, "build", "release"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--help", action="store_true")
    arguments = parser.parse_args()
    if arguments.help:
        print(__doc__)
        return
    if not arguments.models:
        sys.exit("speed: where are the models? Give --models FOLDER or set BULLA_MODELS (see scripts/fetch-models)")
    folder = peer.programs()
    models = [model for model in sorted(glob.glob(os.path.join(arguments.models, "*.gguf")))
              if not arguments.model or any(part in model for part in arguments.model)]
    report = {"peer": peer.describe(folder), "models": [measure_model(model, arguments, folder) for model in models]}
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
