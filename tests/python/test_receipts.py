#!/usr/bin/env python3
"""Receipts of a real server: each answer of each kind, streamed and whole, is put together from what a client sees, as
docs/receipt.md says, and its receipt verified by `bulla verify` and by docs/verify_receipt.py. Then a log that fails, a
server that is killed, and one that is followed by another.

The models are tiny and random, so that their answers are anything; needs `cryptography` from tests/receipts/requirements.txt
for the script.
"""
import base64
import hashlib
import http.server
import json
import os
import resource
import signal
import subprocess
import tempfile
import threading

import tiny_gguf
from checks import Checks
from receipt_script import check_script, find_python
from serving import PROGRAM, Server, can_serve

FULL = {"x-bulla-receipt": "full"}
POLICY = {"attestation": {"type": "sim", "allow_simulated": True}}
PARTS = {"content": 1, "reasoning": 2, "tool_call": 3, "arguments": 4, "finish": 5}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 8}}, "required": ["city"]}}}
FLAT_TOOL = {"type": "function", **TOOL["function"]}
OPTIONS = ["--attester", "sim", "--threads", "1"]
# What is looked for in a template stands in the comment.
TEMPLATE = """{# <tool_call> "arguments" tool_calls #}{% for m in messages %}{{ m.role }}: {{ m.content }}
{% endfor %}{% if tools %}{{ tools|length }} tools
{% endif %}{% if add_generation_prompt %}me: {% endif %}"""
checks = Checks()


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u32(*values):
    return b"".join(value.to_bytes(4, "little") for value in values)


# --- what a client sees, as steps ---

class Client:
    """Puts the steps of an answer together and follows its chains."""

    def __init__(self, headers, what):
        self.salt = bytes.fromhex(headers["x-bulla-receipt-salt"])
        self.id = headers["x-bulla-receipt-id"]
        self.what = what
        self.steps, self.chains, self.document = {}, {}, None

    def add(self, choice, step):
        chain = self.chains.get(choice) or sha256(b"bulla-chain-v1", self.salt, u32(choice))
        ids, text = step.get("ids", []), step["text"].encode()
        self.chains[choice] = sha256(chain, u32(PARTS[step["part"]], len(ids), *ids), len(text).to_bytes(8, "little"), text)
        self.steps.setdefault(choice, []).append(step)

    def event(self, event, delivered):
        """`delivered`: the bytes of the event itself, by part; each must be a step of it."""
        told = event.get("bulla", {})
        steps = told.get("steps", [])
        for step in steps:
            checks.true("text" in step or step["part"] in delivered, f"{self.what}: {step} is of {event}")
            self.add(told["choice"], {**step, "text": step.get("text", delivered.get(step["part"]))})
        if steps:
            checks.equal(told["chain"], self.chains[told["choice"]].hex(), f"{self.what}: the running chain")
        checks.equal({step["part"] for step in steps} >= set(delivered), True, f"{self.what}: all of {event} is in steps")
        if "bulla_receipt" in event:
            checks.equal(self.document, None, f"{self.what}: one receipt")
            self.document = event["bulla_receipt"]

    def text(self, choice, *parts):
        return "".join(step["text"] for step in self.steps.get(choice, []) if step["part"] in parts)


def of_chunk(event):
    """What a chunk of a chat or completion delivers."""
    found = {}
    for choice in event.get("choices", []):
        delta = choice.get("delta", {})
        found["content"] = delta.get("content") or choice.get("text") or ""
        found["reasoning"] = delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls", []):
            found["arguments"] = call["function"].get("arguments", "")
            if call.get("id"):
                found["tool_call"] = f"{call['function']['name']}\0{call['id']}"
        if choice.get("finish_reason"):
            found["finish"] = "\0".join(filter(None, (choice["finish_reason"], choice.get("stop_reason"))))
    return {part: text for part, text in found.items() if text}


def of_event(event):
    """What an event of a response delivers."""
    parts = {"response.output_text.delta": "content", "response.reasoning_text.delta": "reasoning",
             "response.function_call_arguments.delta": "arguments"}
    if event["type"] in parts and event["delta"]:
        return {parts[event["type"]]: event["delta"]}
    if event["type"] == "response.output_item.added" and event["item"]["type"] == "function_call":
        return {"tool_call": f"{event['item']['name']}\0{event['item']['call_id']}"}
    return {}


def messages_of(body, path):
    """(text, thinking, calls) of each choice of a whole body."""
    if path != "/v1/responses":
        for choice in body["choices"]:
            message = choice.get("message", {"content": choice.get("text")})
            yield (message["content"] or "", message.get("reasoning_content", ""),
                   [(call["function"]["name"], call["id"], call["function"]["arguments"])
                    for call in message.get("tool_calls", [])])
        return
    items = {kind: [item for item in body["output"] if item["type"] == kind]
             for kind in ("message", "reasoning", "function_call")}
    yield ("".join(item["content"][0]["text"] for item in items["message"] if item["content"]),
           "".join(item["content"][0]["text"] for item in items["reasoning"]),
           [(item["name"], item["call_id"], item["arguments"]) for item in items["function_call"]])


