#!/usr/bin/env python3
"""`bulla serve` and llama-server in one run, in turns, on the same GGUF with the same threads, under the same load.

usage: bench/serve.py [options]         needs python3 alone; `make bench-serve` builds what it measures

  --models FOLDER   the demo GGUFs (BULLA_MODELS)
  --model NAME      part of a GGUF's file name (SmolLM2-135M)
  --build FOLDER    build tree with src/bulla and bench/load (build/release)
  --threads N       of both engines (2)
  --clients LIST    levels of load (1,8,32,128)
  --rounds N        measurements of each, in turns (3)
  --quick           a quarter of the requests, one round, no search of the peer's settings
  --side NAME       only "Bulla" or only "llama-server"
  --json FILE       where the figures go; FILE with .md instead of .json gets the table

The load: /v1/completions, streamed, prompts of 16, 64, 256 and 1,024 tokens and answers of 32, 64 and 128 in every
pairing (ids of tokens, drawn with a fixed seed; no two requests share a prefix; end tokens are ignored, so that both
sides answer with as many tokens). Each client sends its next request when the last is answered. bench/load measures,
and says what CPU time it took itself. The peer runs its Q8_0 of the same model; for each level its slots, flash
attention, batch and unified cache are the best of those tried in the same run, by tokens per second; the best time to
the first token that any of its settings gave is kept too. The front's own share is its process's CPU time by the time
of the run: the engine is another process.
"""
import argparse
import dataclasses
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import peer
from engines import imported
from speed import ROOT, machine

sys.path.insert(0, os.path.join(ROOT, "tests", "python"))
from serving import Server, cpu_seconds  # noqa: E402

PROMPTS, ANSWERS = (16, 64, 256, 1024), (32, 64, 128)
VOCABULARY = range(1000, 40000)  # ordinary tokens in the demo models' vocabularies
REQUESTS = {1: 24, 8: 72, 32: 144, 128: 256}
SLOT_POSITIONS = 1024 + 128 + 32
READY_SECONDS = 120


def model_name(url):
    with urllib.request.urlopen(url + "/v1/models", timeout=READY_SECONDS) as answer:
        return json.load(answer)["data"][0]["id"]


