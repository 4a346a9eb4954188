#!/usr/bin/env python3
"""What a dispute costs: the referee's time and memory, messages and bytes, and the challenger's work beside one audit.

usage: bench/dispute.py [options]       needs python3 alone; scripts/build-tree release src/bulla tests/tool_dispute builds what it measures

  --model FILE      model (SmolLM2 of $BULLA_MODELS)
  --build FOLDER    build tree with src/bulla (build/release)
  --prompt N        tokens of the prompt (512)
  --tokens N        answered (128)
  --disputes N      of one honest answer, each by a challenger whose run has one bit wrong (3)
  --threads N       of all (as many as there are cores)
  --json FILE       where the figures go

The referee is a process with a SQLite store, reached by TLS; its time is its CPU time for all disputes, TLS, signed statements to
parties that look ten times a second, and text and tokens included, divided by their number; deciding alone is the same log replayed. Its memory is its largest resident set, and what of it is no mapped file. The challenger's time is the
CPU time of its process without the audit, which is the model's opening, two runs and messages; beside it stands that of `bulla audit`
for the same answer (opening and one teacher-forced run). The honest path has nothing of this: an answer that nobody disputes costs its receipt.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "python"))
sys.path.insert(0, os.path.join(ROOT, "bench"))


OPERATIONS = (40, 77, 112, 150, 201)  # some of SmolLM2's


def timed(command):
    """(CPU seconds, output) of a process."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = process.stdout.read().decode()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime, output


def decide(program, referee, disputes):
    """CPU milliseconds of a dispute in the referee's log: the replay of all of it, without that of the log's beginning."""
    log, start = os.path.join(referee.place, "log"), os.path.join(referee.place, "start")
    with open(log, encoding="utf-8") as file, open(start, "w", encoding="utf-8") as first:
        first.writelines(file.readlines()[:2])
    times = [min(timed([program, "dispute", "replay", path, *referee.parts])[0] for _ in range(3)) for path in (log, start)]
    return 1000 * (times[0] - times[1]) / disputes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--disputes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json")
    options = parser.parse_args()
    os.environ["BULLA_BUILD"] = options.build
    from audit import ask
    from demo_models import sources
    from serving import PROGRAM, Server, cpu_seconds, memory_bytes
    from test_dispute import Bench, Referee
    model = options.model or dict(sources())["smollm2"]
    draws = random.Random(1)
    figures = {"prompt": options.prompt, "tokens": options.tokens, "disputes": options.disputes}
    with tempfile.TemporaryDirectory() as folder:
        with Server(model, tls=False, arguments=["--threads", str(options.threads)]) as server:
            document = ask(server, [draws.randrange(1000, 20000) for _ in range(options.prompt)], options.tokens, 1)[2]
        bench = Bench(folder, model)
        path = bench.write(document)
        figures["audit_cpu_s"] = timed([PROGRAM, "audit", path, "--model", model, "--threads", str(options.threads)])[0]
        figures["part_bytes"] = os.path.getsize(bench.part)
        with Referee(bench.name(".referee"), [bench.part]) as referee:
            key, public = bench.key()
            proposer = bench.respond(referee, path, key)
            bench.until(proposer, "pending")
            before, work = cpu_seconds(referee.process.pid), []
            for number in range(options.disputes):
                fault = f"fault:{OPERATIONS[number % len(OPERATIONS)]},1,{options.prompt // 2},{7 * number + 3},9"
                work.append(timed([os.path.join(options.build, "tests", "tool_dispute"), "challenge", model, bench.name(".pem"),
                                   referee.url, os.path.join(referee.place, "tls", "certificate.pem"), path, public, fault])[0])
            time.sleep(0.5)
            figures["referee_cpu_ms"] = 1000 * (cpu_seconds(referee.process.pid) - before) / options.disputes
            figures["referee_memory"] = memory_bytes(referee.process.pid, "VmHWM")
            figures["referee_memory_own"] = memory_bytes(referee.process.pid, "RssAnon")
            proposer.terminate()
            proposer.communicate()
            disputes = referee.replay()["answers"][0]["disputes"]
            figures["decide_cpu_ms"] = decide(PROGRAM, referee, options.disputes)
        figures["challenger_cpu_s"] = max(work)
        figures["messages"] = max(dispute["messages"] for dispute in disputes)
        figures["bytes"] = max(dispute["bytes"] for dispute in disputes)
        figures["outcomes"] = sorted({dispute["why"] for dispute in disputes})
    for name, value in figures.items():
        print(f"{name:20} {value}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file)


if __name__ == "__main__":
    main()
