#!/usr/bin/env python3
"""Bulla and llama.cpp in one run, alternately, on the same GGUF with the same threads.

usage: bench/speed.py [options]         needs python3 alone; `make bench` builds what it measures

  --models FOLDER   the demo GGUFs (BULLA_MODELS)
  --model NAME      part of a GGUF's file name; may be given again (all)
  --build FOLDER    build tree with src/bulla and bench/bandwidth (build/release)
  --threads N       of both (2)
  --rounds N        measurements of each, alternately (5)
  --quick           prefill of 512, decode of 128 after 128, and the first token alone
  --large           a model of 3.1 * 10^9 random weights instead of the demo models, against its Q4_K_M; takes an hour
                    the first time, and 12 GB in the cache (needs numpy and gguf: scripts/bench sees to that)
  --json FILE       where the figures go; FILE with .md instead of .json gets the tables

The peer measures itself (llama-bench, llama-batched-bench) on the GGUF as it is and on its Q8_0 (llama-quantize). Its
flash attention, batch and threads (1 or N) are the best of those tried in the same run, for each case by itself. Each
line: medians, spread (lowest and highest), and the ratio of the medians.
"""
import argparse
import glob
import json
import os
import platform
import re
import statistics
import sys

import chat_speed
import large_model
import peer
import tables
from engines import Bulla, Case, Llama, imported, output_of
from processes import output_times, peak_pss

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DECODE = Case("decode 128 after 128", decode=128, depth=128)
QUICK_CASES = [Case("prefill of 512", prefill=512), DECODE]
CASES = QUICK_CASES + [Case("prefill of 4,096", prefill=4096), Case("decode 128 after 4,096", decode=128, depth=4096),
                       Case("8 streams, decode 64 after 128", decode=64, depth=128, streams=8),
                       Case("32 streams, decode 64 after 128", decode=64, depth=128, streams=32)]
LARGE_DECODE = Case("decode 32 after 128", decode=32, depth=128)
LARGE_CASES = [QUICK_CASES[0], LARGE_DECODE]
CONTEXT = 4096  # of the memory measured


def measure(sides, what, unit, call, rounds):
    """A row: call(side) of each, alternately, so that the machine's changing speed meets all alike."""
    found = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            found[side.name].append(call(side))
    row = {"what": what, "unit": unit}
    for name, values in found.items():
        row[name] = {"median": statistics.median(values), "low": min(values), "high": max(values), "values": values}
    for side in sides[1:]:
        row["ratio to " + side.name] = row[sides[0].name]["median"] / row[side.name]["median"]
    print(tables.line(row, [side.name for side in sides]), flush=True)
    return row


def measure_case(sides, case, rounds, settings):
    settings[case.name] = {side.name: side.choose(case) for side in sides}
    return measure(sides, case.name, "tokens/s", lambda side: side.speed(case), rounds)


