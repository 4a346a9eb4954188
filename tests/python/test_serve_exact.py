#!/usr/bin/env python3
"""Exactness under load: what `bulla serve` answers to many clients at once, who join at random, hang up in the middle and
ask with different priorities, is to the letter what a fresh process answers to each request alone (tests/tool_answer.c:
no batch, no cache, no speculation), and for some of them what the reference executor answers.

Counts: 10,000 answers from 128 clients to 2,000 distinct requests, 50 by the reference, where BULLA_TEST_COUNTS is full;
else 32 answers from 8 clients to 10 requests, 1 by the reference. The cache of the server is small, so that requests
wait and are put off and taken up again. Half of the requests sample; some have a grammar, penalties, stop strings, n.

usage: test_serve_exact.py [ANSWERS REQUESTS SEED]     other counts, without the reference, and other requests
"""
import asyncio
import concurrent.futures
import json
import os
import random
import subprocess
import sys
import time

import demo_models
from checks import Checks
from lines import lines
from serving import BUILD, Server, can_serve

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
ANSWERS, CLIENTS, REQUESTS, REFERENCES = (10000, 128, 2000, 50) if FULL else (32, 8, 10, 1)
SEED = 3
if len(sys.argv) == 4:
    ANSWERS, REQUESTS, SEED, REFERENCES = *map(int, sys.argv[1:]), 0
MOST_TOKENS = 4000 if FULL else 300     # of prompt and answer together
MOST_PROMPT = 400 if FULL else 200      # of all but a tenth
MOST_ANSWER = 200 if FULL else 60       # of all but a few
CACHE_POSITIONS = 24576 if FULL else 1024
REFERENCE_TOKENS = 40                   # the reference takes about 30 ms a position on SmolLM2
TOOL = os.path.join(BUILD, "tests", "tool_answer")
SCHEMAS = [
    {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "population": {"type": "integer"},
                                      "coastal": {"type": "boolean"}}, "required": ["city", "population"]},
    {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 1, "maxItems": 4},
    {"type": "object", "properties": {"steps": {"type": "array", "items": {"type": "string", "maxLength": 20},
                                                "maxItems": 3}}, "required": ["steps"], "additionalProperties": False},
]


def log_uniform(source, most):
    return int(most ** source.random())


def text_of(source, texts, tokens):
    """About so many tokens of text: in all the languages of the lines there are 1.2 characters to a token of SmolLM2."""
    parts, size = [], 0
    while size < 1.2 * tokens:
        part = source.choice(texts)
        parts.append(part)
        size += len(part) + 1
    return " ".join(parts)[:max(1, round(1.2 * tokens))]


def make_request(source, texts, number):
    """(kind, body). Prompts of few texts repeat, so that the prefix cache is used."""
    prompt = log_uniform(source, MOST_TOKENS - 100 if number % 10 == 9 else MOST_PROMPT)
    text = text_of(random.Random(number % 7) if source.random() < 0.3 else source, texts, prompt)
    body = {"model": "smollm2", "max_tokens": log_uniform(source, MOST_ANSWER), "seed": source.getrandbits(63)}
    if number % 50 == 49:
        body["max_tokens"] = max(1, min(MOST_TOKENS - prompt, 1500 if FULL else 150))
    sampled = number % 2 == 0
    body["temperature"] = source.choice([0.5, 0.8, 1, 1.3]) if sampled else 0
    if sampled and source.random() < 0.5:
        body |= {"top_p": source.choice([0.5, 0.9, 1]), "top_k": source.choice([0, 1, 20, 200]),
                 "min_p": source.choice([0, 0.05])}
    if source.random() < 0.2:
        body |= {"presence_penalty": source.choice([-0.5, 0.7]), "frequency_penalty": source.choice([0, 0.3]),
                 "repetition_penalty": source.choice([1, 1.1])}
    if source.random() < 0.1:
        body["logit_bias"] = {str(source.randrange(20, 40000)): source.choice([-100, -3, 2.5]) for _ in range(3)}
    if source.random() < 0.2:
        body["stop"] = source.choice([["\n"], [". ", "the "], ["e s", " a"], ["\n\n", "?"]])
    if source.random() < 0.15:
        body["n"] = source.choice([2, 3])
    if source.random() < 0.6:
        if source.random() < 0.2:
            body["response_format"] = {"type": "json_schema",
                                       "json_schema": {"name": "it", "schema": source.choice(SCHEMAS)}}
        body["messages"] = [{"role": "user", "content": text}]
        return "chat", body
    body["prompt"] = text
    return "completion", body


