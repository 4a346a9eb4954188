#!/usr/bin/env python3
"""What `bulla connect` adds: the same requests directly and through it, in turns, to one `bulla serve --attester sim`.

usage: bench/connect.py [options]       needs python3 alone; scripts/build-tree release src/bulla builds what it measures

  --model FILE      model (a small one of random weights, made for it: what connect adds is then all the more to be seen)
  --build FOLDER    build tree with src/bulla (build/release)
  --requests N      pairs of single requests (200)
  --clients N       streams at once, for throughput (8)
  --tokens N        of each of those answers (128)
  --rounds N        pairs of rounds of those (5)
  --apart           the server on one core, connect and the clients on another, as where they are different machines
  --json FILE       where the figures go

Latency: one client, connections kept; answers of one token. Each pair is a request directly and one through connect, the
order drawn; the figures are the medians of the differences within pairs, of the time to the first event and to the end.
The end of a verified answer waits until its log's checkpoint is on the disk: that is measured with connect's state on the
disk and in memory (/dev/shm), and beside it the time of such a write alone. It also waits until the log's history since the
last answer is shown: nothing has to be fetched for that where the log has no receipts but connect's (the direct requests then go
to a second server), a tile where there are others' (they go to the same). Throughput: tokens a second of all streams
together, directly and through connect, in turns; and connect's own CPU time for a token.
"""
import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import ssl
import statistics
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "python"))

POLICY = {"attestation": {"type": "sim", "allow_simulated": True}}
NAME = "bench"


class Client:
    """One kept connection."""

    def __init__(self, target, key=None):
        host, port = target.address
        if target.url.startswith("https:"):
            self.connection = http.client.HTTPSConnection(host, port, context=ssl.create_default_context(
                cafile=target.certificate))
        else:
            self.connection = http.client.HTTPConnection(host, port)
        self.headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def stream(self, tokens, seed):
        """Seconds to the first event and to the end, and how many events with text came."""
        body = json.dumps({"model": NAME, "prompt": [seed % 90 + 5, seed // 90 % 90 + 5, 7, 8], "max_tokens": tokens, "stream": True,
                           "ignore_eos": True, "temperature": 0, "cache_prompt": False}).encode()
        started, first, events = time.perf_counter(), None, 0
        self.connection.request("POST", "/v1/completions", body, self.headers)
        answer = self.connection.getresponse()
        last = b""
        for line in answer:
            if line.startswith(b"data: "):
                first = first or time.perf_counter() - started
                events += 1
                last = line
        if answer.status != 200 or last != b"data: [DONE]\n":
            raise RuntimeError(f"status {answer.status}, the last event is {last!r}")
        return first, time.perf_counter() - started, events


def pairs(direct, through, count, draw):
    """Medians of what is added to the first event and to the end, in ms, and of the direct times."""
    first, whole, base = [], [], []
    for number in range(count + 10):
        order = [(0, direct), (1, through)]
        draw.shuffle(order)
        times = {side: client.stream(1, draw.randrange(1 << 30)) for side, client in order}
        if number >= 10:
            first.append((times[1][0] - times[0][0]) * 1e3)
            whole.append((times[1][1] - times[0][1]) * 1e3)
            base.append(times[0][1] * 1e3)
    return statistics.median(first), statistics.median(whole), statistics.median(base)


def round_of(clients, tokens, draw):
    """Tokens a second of all together."""
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(lambda client: client.stream(tokens, draw.randrange(1 << 30)), clients))
    return len(clients) * tokens / (time.perf_counter() - started)


def write_time(folder, count=30):
    """A checkpoint's way to the disk: written, synced, renamed, its folder synced; ms."""
    path, times = os.path.join(folder, "probe"), []
    for _ in range(count):
        started = time.perf_counter()
        descriptor = os.open(path + ".new", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.write(descriptor, b"x" * 300)
        os.fsync(descriptor)
        os.close(descriptor)
        os.rename(path + ".new", path)
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        times.append((time.perf_counter() - started) * 1e3)
    os.unlink(path)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--json")
    given = parser.parse_args()
    os.environ["BULLA_BUILD"] = os.path.abspath(given.build)
    from connecting import Connect
    from serving import Server, cpu_seconds
    from small_source import make_model
    draw, figures = random.Random(1), {}
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
    folder = tempfile.TemporaryDirectory()
    model = given.model or make_model(folder.name, "small")
    cores = sorted(os.sched_getaffinity(0))

    def use(chosen):
        if given.apart:
            os.sched_setaffinity(0, chosen)

    @contextlib.contextmanager
    def serving():
        use(cores[:1])  # what it starts inherits that
        with Server(model, arguments=["--name", NAME, "--attester", "sim", "--speculate", "0"]) as server:
            use(cores[1:])
            yield server

    with folder, serving() as server, serving() as other, \
            tempfile.TemporaryDirectory(dir=memory) as shared, Connect(server.url, POLICY) as connect, \
            Connect(server.url, POLICY, state=shared) as quick:
        figures["write_ms"] = write_time(connect.kept)
        for name, side, beside in (("disk, alone", connect, other), ("memory, alone", quick, other),
                                   ("disk, others between", connect, server), ("memory, others between", quick, server)):
            first, whole, base = pairs(Client(beside), Client(side, side.key), given.requests, draw)
            figures[name] = {"first_ms": first, "end_ms": whole, "direct_ms": base}
            print(f"state in {name}: {first:+.2f} ms to the first event, {whole:+.2f} ms to the end "
                  f"(directly {base:.2f} ms; a checkpoint's write alone {figures['write_ms']:.2f} ms)", flush=True)
        direct = [Client(server) for _ in range(given.clients)]
        through = [Client(connect, connect.key) for _ in range(given.clients)]
        round_of(direct, 8, draw), round_of(through, 8, draw)
        used, rates = cpu_seconds(connect.pid), {0: [], 1: []}
        for number in range(given.rounds):
            for side in ((0, 1), (1, 0))[number % 2]:
                rates[side].append(round_of((direct, through)[side], given.tokens, draw))
        used = cpu_seconds(connect.pid) - used
        tokens = given.rounds * given.clients * given.tokens
        ratio = statistics.median(b / a for a, b in zip(rates[0], rates[1]))
        figures["throughput"] = {"direct": statistics.median(rates[0]), "through": statistics.median(rates[1]), "ratio": ratio,
                                 "cpu_us_a_token": used / tokens * 1e6}
        print(f"{given.clients} streams: {statistics.median(rates[0]):.0f} tokens/s directly, "
              f"{statistics.median(rates[1]):.0f} through connect, ratio {ratio:.3f}; connect's CPU time "
              f"{used / tokens * 1e6:.0f} us a token")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


main()
