#!/usr/bin/env python3
"""`bulla serve` with one model of its own and one of another server: llama-server with the demo model where there is
one (BULLA_LLAMA_SERVER or on the PATH), and always a stand-in in this process that answers as vLLM does and, on
demand, wrongly."""
import http.client
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import demo_models
from checks import Checks
from small_source import make_model

from serving import Server, can_serve

ROOT = os.environ.get("BULLA_SOURCE_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
PATIENCE = 60
MODEL = "org/vllm-shaped"
SAID = "their-own-code-of-an-error"


class StandIn(http.server.ThreadingHTTPServer):
    """Answers by the last message; keeps what it was asked."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies, self.authorizations, self.hung_up = [], [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, value, **headers):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 4096}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.authorizations.append(self.headers["Authorization"])
        if self.path == "/v1/embeddings":
            self.reply(200, {"object": "list", "data": [{"index": 0, "embedding": [0.25, -0.5]}],
                             "usage": {"prompt_tokens": 3, "total_tokens": 3}})
            return
        said = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        if said == "refuse":
            self.reply(400, {"error": {"message": "this is too long", "type": "BadRequestError", "param": "messages",
                                       "code": SAID}})
        elif said == "wait":
            self.reply(429, {"error": {"message": "later", "type": "x"}}, Retry_After="9")
        elif said == "fail":
            self.reply(500, {"error": {"message": "oops"}})
        else:
            self.stream(body, said)

    def chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def event(self, value):
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def piece(self, chat, index, delta, finish=None):
        choice = {"index": index, "logprobs": None, "finish_reason": finish}
        choice.update({"delta": delta} if chat else {"text": delta.get("content", "")})
        self.event({"id": "x", "object": "chunk", "model": MODEL, "choices": [choice]})

    def stream(self, body, said):
        chat, choices = "messages" in body, body.get("n", 1)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for index in range(choices):
            self.piece(chat, index, {"role": "assistant", "content": ""})
        if said == "break":
            self.piece(chat, 0, {"content": "half"})
            self.close_connection = True
            return
        if said == "for ever":
            try:
                while True:
                    self.piece(chat, 0, {"content": "word "})
                    time.sleep(0.01)
            except OSError:
                self.server.hung_up.set()
            return
        if said == "call":
            self.piece(chat, 0, {"tool_calls": [{"index": 0, "id": "call_7", "type": "function",
                                                 "function": {"name": "f", "arguments": ""}}]})
            for part in ('{"a"', ":1}"):
                self.piece(chat, 0, {"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
            self.piece(chat, 0, {}, "tool_calls")
        else:
            self.piece(chat, 0, {"reasoning_content": "hm"})
            for index in range(choices):
                for part in ("H\u00e9", "llo ", str(index)):
                    self.piece(chat, index, {"content": part})
                self.piece(chat, index, {}, "stop")
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}
        self.event({"id": "x", "model": MODEL, "choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")


def post(url, path, body):
    """Status, headers, and the body: parsed, or the list of events' data."""
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=PATIENCE)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    try:
        data = answer.read()
    except http.client.IncompleteRead as cut:
        data = cut.partial
    connection.close()
    if body.get("stream") and answer.status == 200:
        events = [line[6:].decode() for line in data.split(b"\n") if line.startswith(b"data: ")]
        return answer.status, answer.headers, events
    return answer.status, answer.headers, json.loads(data)


def chat(url, model, text, **more):
    return post(url, "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": text}], **more})