def calls_of(steps):
    calls = []
    for step in steps:
        if step["part"] == "tool_call":
            calls.append([*step["text"].split("\0"), ""])
        elif step["part"] == "arguments":
            calls[-1][2] += step["text"]
    return [tuple(call) for call in calls]


# --- asking and verifying ---

class Asker:
    def __init__(self, server, python):
        self.server, self.python = server, python
        self.folder = tempfile.mkdtemp(prefix="receipts-", dir=server.folder)
        self.policy = os.path.join(self.folder, "policy.json")
        with open(self.policy, "w", encoding="utf-8") as file:
            json.dump(POLICY, file)
        self.key = server.request("GET", "/log/key")[2].decode()
        self.ids = []

    def verify(self, document, parameters, what):
        path = os.path.join(self.folder, "receipt.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(document, file)
        done = subprocess.run([PROGRAM, "verify", path, "--policy", self.policy, "--log-key", self.key, "--parameters",
                               json.dumps(parameters)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        checks.equal(done.returncode, 0, f"{what}: bulla verify: {done.stdout}{done.stderr}")
        for name in ("receipt.signature", "log.checkpoint", "log.inclusion", "binding.receipt_key"):
            checks.contains(done.stdout, f"pass        {name}", what)
        if "transcript" in document:
            checks.contains(done.stdout, "pass        receipt.chain.0", what)
        check_script(checks, self.python, [path], self.key)
        if "evidence" in document:
            self.verify_evidence(document["evidence"], what)

    def verify_evidence(self, evidence, what):
        """What is asked of a receipt, evidence does not answer, however good it is."""
        path = os.path.join(self.folder, "evidence.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(evidence, file)
        for more, status, said in (([], 0, ""), (["--log-key", self.key], 1, "it is no receipt, and --log-key"),
                                   (["--witnesses", "1"], 1, "it is no receipt, and --witnesses")):
            done = subprocess.run([PROGRAM, "verify", path, "--policy", self.policy, *more], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, check=False)
            checks.equal(done.returncode, status, f"{what}: its evidence, verified with {more}")
            checks.contains(done.stderr, said, f"{what}: its evidence, verified with {more}")

    def ask(self, path, body, what, parameters=None):
        """Streamed and whole, each with `full` and without."""
        for stream in (True, False):
            for headers in (FULL, {}):
                self.ask_once(path, {**body, "stream": True} if stream else body, headers,
                              f"{what}{', streamed' if stream else ''}{', full' if headers else ''}", parameters or {})

    def ask_once(self, path, body, headers, what, parameters):
        sent = json.dumps(body).encode()
        status, found, answer = self.server.request("POST", path, sent, headers, timeout=300)
        if not checks.equal(status, 200, f"{what}: {answer[:500]}"):
            return
        client = Client(found, what)
        if body.get("stream"):
            self.follow(path, answer.decode(), client, bool(headers))
        else:
            self.take(path, json.loads(answer), client, bool(headers))
        status, kept = self.server.json("GET", f"/v1/receipts/{client.id}?evidence=1")
        checks.equal(status, 200, f"{what}: the receipt is found")
        if client.document:
            checks.equal(kept["signed"], client.document["signed"], f"{what}: the receipt that is found")
        checks.equal(kept["signed"]["receipt"]["id"], client.id, f"{what}: id")
        if headers:
            choices = [{"steps": client.steps[i]} for i in sorted(client.steps)]
            kept["transcript"] = {"salt": client.salt.hex(), "request": base64.b64encode(sent).decode(), "choices": choices}
        self.verify(kept, {"endpoint": path, **parameters}, what)
        self.ids.append(client.id)

    @staticmethod
    def follow(path, text, client, is_full):
        lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
        events = [json.loads(line) for line in lines if line != "[DONE]"]
        for event in events:
            if is_full:
                client.event(event, of_event(event) if path == "/v1/responses" else of_chunk(event))
            else:
                checks.equal("bulla" in event, False, f"{client.what}: nothing more than was asked for")
        checks.equal(["bulla_receipt" in event for event in events], [False] * (len(events) - 1) + [True],
                     f"{client.what}: the last event has the receipt")
        client.document = events[-1]["bulla_receipt"]

    @staticmethod
    def take(path, body, client, is_full):
        checks.equal("bulla_receipt" in body and "bulla" in body, is_full, f"{client.what}: what was asked for")
        if not is_full:
            return
        client.document = body["bulla_receipt"]
        for number, (choice, told) in enumerate(zip(body["bulla"]["choices"], messages_of(body, path))):
            for step in choice["steps"]:
                client.add(number, step)
            checks.equal((client.text(number, "content"), client.text(number, "reasoning"), calls_of(choice["steps"])), told,
                         f"{client.what}: the steps are the body's")


def make_model(folder, name, template):
    """A tiny model with this chat template."""
    paths = [os.path.join(folder, f"{name}.{ending}") for ending in ("gguf", "jinja", "bulla")]
    tiny_gguf.write(paths[0], "llama")
    with open(paths[1], "w", encoding="utf-8") as file:
        file.write(template)
    subprocess.run([PROGRAM, "import", paths[0], "-o", paths[2], "--fast", "--template", paths[1]], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return paths[2]


def ask_all(asker):
    user = [{"role": "user", "content": "Tell me the capital of France."}]
    short = {"max_tokens": 6, "temperature": 0}
    asker.ask("/v1/chat/completions", {"messages": user, **short}, "a chat", {"temperature": 0, "max_tokens": 6, "n": 1})
    asker.ask("/v1/chat/completions", {"messages": user, "max_tokens": 5, "n": 3, "seed": 7, "logprobs": True,
                                       "stream_options": {"include_usage": True}}, "three choices", {"n": 3, "seed": "7"})
    asker.ask("/v1/chat/completions", {"messages": user, "max_tokens": 40, "seed": 3, "stop": ["\u20ac", "a", "e"]},
              "stop strings", {"stop": ["\u20ac", "a", "e"]})
    asker.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "Weather in Oslo?"}], "max_tokens": 150,
                                       "temperature": 0, "tools": [TOOL], "tool_choice": "required"}, "a call",
              {"tool_choice": "required"})
    asker.ask("/v1/completions", {"prompt": ["The sun", "\u20ac \U0001f600"], "n": 2, "echo": True, **short}, "completions",
              {"echo": True})
    asker.ask("/v1/completions", {"prompt": [100, 101], **short}, "a prompt of ids")
    asker.ask("/v1/responses", {"input": "Tell me a joke.", "max_output_tokens": 6, "temperature": 0}, "a response",
              {"max_tokens": 6})
    asker.ask("/v1/responses", {"input": "Weather in Oslo?", "max_output_tokens": 150, "temperature": 0, "tools": [FLAT_TOOL],
                                "tool_choice": "required"}, "a response that calls")


def ask_thinking(asker):
    user = [{"role": "user", "content": "Think."}]
    asker.ask("/v1/chat/completions", {"messages": user, "max_tokens": 12, "temperature": 0}, "thinking")
    asker.ask("/v1/responses", {"input": "Think.", "max_output_tokens": 12, "temperature": 0}, "a response that thinks")
    status, body = asker.server.json("POST", "/v1/chat/completions", {"messages": user, "max_tokens": 12, "temperature": 0})
    checks.true(status == 200 and body["choices"][0]["message"].get("reasoning_content"), f"it thinks: {body}")


# --- an upstream, which thinks and calls ---

class Engine(http.server.BaseHTTPRequestHandler):
    CHUNKS = [{"delta": {"role": "assistant", "reasoning_content": "hm"}}, {"delta": {"content": "It is"}},
              {"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}]}},
              {"delta": {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]}},
              {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}},
              {"delta": {}, "finish_reason": "tool_calls"}]

    def reply(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply("application/json", b'{"object":"list","data":[{"id":"engine","object":"model"}]}')

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        chunks = [{"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, **chunk}]} for chunk in self.CHUNKS]
        chunks.append({"id": "x", "object": "chat.completion.chunk", "choices": [],
                       "usage": {"prompt_tokens": 4, "completion_tokens": 9, "total_tokens": 13}})
        self.reply("text/event-stream", "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode()
                   + b"data: [DONE]\n\n")

    def log_message(self, *unused):
        pass


def ask_upstream(python):
    engine = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{engine.server_address[1]}"
    with Server(tls=False, arguments=["--upstream", url, "--name", "far", "--attester", "sim"]) as server:
        server.wait(lambda: server.request("GET", "/ready")[0] == 200, what="the upstream")
        asker = Asker(server, python)
        asker.ask_once("/v1/chat/completions", {"messages": [{"role": "user", "content": "?"}], "tools": [TOOL], "stream": True},
                       FULL, "an upstream's chat", {"seed": None})
        receipt = server.json("GET", f"/v1/receipts/{asker.ids[0]}")[1]["signed"]["receipt"]
        checks.equal((receipt["backend"], receipt["engine"], receipt["output_tokens"], receipt["prompt_tokens"],
                      receipt["model_root"]), ("upstream", f"{url} engine", 9, 4, "0" * 64), "an upstream's receipt")
    engine.shutdown()


# --- trouble ---

def chat(server, **more):
    body = {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4, "temperature": 0, **more}
    return server.request("POST", "/v1/chat/completions", body, timeout=300)


def fail_log(model):
    """No file may grow: the log cannot write, so nothing is answered; later it can."""
    shell = ["sh", "-c", 'trap "" XFSZ; exec "$@"', "sh", PROGRAM]
    with Server(model, tls=False, arguments=OPTIONS, program=shell) as server:
        checks.equal(chat(server)[0], 200, "an answer before the disk is full")
        before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        status, headers, answer = chat(server)
        checks.equal((status, json.loads(answer).get("error", {}).get("code")), (500, "receipt_not_logged"), "a full disk")
        checks.equal("x-bulla-receipt-id" in headers, False, "no receipt is named")
        events = [json.loads(line[6:]) for line in chat(server, stream=True)[2].decode().split("\n")
                  if line.startswith("data: {")]
        checks.equal(events[-1].get("error", {}).get("code"), "receipt_not_logged", "a full disk, in a stream")
        checks.equal([event["choices"][0]["finish_reason"] for event in events[:-1]], [None] * (len(events) - 1),
                     "such a stream has no end")
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)
        checks.equal(chat(server)[0], 200, "an answer when there is room again")


def take_over(model, python):
    """Receipts of a server that was killed, and of one that another follows, are found by who comes after."""
    with Server(model, tls=False, arguments=OPTIONS) as first:
        known = [chat(first)[1]["x-bulla-receipt-id"] for _ in range(3)]
        first.kill()
        first.start()
        for receipt in known:
            checks.equal(first.request("GET", f"/v1/receipts/{receipt}")[0], 200, "found after a kill")
        listen = "%s:%d" % first.address
        with Server(model, tls=False, arguments=[*OPTIONS, "--take-over"], listen=listen,
                    environment={"BULLA_STATE": first.state}) as second:
            known += [chat(second)[1]["x-bulla-receipt-id"] for _ in range(3)]
            late = []
            threads = [threading.Thread(target=lambda: late.append(chat(second, max_tokens=30))) for _ in range(4)]
            for thread in threads:
                thread.start()
            first.process.send_signal(signal.SIGTERM)
            for thread in threads:
                thread.join()
            checks.equal(first.process.wait(60), 0, "the first ends")
            known += [headers["x-bulla-receipt-id"] for status, headers, _ in late if status == 200]
            checks.equal(len(known) >= 6, True, "answers of both")
            asker = Asker(second, python)
            for receipt in known:
                status, document = second.json("GET", f"/v1/receipts/{receipt}")
                if checks.equal(status, 200, "found after a change of servers"):
                    checks.equal(document["log"]["checkpoint"].split("\n")[0], asker.key.split("+")[0], "the same log")
            indices = sorted(second.json("GET", f"/v1/receipts/{receipt}")[1]["log"]["index"] for receipt in known)
            checks.equal(indices, list(range(len(known))), "each is in the log once")


def go_without(model):
    with Server(model, tls=False, arguments=["--no-receipts", "--threads", "1"]) as server:
        status, headers, answer = chat(server)
        checks.equal((status, "x-bulla-receipt-id" in headers, "bulla_receipt" in json.loads(answer)), (200, False, False),
                     "a server without receipts")
        checks.equal(server.request("GET", "/log/checkpoint")[0], 404, "and without a log")
        checks.equal(os.path.exists(os.path.join(server.state, "receipts")), False, "no folder is made")


def refuse_folder(model):
    """A log that others could change is not gone on with."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        server = Server(model, tls=False, start=False, arguments=["--receipts", folder, "--threads", "1"])
        try:
            server.start()
            checks.true(False, "a folder of receipts that others may write into is refused")
        except RuntimeError as problem:
            checks.contains(str(problem), f"chmod go-w {folder}", "a folder of receipts that others may write into")
        finally:
            server.remove()
        checks.equal(os.listdir(folder), [], "nothing is made in it")


def main():
    if not can_serve():
        checks.skip("this build has no bulla serve")
    python = find_python()
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder, "plain", TEMPLATE)
        with Server(model, tls=False, arguments=OPTIONS) as server:
            ask_all(Asker(server, python))
        with Server(make_model(folder, "thinks", TEMPLATE.replace("me: ", "me: <think>")), tls=False, arguments=OPTIONS) as server:
            ask_thinking(Asker(server, python))
        ask_upstream(python)
        fail_log(model)
        take_over(model, python)
        go_without(model)
        refuse_folder(model)
    checks.finish()


if __name__ == "__main__":
    main()
