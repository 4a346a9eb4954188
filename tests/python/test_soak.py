#!/usr/bin/env python3
"""A soak: `bulla serve` with TLS under full load (128 clients who join, hang up, stream, sample, ask for JSON, and a
cache so small that some always wait) for BULLA_SOAK_SECONDS, while the memory of its processes is looked at. After the
first quarter, in which caches fill, the memory stays flat: in the last quarter neither process holds more than
SLACK_BYTES above the most that it held in the second; and nothing is left open at the end.

BULLA_SOAK_SECONDS: an hour with full counts, else half a minute of 24 clients.
"""
import asyncio
import os
import random
import ssl
import sys
import time

import demo_models
from checks import Checks
from lines import lines
from serving import Server, can_serve, memory_bytes
from test_serve_exact import FULL, ask, make_request

SECONDS = float(os.environ.get("BULLA_SOAK_SECONDS") or (3600 if FULL else 30))
CLIENTS, REQUESTS, CACHE_POSITIONS = (128, 1000, 8192) if FULL else (24, 40, 2048)
SAMPLES = 200
SLACK_BYTES = (8 if FULL else 48) << 20   # what comes late to its most: in half a minute the caches still fill


async def client(number, address, tls, requests, deadline, counts):
    source = random.Random(number)
    while time.monotonic() < deadline:
        hang_up = source.randrange(1, 20) if source.random() < 0.15 else None
        answer = await ask(*address, requests[source.randrange(len(requests))], source.randrange(-2, 3),
                           source.random() < 0.7, hang_up, tls)
        counts["hung up" if answer is None else "refused" if "error" in answer else "answered"] += 1


async def watch(processes, deadline, samples):
    """[(front's bytes, worker's bytes)], evenly over the time."""
    while time.monotonic() < deadline:
        samples.append([memory_bytes(process, "RssAnon") for process in processes])
        await asyncio.sleep(SECONDS / SAMPLES)


async def soak(server, processes, requests):
    tls = ssl.create_default_context(cafile=server.certificate)
    deadline = time.monotonic() + SECONDS
    counts, samples = {"answered": 0, "refused": 0, "hung up": 0}, []
    await asyncio.gather(watch(processes, deadline, samples),
                         *[client(number, server.address, tls, requests, deadline, counts) for number in range(CLIENTS)])
    return counts, samples


def open_files(process):
    return len(os.listdir(f"/proc/{process}/fd"))


def main():
    checks = Checks()
    if not can_serve():
        checks.skip("this build has no bulla serve")
    if not demo_models.source("smollm2"):
        checks.skip("no demo models (BULLA_MODELS)")
    source, texts = random.Random(11), [line.decode() for line in lines(400, seed=11, valid=True)]
    requests = [make_request(source, texts, number) for number in range(REQUESTS)]
    with Server(demo_models.model("smollm2"),
                arguments=["--name", "smollm2", "--context-cache", str(CACHE_POSITIONS)]) as server:
        processes = [server.pid, *server.workers()]
        before = open_files(server.pid)
        counts, samples = asyncio.run(soak(server, processes, requests))
        server.wait(lambda: open_files(server.pid) <= before, what="its connections to be closed")
        checks.equal(server.metric("vllm:num_requests_running") + server.metric("vllm:num_requests_waiting"), 0,
                     "nothing runs or waits at the end")
        checks.equal([server.pid, *server.workers()], processes, "the same processes at the end")
        status = server.stop()
    checks.equal(status, 0, "the server's exit status")
    checks.true(counts["answered"] > SECONDS / 10, f"it answers: {counts}")
    checks.true(counts["refused"] < 0.05 * counts["answered"] + 5, f"few are refused: {counts}")
    quarter = len(samples) // 4
    for which, name in enumerate(["front", "worker"]):
        held = [sample[which] for sample in samples]
        second, last = max(held[quarter:2 * quarter]), max(held[-quarter:])
        checks.true(last <= second + SLACK_BYTES,
                    f"the {name}'s memory is flat: {second} bytes at most in the second quarter, {last} in the last")
        print(f"{name}: {second / 1e6:.1f} MB at most in the second quarter, {last / 1e6:.1f} MB in the last")
    print(f"{SECONDS:.0f} s, {CLIENTS} clients: {counts}")
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