def share_of_bandwidth(bulla, case, decode_row, build):
    """How near decoding comes to reading the weights as fast as memory gives them. What counts as read: the packed
    weights of every linear operation (the head too) with each row's constants, and one row of the embedding. Keys,
    values and activations do not count."""
    profile = bulla.profile(case)
    bytes_a_token = sum(stage["weight_bytes"] for stage in profile["decode"]["stages"]) / profile["decode"]["tokens"]
    tool, threads = os.path.join(build, "bench", "bandwidth"), str(bulla.threads)
    sizes = sorted({profile["weight_bytes"], 1 << 30})
    bandwidth = {size: float(output_of(tool, str(size), threads)) for size in sizes}
    speed = bytes_a_token * decode_row[bulla.name]["median"] * 1e-9
    row = {"bytes a token": bytes_a_token, "GB/s": speed, "memory GB/s by bytes read": bandwidth,
           "share": speed / max(bandwidth.values())}
    print("  reading weights while decoding %.1f GB/s; memory gives %s: %.0f %%" % (
        speed, ", ".join("%.1f over %d MB" % (found, size // 1000000) for size, found in bandwidth.items()),
        100 * row["share"]), flush=True)
    return row, profile


def measure_sides(sides, cases, decode, arguments):
    bulla = sides[0]
    result = {"settings": {}, "rows": []}
    for case in cases:
        row = measure_case(sides, case, arguments.rounds, result["settings"])
        result["rows"].append(row)
        if case == decode:
            result["bandwidth"], result["profile of decode"] = share_of_bandwidth(bulla, case, row, arguments.build)
    for side in sides:  # the file cache is warm after this
        output_times(side.first_token())
    result["rows"].append(measure(sides, "load to first token", "s", lambda side: output_times(side.first_token())[0],
                                  arguments.rounds))
    if not arguments.quick:
        result["rows"].append(measure(sides, "peak PSS, prompt of 4,096", "MiB",
                                      lambda side: peak_pss(side.evaluate(CONTEXT)), 1))
    return result


def measure_model(model, arguments, folder):
    imported = imported(arguments.program, model)
    bulla = Bulla(arguments.program, imported, arguments.threads)
    sides = [bulla, Llama("Q8_0", folder, peer.quantised(folder, model, "Q8_0"), arguments.threads),
             Llama("as published", folder, model, arguments.threads)]
    print("%s, %d threads" % (os.path.basename(model), arguments.threads), flush=True)
    result = {"model": os.path.basename(model), "sides": [side.name for side in sides]}
    result.update(measure_sides(sides, QUICK_CASES if arguments.quick else CASES, DECODE, arguments))
    if not arguments.quick:
        result["profile of prefill"] = bulla.profile(QUICK_CASES[0])
    result["speculation"] = chat_speed.measure(bulla, 1 if arguments.quick else arguments.rounds)
    print(tables.speculation_line(result["speculation"]), flush=True)
    return result


def measure_large(arguments, folder):
    source = large_model.source(arguments.models)
    sides = [Bulla(arguments.program, imported(arguments.program, source, "--fast"), arguments.threads),
             Llama("Q4_K_M", folder, peer.quantised(folder, source, "Q4_K_M"), arguments.threads)]
    print("%s, %d threads" % (os.path.basename(source), arguments.threads), flush=True)
    result = {"model": os.path.basename(source), "sides": [side.name for side in sides]}
    result.update(measure_sides(sides, LARGE_CASES, LARGE_DECODE, arguments))
    return result


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        name = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.M)
    return {"processor": name.group(1) if name else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release(), "load before": os.getloadavg()}


def parse():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--models", default=os.environ.get("BULLA_MODELS"))
    parser.add_argument("--model", action="append")
    parser.add_argument("--build", default=os.environ.get("BULLA_BUILD") or os.path.join(ROOT, "build", "release"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--help", action="store_true")
    arguments = parser.parse_args()
    if arguments.help:
        print(__doc__)
        sys.exit(0)
    if not arguments.models:
        sys.exit("speed: where are the models? Give --models FOLDER or set BULLA_MODELS (see scripts/fetch-models)")
    if arguments.rounds < 1 or arguments.threads < 1:
        sys.exit("speed: --rounds and --threads are at least 1")
    arguments.program = os.path.join(arguments.build, "src", "bulla")
    return arguments


def main():
    arguments = parse()
    folder = peer.programs()
    report = {"machine": machine(), "peer": peer.describe(folder), "threads": arguments.threads}
    if report["machine"]["load before"][0] > 0.5:
        print("speed: this machine is busy (load %.1f): the figures are not to be trusted" %
              report["machine"]["load before"][0], file=sys.stderr)
    if arguments.large:
        report["models"] = [measure_large(arguments, folder)]
    else:
        report["models"] = [measure_model(model, arguments, folder)
                            for model in sorted(glob.glob(os.path.join(arguments.models, "*.gguf")))
                            if not arguments.model or any(part in model for part in arguments.model)]
    print("\n" + tables.markdown(report))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
        with open(os.path.splitext(arguments.json)[0] + ".md", "w", encoding="utf-8") as file:
            file.write(tables.markdown(report))


if __name__ == "__main__":
    main()