def answer_alone(path, request, reference=False):
    kind, body = request
    done = subprocess.run([TOOL, path, kind] + (["ref"] if reference else []), input=json.dumps(body).encode(),
                          capture_output=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or not answers:
        return {"error": f"tool_answer: {done.returncode} {done.stdout.decode()[:300]} {done.stderr.decode()[:300]}"}
    return {"texts": [one["text"] for one in answers], "finishes": [one["finish"] for one in answers],
            "tokens": sum(one["tokens"] for one in answers)}


# --- clients ---

async def read_events(reader, most):
    """The events of a reply in pieces (`most`: how many, then the client hangs up); None where it hung up."""
    events, pending = [], b""
    while True:
        size = int(await reader.readline(), 16)
        if size == 0:
            await reader.readline()
            return events
        pending += (await reader.readexactly(size + 2))[:-2]
        *whole, pending = pending.split(b"\n\n")
        for event in whole:
            if event.startswith(b"data: "):
                events.append(event[6:])
        if most is not None and len(events) >= most:
            return None


def gathered(events, choices):
    answer = {"texts": [""] * choices, "finishes": [None] * choices, "tokens": 0}
    if events[-1:] != [b"[DONE]"]:
        return {"error": f"the stream ended with {events[-1:]}"}
    for event in map(json.loads, events[:-1]):
        if "error" in event:
            return {"error": event["error"]}
        for choice in event["choices"]:
            text = choice["delta"].get("content") if "delta" in choice else choice.get("text")
            answer["texts"][choice["index"]] += text or ""
            answer["finishes"][choice["index"]] = choice["finish_reason"] or answer["finishes"][choice["index"]]
        if event.get("usage"):
            answer["tokens"] = event["usage"]["completion_tokens"]
    return answer


async def ask(host, port, request, priority, streams, hang_up, tls=None):
    """One request over a connection of its own. `hang_up`: after so many events (None: not); `tls`: its context."""
    kind, body = request
    body = body | {"stream": streams, "priority": priority}
    if streams:
        body["stream_options"] = {"include_usage": True}
    text = json.dumps(body).encode()
    path = "/v1/chat/completions" if kind == "chat" else "/v1/completions"
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 24, ssl=tls)
    try:
        writer.write(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                     f"Content-Length: {len(text)}\r\n\r\n".encode() + text)
        if hang_up is not None and not streams:
            await asyncio.sleep(hang_up / 50)
            return None
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if " 200 " not in head.split("\r\n")[0]:
            return {"error": head}
        if "transfer-encoding: chunked" in head:
            events = await read_events(reader, hang_up)
            return None if events is None else gathered(events, body.get("n", 1))
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        texts = [choice["message"]["content"] if kind == "chat" else choice["text"] for choice in choices]
        return {"texts": texts, "finishes": [choice["finish_reason"] for choice in choices],
                "tokens": answer["usage"]["completion_tokens"]}
    finally:
        writer.close()


async def client(number, url, requests, state):
    source = random.Random(1000 + number)
    host, port = url.split("//")[1].split(":")
    while state["left"] > 0:
        state["left"] -= 1
        which = state["unanswered"].pop(0) if state["unanswered"] else source.randrange(len(requests))
        hang_up = source.randrange(1, 20) if source.random() < 0.15 else None
        if source.random() < 0.3:
            await asyncio.sleep(source.random() / 4)
        answer = await ask(host, int(port), requests[which], source.randrange(-2, 3), source.random() < 0.7, hang_up)
        if answer is None:
            state["left"] += 1 # it does not count as an answer
            state["unanswered"].append(which)
            state["hung_up"] += 1
        else:
            state["answers"].append((which, answer))


async def load(url, requests):
    state = {"left": ANSWERS, "unanswered": list(range(len(requests))), "hung_up": 0, "answers": []}
    await asyncio.gather(*[client(number, url, requests, state) for number in range(CLIENTS)])
    return state


# --- ---

def check_answers(checks, requests, expected, answers):
    for which, answer in answers:
        same = answer == expected[which]
        checks.true(same, same or f"request {which} ({requests[which][0]}, {json.dumps(requests[which][1])[-400:]})\n"
                    f"  found    {str(answer)[:600]}\n  expected {str(expected[which])[:600]}")


def check_references(checks, path, requests, expected):
    small = [number for number, (_, body) in enumerate(requests) if len(body.get("prompt", "")) < 100 and
             len(str(body.get("messages", ""))) < 200]
    def shortened(number):
        kind, body = requests[number]
        return kind, body | {"max_tokens": min(body["max_tokens"], REFERENCE_TOKENS), "n": 1}
    chosen = [shortened(number) for number in small[:REFERENCES]]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = pool.map(lambda request: answer_alone(path, request, reference=True), chosen)
        fast = pool.map(lambda request: answer_alone(path, request), chosen)
        for request, one, other in zip(chosen, slow, fast):
            checks.true("error" not in one and one == other, f"the reference: {request}\n{one}\n{other}")
    checks.equal(len(chosen), REFERENCES, "requests that are short enough for the reference")


def main():
    checks = Checks()
    if not can_serve() or not os.path.exists(TOOL):
        checks.skip("this build has no bulla serve")
    if not demo_models.source("smollm2"):
        checks.skip("no demo models (BULLA_MODELS)")
    path = demo_models.model("smollm2")
    source, texts = random.Random(SEED), [line.decode() for line in lines(400, seed=SEED, valid=True)]
    requests = [make_request(source, texts, number) for number in range(REQUESTS)]
    start = time.monotonic()
    with Server(path, tls=False, arguments=["--name", "smollm2", "--context-cache", str(CACHE_POSITIONS)]) as server:
        state = asyncio.run(load(server.url, requests))
        status = server.stop()
    checks.equal(status, 0, "the server's exit status")
    print(f"{len(state['answers'])} answers to {len({which for which, _ in state['answers']})} distinct requests from "
          f"{CLIENTS} clients, {state['hung_up']} more hung up; {time.monotonic() - start:.0f} s", flush=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        expected = list(pool.map(lambda request: answer_alone(path, request), requests))
    check_answers(checks, requests, expected, state["answers"])
    checks.true(len(state["answers"]) >= ANSWERS, "as many answers as wanted")
    checks.equal(len({which for which, _ in state["answers"]}), len(requests), "distinct requests that were answered")
    checks.true(sum("error" not in one for one in expected) > 0.95 * REQUESTS, "most requests can be answered")
    check_references(checks, path, requests, expected)
    checks.finish()


if __name__ == "__main__":
    main()