def write_load(path, model, count, seed):
    """`count` requests, every pairing of lengths equally often, in a random order."""
    source = random.Random(seed)
    pairs = [(prompt, answer) for prompt in PROMPTS for answer in ANSWERS]
    source.shuffle(pairs)  # a count that is no multiple of them takes some of all lengths
    requests = [pairs[i % len(pairs)] for i in range(count)]
    source.shuffle(requests)
    with open(path, "w", encoding="utf-8") as file:
        for prompt, answer in requests:
            body = {"model": model, "prompt": [source.choice(VOCABULARY) for _ in range(prompt)], "max_tokens": answer,
                    "ignore_eos": True, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
            print(json.dumps(body), file=file)


class Load:
    def __init__(self, build, folder, scale):
        self.program, self.folder, self.scale, self.runs = os.path.join(build, "bench", "load"), folder, scale, 0

    def run(self, url, clients, share=1.0):
        """A run with prompts of its own, so that no cache of an earlier one helps."""
        self.runs += 1
        count = max(clients, int(REQUESTS.get(clients, 3 * clients) * self.scale * share))
        path = os.path.join(self.folder, "load.jsonl")
        write_load(path, model_name(url), count, self.runs)
        command = [self.program, url + "/v1/completions", path, "--clients", str(clients), "--seconds", "600"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if not done.stdout:
            sys.exit("bench/load: " + done.stderr)
        found = json.loads(done.stdout)
        if found["failed"]:
            sys.exit("%d of %d requests failed: %s" % (found["failed"], found["requests"], found["failures"]))
        return found


# --- the two sides ---

class BullaServer:
    name = "Bulla"

    def __init__(self, program, model, threads):
        self.program, self.model, self.threads = program, model, threads

    def choose(self, load, clients):
        return {"threads": self.threads}

    def measure(self, load, clients, share=1.0):
        with Server(self.model, tls=False, program=self.program, arguments=["--threads", str(self.threads)]) as server:
            load.run(server.url, 1, 0.1)  # what is touched first
            before = cpu_seconds(server.pid)
            found = load.run(server.url, clients, share)
            found["front_cpu_seconds"] = cpu_seconds(server.pid) - before
            found["front_share"] = found["front_cpu_seconds"] / found["seconds"]
        return found


    def starts(self, rounds):
        """Seconds from the command to ready, and from kill -9 in the middle of answers to the next answer."""
        cold, after = [], []
        with Server(self.model, tls=False, program=self.program, arguments=["--threads", str(self.threads)],
                    start=False) as server:
            for _ in range(rounds):
                begin = time.monotonic()
                server.start()
                cold.append(time.monotonic() - begin)
                asked = threading.Thread(target=self.answer_cut, args=(server.url,))
                asked.start()
                server.wait(lambda: server.metric("vllm:num_requests_running") > 0, what="an answer")
                server.kill()
                begin = time.monotonic()
                server.start()
                self.answer(server.url, 1)
                after.append(time.monotonic() - begin)
                asked.join()
                server.stop()
        return {"start to ready, s": statistics.median(cold), "kill -9 to the next answer, s": statistics.median(after)}

    @staticmethod
    def answer(url, tokens):
        body = {"model": model_name(url), "prompt": "a", "max_tokens": tokens, "ignore_eos": True}
        request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=READY_SECONDS) as answer:
            return json.load(answer)

    def answer_cut(self, url):
        try:
            self.answer(url, 4000)
        except OSError:
            pass  # as is meant to happen


@dataclasses.dataclass(frozen=True)
class Settings:
    slots: int
    flash_attention: str = "on"
    ubatch: int = 512
    unified: bool = False


class LlamaServer:
    name = "llama-server"

    def __init__(self, folder, model, threads, searches):
        self.program, self.model, self.threads = os.path.join(folder, peer.SERVER), model, threads
        self.searches, self.chosen, self.best_first_token, self.tried = searches, {}, {}, {}

    def choose(self, load, clients):
        """One step after another, each keeping what gave more tokens per second."""
        best = Settings(clients)
        self.tried[clients] = []
        if self.searches:
            speed = self.attempt(load, clients, best)
            fewer = sorted({max(1, clients // 2), max(1, clients // 4)})
            steps = [{"slots": slots} for slots in fewer if slots != clients]
            steps += [{"flash_attention": "off"}, {"ubatch": 2048}, {"ubatch": 128}, {"unified": True}]
            for step in steps:
                candidate = dataclasses.replace(best, **step)
                found = self.attempt(load, clients, candidate)
                if found > speed:
                    best, speed = candidate, found
        self.chosen[clients] = best
        return dataclasses.asdict(best)

    def attempt(self, load, clients, settings):
        found = self.serve(load, clients, settings, 0.5)
        first = found["first_token_seconds"]["p99"]
        self.tried[clients].append({**dataclasses.asdict(settings), "tokens/s": found["output_tokens_per_second"],
                                    "first token p99": first})
        self.best_first_token[clients] = min(first, self.best_first_token.get(clients, first))
        speed = found["output_tokens_per_second"]
        print("    tried %s: %.1f tokens/s, first token p99 %.3f s" % (settings, speed, first), flush=True)
        return speed

    def measure(self, load, clients, share=1.0):
        return self.serve(load, clients, self.chosen[clients], share)

    def command(self, settings, port):
        command = [self.program, "-m", self.model, "--host", "127.0.0.1", "--port", str(port), "--offline", "--no-ui",
                   "-t", str(self.threads), "-np", str(settings.slots), "-c", str(settings.slots * SLOT_POSITIONS),
                   "-b", str(max(2048, settings.ubatch)), "-ub", str(settings.ubatch), "-fa", settings.flash_attention,
                   "--log-disable"]
        return command + ["-kvu" if settings.unified else "-no-kvu"]

    def serve(self, load, clients, settings, share):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        url = "http://127.0.0.1:%d" % port
        process = subprocess.Popen(self.command(settings, port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            wait_ready(process, url)
            load.run(url, 1, 0.1)
            return load.run(url, clients, share)
        finally:
            process.terminate()
            process.wait()


def wait_ready(process, url):
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url + "/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    sys.exit("%s\ndid not become ready" % " ".join(process.args))


# --- the table ---

FIGURES = [("tokens/s", lambda found: found["output_tokens_per_second"]),
           ("first token p50, s", lambda found: found["first_token_seconds"]["p50"]),
           ("first token p99, s", lambda found: found["first_token_seconds"]["p99"]),
           ("between texts p50, s", lambda found: found["between_texts_seconds"]["p50"]),
           ("between texts p99, s", lambda found: found["between_texts_seconds"]["p99"]),
           ("answer p50, s", lambda found: found["answer_seconds"]["p50"]),
           ("answer p99, s", lambda found: found["answer_seconds"]["p99"]),
           ("load's share of a core", lambda found: found["own_share_of_one_core"])]


def summarise(level, sides):
    rows = []
    for what, figure in FIGURES:
        row = {"what": what, **{side.name: statistics.median(map(figure, level["runs"][side.name])) for side in sides}}
        if len(sides) == 2 and row[sides[1].name]:
            row["ratio"] = row[sides[0].name] / row[sides[1].name]
        rows.append(row)
    shares = [found["front_share"] for found in level["runs"].get("Bulla", [])]
    if shares:
        rows.append({"what": "front's CPU time by the run's time", "Bulla": statistics.median(shares)})
    if level.get("peer's best first token p99"):
        rows.append({"what": "first token p99, s, of the peer's best setting for it",
                     "llama-server": level["peer's best first token p99"]})
    return rows


def markdown(report):
    names = report["sides"]
    lines = ["%s, %d threads, %s, %d cores" % (report["model"], report["threads"], report["machine"]["processor"],
                                              report["machine"]["cores"]), ""]
    lines += ["%s: %.2f" % figure for figure in report.get("starts", {}).items()]
    lines += ["",
             "| clients | | " + " | ".join(names) + " | ratio |", "|---|---|" + "---|" * (len(names) + 1)]
    for level in report["levels"]:
        for row in level["rows"]:
            cells = ["%.4g" % row[name] if name in row else "" for name in names]
            ratio = "%.2f" % row["ratio"] if "ratio" in row else ""
            lines.append("| %d | %s | %s | %s |" % (level["clients"], row["what"], " | ".join(cells), ratio))
        if "settings" in level:
            lines.append("| %d | settings | %s | |" % (level["clients"], " | ".join(
                ", ".join("%s %s" % pair for pair in level["settings"][name].items()) for name in names)))
    return "\n".join(lines) + "\n"


def measure_level(sides, load, clients, rounds):
    level = {"clients": clients, "settings": {side.name: side.choose(load, clients) for side in sides},
             "runs": {side.name: [] for side in sides}}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else sides[::-1]:
            found = side.measure(load, clients)
            level["runs"][side.name].append(found)
            first, between = found["first_token_seconds"], found["between_texts_seconds"]
            print("  %3d clients  %-12s %8.1f tokens/s  first token p50 %.3f p99 %.3f s  between p50 %.4f p99 %.4f s" %
                  (clients, side.name, found["output_tokens_per_second"], first["p50"], first["p99"], between["p50"],
                   between["p99"]), flush=True)
    for side in sides:
        if isinstance(side, LlamaServer):
            firsts = [found["first_token_seconds"]["p99"] for found in level["runs"][side.name]]
            level["peer's best first token p99"] = min([*firsts, side.best_first_token.get(clients, firsts[0])])
            level["tried"] = side.tried[clients]
    level["rows"] = summarise(level, sides)
    return level


# --- its arguments ---

def parse():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--models", default=os.environ.get("BULLA_MODELS"))
    parser.add_argument("--model", default="SmolLM2-135M")
    parser.add_argument("--build", default=os.environ.get("BULLA_BUILD") or os.path.join(ROOT, "build", "release"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", default="1,8,32,128")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--side", choices=["Bulla", "llama-server"])
    parser.add_argument("--json")
    parser.add_argument("--help", action="store_true")
    arguments = parser.parse_args()
    if arguments.help:
        print(__doc__)
        sys.exit(0)
    if not arguments.models:
        sys.exit("serve: where are the models? Give --models FOLDER or set BULLA_MODELS (see scripts/fetch-models)")
    if arguments.rounds < 1 or arguments.threads < 1 or not re.fullmatch(r"\d+(,\d+)*", arguments.clients):
        sys.exit("serve: --rounds and --threads are at least 1, --clients is a list such as 1,8,32")
    arguments.program = os.path.join(arguments.build, "src", "bulla")
    return arguments


def open_sides(arguments, folder):
    names = sorted(name for name in os.listdir(arguments.models) if arguments.model in name and name.endswith(".gguf"))
    if not names:
        sys.exit("serve: no GGUF in %s has %r in its name" % (arguments.models, arguments.model))
    gguf = os.path.join(arguments.models, names[0])
    sides = []
    if arguments.side != "llama-server":
        sides.append(BullaServer(arguments.program, imported(arguments.program, gguf), arguments.threads))
    if arguments.side != "Bulla":
        sides.append(LlamaServer(folder, peer.quantised(folder, gguf, "Q8_0"), arguments.threads, not arguments.quick))
    return names[0], sides


def main():
    arguments = parse()
    folder = peer.programs(peer.PROGRAMS + [peer.SERVER])
    model, sides = open_sides(arguments, folder)
    report = {"machine": machine(), "peer": peer.describe(folder), "threads": arguments.threads, "model": model,
              "sides": [side.name for side in sides], "levels": []}
    if report["machine"]["load before"][0] > 0.5:
        print("serve: this machine is busy (load %.1f): the figures are not to be trusted" %
              report["machine"]["load before"][0], file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        load = Load(arguments.build, temporary, 0.25 if arguments.quick else 1.0)
        if isinstance(sides[0], BullaServer):
            report["starts"] = sides[0].starts(5)
        for clients in map(int, arguments.clients.split(",")):
            report["levels"].append(measure_level(sides, load, clients, 1 if arguments.quick else arguments.rounds))
    print("\n" + markdown(report))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
        with open(os.path.splitext(arguments.json)[0] + ".md", "w", encoding="utf-8") as file:
            file.write(markdown(report))


if __name__ == "__main__":
    main()