def wait_ready(url, model):
    """Until the upstream's first probe came back."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        status, _, _ = chat(url, model, "hello", max_tokens=1)
        if status == 200:
            return True
        time.sleep(0.1)
    return False


def check_answers(checks, url, stand_in):
    status, headers, answer = chat(url, "theirs", "hello", temperature=0.5, n=2, seed=3)
    checks.equal(status, 200, "an answer of the upstream")
    checks.equal([choice["message"]["content"] for choice in answer["choices"]], ["H\u00e9llo 0", "H\u00e9llo 1"],
                 "its choices")
    checks.equal(answer["choices"][0]["message"].get("reasoning_content"), "hm", "its reasoning")
    checks.equal([answer["usage"][key] for key in ("prompt_tokens", "completion_tokens")], [5, 7], "its usage")
    checks.equal(answer["model"], "theirs", "the model's name is the one asked for")
    checks.equal(headers.get("X-Bulla-Verified"), None, "an upstream on loopback is not marked unverified")
    sent = stand_in.bodies[-1]
    checks.equal([sent[key] for key in ("model", "stream", "n", "temperature", "seed")], [MODEL, True, 2, 0.5, 3],
                 "what it was asked")
    checks.equal(stand_in.authorizations[-1], "Bearer upstream-key", "its key")
    _, _, events = chat(url, "theirs", "hello", stream=True, stream_options={"include_usage": True})
    checks.equal(events[-1], "[DONE]", "the end of a stream")
    deltas = [choice["delta"].get("content") or "" for event in events[:-1] for choice in json.loads(event)["choices"]]
    checks.equal("".join(deltas), "H\u00e9llo 0", "a streamed answer")
    checks.equal(json.loads(events[-2])["usage"]["completion_tokens"], 7, "a stream's usage")
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    _, _, answer = chat(url, "theirs", "call", tools=[tool])
    call = answer["choices"][0]["message"]["tool_calls"][0]
    checks.equal((call["id"], call["function"]), ("call_7", {"name": "f", "arguments": '{"a":1}'}), "a tool call")
    checks.equal(answer["choices"][0]["finish_reason"], "tool_calls", "why it ended")
    _, _, answer = post(url, "/v1/completions", {"model": "theirs", "prompt": "hello"})
    checks.equal(answer["choices"][0]["text"], "H\u00e9llo 0", "a completion")
    _, _, answer = post(url, "/v1/embeddings", {"model": "theirs", "input": "hello"})
    checks.equal(answer["data"][0]["embedding"], [0.25, -0.5], "an embedding")


def check_failures(checks, url, stand_in):
    status, _, answer = chat(url, "theirs", "refuse")
    checks.equal(status, 400, "its 400 stays one")
    checks.contains(answer["error"]["message"], "this is too long", "with its message")
    checks.equal(answer["error"]["param"], "messages", "and its field")
    checks.equal(answer["error"]["code"], SAID, "and its code")
    status, headers, _ = chat(url, "theirs", "wait")
    checks.equal((status, headers["Retry-After"]), (429, "9"), "its 429 and Retry-After")
    checks.equal(chat(url, "theirs", "fail")[0], 502, "its 500 becomes a 502")
    checks.equal(chat(url, "theirs", "break")[0], 502, "a stream that breaks off")
    _, _, events = chat(url, "theirs", "break", stream=True)
    checks.true(len(events) > 1 and '"error"' in events[-2], "a broken stream ends with its error")
    checks.equal(events[-1], "[DONE]", "and as every stream")
    checks.true(not any(choice["finish_reason"] for event in events[:-2] for choice in json.loads(event)["choices"]),
                "never as if the answer were whole")
    checks.true(post(url, "/tokenize", {"model": "theirs", "prompt": "hello"})[0] in (400, 404, 501),
                "no tokenizer of it is here")
    place = urllib.parse.urlsplit(url)
    connection = socket.create_connection((place.hostname, place.port), PATIENCE)
    body = json.dumps({"model": "theirs", "stream": True, "messages": [{"role": "user", "content": "for ever"}]})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall((head + body).encode())
    checks.contains(connection.recv(12), b"HTTP/1.1 200", "a stream that does not end")
    connection.close()
    checks.true(stand_in.hung_up.wait(PATIENCE), "the upstream is hung up on when the client hangs up")


def check_stand_in(checks, folder):
    stand_in = StandIn()
    key = os.path.join(folder, "key")
    with open(key, "w", encoding="utf-8") as file:
        file.write("upstream-key\n")
    os.chmod(key, 0o600)
    config = {"models": [{"name": "own", "path": make_model(folder, "own")},
                         {"name": "theirs", "upstream": stand_in.url, "upstream_model": MODEL,
                          "upstream_key_file": key}]}
    with Server(config=config, tls=False) as server:
        if not checks.true(wait_ready(server.url, "theirs"), "the upstream becomes ready"):
            return
        status, _, answer = chat(server.url, "own", "hello", max_tokens=3)
        checks.equal((status, answer["model"]), (200, "own"), "the server's own model answers beside it")
        check_answers(checks, server.url, stand_in)
        check_failures(checks, server.url, stand_in)
        refused = [line["error"] for line in server.log() if line["event"] == "request" and line["status"] in (400, 429)
                   and line["route"] == "/v1/chat/completions"]
        checks.equal(refused, ["upstream_refused"] * 2, "the log has words of its own for what an upstream refuses")
        text = server.read(server.log_path)
        checks.true(SAID not in text and "BadRequestError" not in text, "and none of the upstream's")
        stand_in.shutdown()
        stand_in.server_close()
        status, headers, _ = chat(server.url, "theirs", "hello")
        checks.equal((status, headers["Retry-After"]), (503, "1"), "an upstream that is gone")
        checks.equal(chat(server.url, "own", "hello", max_tokens=3)[0], 200, "the server's own model answers on")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def find_llama_server(checks):
    """Its program: with full counts built where it is not there yet (bench/peer.py), else None where nobody has it."""
    program = os.environ.get("BULLA_LLAMA_SERVER") or shutil.which("llama-server")
    if program or not FULL:
        return program
    made = subprocess.run([sys.executable, os.path.join(ROOT, "bench", "peer.py"), "llama-server"],
                          stdout=subprocess.PIPE, text=True, check=False)
    checks.equal(made.returncode, 0, "llama-server is built")
    return os.path.join(made.stdout.strip(), "llama-server") if made.returncode == 0 else None


def check_llama_server(checks, program, gguf):
    port = free_port()
    command = [program, "-m", gguf, "--host", "127.0.0.1", "--port", str(port), "-c", "1024", "--no-webui"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        config = {"models": [{"name": "llama", "upstream": f"http://127.0.0.1:{port}"}]}
        with Server(config=config, tls=False) as server:
            if not checks.true(wait_ready(server.url, "llama"), "llama-server becomes ready"):
                return
            _, _, answer = chat(server.url, "llama", "Tell me the capital of France.", temperature=0, max_tokens=16)
            checks.contains(answer["choices"][0]["message"]["content"], "Paris", "what llama-server answers")
            usage = answer["usage"]
            checks.true(usage["prompt_tokens"] > 5 and usage["completion_tokens"] > 2, "its token counts")
            _, _, events = chat(server.url, "llama", "Count to ten.", stream=True, max_tokens=8)
            checks.equal(events[-1], "[DONE]", "a stream of llama-server")
            status, _, _ = chat(server.url, "llama", "word " * 4000)
            checks.equal(status, 400, "a prompt too long for llama-server is the client's error")
    finally:
        process.kill()
        process.wait()


def main():
    checks = Checks()
    if not can_serve():
        checks.skip("this build has no bulla serve")
    with tempfile.TemporaryDirectory() as folder:
        check_stand_in(checks, folder)
    program = find_llama_server(checks)
    gguf = demo_models.source("smollm2")
    if program and gguf:
        check_llama_server(checks, program, gguf)
    else:
        print("no llama-server: the upstream was the stand-in only")
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
