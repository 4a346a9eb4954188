#!/usr/bin/env python3
"""What auditing an answer costs beside answering it: the same answers of one `bulla serve`, audited by `bulla audit`, in turns.

usage: bench/audit.py [options]       needs python3 alone; scripts/build-tree release src/bulla builds what it measures

  --model FILE      model (SmolLM2 of $BULLA_MODELS)
  --build FOLDER    build tree with src/bulla (build/release)
  --prompts N,...   tokens of the prompts (32,512)
  --tokens N        answered (128)
  --rounds N        answers of each (5)
  --threads N       of server and auditor (as many as there are cores)
  --json FILE       where the figures go

Answering is one stream of a server that does nothing else: the time from the request to the first event is the prompt's, the
time from there to the last event the answer's. Auditing is what `bulla audit --timing` says: the time in engine and sampler for
the prompt's positions, and for those from which tokens are drawn. Beside it stands the whole process, with the model's root
computed and its weights packed, which `bulla watch` does once for all that it audits. Answers are sampled (temperature 0.7), so
that guessing ahead helps the server as little as it does with ordinary text; both sides use all threads and the same kernels.
Figures are medians; each answer is audited right after it was given.
"""
import argparse
import base64
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "python"))


def ask(server, prompt, tokens, seed):
    """Seconds to the first event and from there to the last, and the receipt's document."""
    sent = json.dumps({"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0.7, "seed": seed, "stream": True,
                       "cache_prompt": False}).encode()
    connection = server.connect(300)
    steps, document, begun, times = [], None, time.perf_counter(), []
    connection.request("POST", "/v1/completions", sent, {"x-bulla-receipt": "full", "content-type": "application/json"})
    reply = connection.getresponse()
    for line in reply:
        if not line.startswith(b"data: {"):
            continue
        times.append(time.perf_counter())
        event = json.loads(line[6:])
        text = event["choices"][0].get("text") if event.get("choices") else None
        finish = event["choices"][0].get("finish_reason") if event.get("choices") else None
        for step in event.get("bulla", {}).get("steps", []):
            steps.append({"text": text if step["part"] == "content" else finish, **step})
        document = event.get("bulla_receipt", document)
    document["transcript"] = {"salt": reply.headers["x-bulla-receipt-salt"], "request": base64.b64encode(sent).decode(),
                              "choices": [{"steps": steps}]}
    connection.close()
    return times[0] - begun, times[-1] - times[0], document


def audit(program, model, document, threads, path):
    """Seconds for prompt, answer and the whole process."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file)
    begun = time.perf_counter()
    done = subprocess.run([program, "audit", path, "--model", model, "--timing", "--threads", str(threads)],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    whole = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    words = done.stderr.split()
    return float(words[words.index("in") + 1]), float(words[len(words) - words[::-1].index("in")]), whole


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    parser.add_argument("--prompts", default="32,512")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json")
    given = parser.parse_args()
    os.environ["BULLA_BUILD"] = os.path.abspath(given.build)
    from demo_models import source
    from serving import PROGRAM, Server
    model, draw, figures = given.model or source("smollm2"), random.Random(1), []
    if not model:
        sys.exit("no model: --model FILE, or SmolLM2 in $BULLA_MODELS")
    with Server(model, tls=False, arguments=["--threads", str(given.threads)]) as server, tempfile.TemporaryDirectory() as folder:
        server.wait(lambda: server.request("GET", "/ready")[0] == 200, what="the model")
        ask(server, [5, 6, 7], 8, 1)
        for length in map(int, given.prompts.split(",")):
            rows = []
            for seed in range(given.rounds):
                prompt = [draw.randrange(1000, 40000) for _ in range(length)]
                first, rest, document = ask(server, prompt, given.tokens, seed)
                rows.append((first, rest, *audit(PROGRAM, model, document, given.threads, os.path.join(folder, "receipt.json"))))
            first, rest, prompt, answer, whole = (statistics.median(column) for column in zip(*rows))
            parts = statistics.median(row[3] / row[1] for row in rows)
            total = statistics.median((row[2] + row[3]) / (row[0] + row[1]) for row in rows)
            figures.append({"prompt": length, "tokens": given.tokens, "first_s": first, "answer_s": rest, "audit_prompt_s": prompt,
                            "audit_answer_s": answer, "audit_process_s": whole, "answer_ratio": parts, "ratio": total})
            print(f"prompt of {length}, {given.tokens} answered: answering {first:.3f} + {rest:.3f} s, auditing {prompt:.3f} + "
                  f"{answer:.3f} s (the process {whole:.2f} s): {parts:.3f} of the answer's time, {total:.3f} of both", flush=True)
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
