#!/usr/bin/env python3
"""The operator's half of a server that really runs: keys and scopes, metrics, logs without text, configuration, signals,
a second start while the first drains, and a store of keys that survives kills."""
import hashlib
import http.client
import http.server
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

from checks import Checks
from serving import PROGRAM, Server, can_serve, memory_bytes
from small_source import make_model

checks = Checks()
FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
SECRET = "xylophone-marzipan"


def bulla(*arguments, **more):
    return subprocess.run([PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False, **more)


def key_id(key):
    return hashlib.sha256(bytes.fromhex(key.removeprefix("bulla-"))).hexdigest()[:16]


def add_key(store, *arguments):
    done = bulla("keys", "add", "--store", store, *arguments)
    checks.equal(done.returncode, 0, f"keys add says {done.stderr}")
    return done.stdout.strip()


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


class Upstream:
    """An OpenAI-compatible server whose answers go on when the test lets them: two words, a wait, two more."""

    def __init__(self):
        self.go_on = threading.Event()
        self.waiting = threading.Semaphore(0)
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *unused):
                pass

            def do_GET(self):
                body = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def chunk(self, value):
                data = f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

            def piece(self, text, finish=None):
                self.chunk({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.piece("one ")
                self.piece("two ")
                upstream.waiting.release()
                upstream.go_on.wait(60)
                try:
                    self.piece("three ")
                    self.piece("four", "stop")
                    self.chunk({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
                                "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
                    self.chunk("[DONE]")
                    self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    pass  # the server has hung up

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def model(self):
        return {"name": "up", "upstream": self.url, "upstream_model": "m"}


def chat(model="up"):
    return {"model": model, "messages": [{"role": "user", "content": SECRET}], "max_tokens": 8}


class Stream(threading.Thread):
    """A streamed answer, read in a thread of its own."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.connection = server.connect()
        self.text, self.ended = "", False
        self.start()

    def run(self):
        try:
            self.connection.request("POST", "/v1/chat/completions", json.dumps({**chat(), "stream": True}),
                                    {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            while part := answer.read1(65536):
                self.text += part.decode()
            self.ended = True
        except (OSError, http.client.HTTPException) as problem:
            self.text += f"\n({problem!r})"

    def content(self):
        values = [json.loads(line[6:]) for line in self.text.split("\n")
                  if line.startswith("data: {") and '"choices"' in line]
        return "".join(choice["delta"].get("content") or "" for value in values for choice in value["choices"])


# --- Prometheus' text format 0.0.4, read strictly ---

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? '
                    r'(-?(?:\d+(?:\.\d+)?(?:e-?\d+)?)|[+-]Inf|NaN)$')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"')


def parse_metrics(text):
    """{name: (type, {labels: value})}; raises ValueError where the text is not as the format wants it."""
    families, current = {}, None
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            current = line.split(" ")[2]
            if current in families:
                raise ValueError(f"{current} comes twice")
            families[current] = [None, {}]
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if name != current or kind not in ("counter", "gauge", "histogram"):
                raise ValueError(line)
            families[name][0] = kind
        else:
            found = SAMPLE.match(line)
            if not found:
                raise ValueError(line)
            name, labels, value = found.groups()
            kind, samples = families[current]
            ending = name.removeprefix(current)
            if ending not in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",)):
                raise ValueError(f"{name} is not of {current}")
            key = (ending, tuple(sorted(LABEL.findall(labels or ""))))
            if key in samples:
                raise ValueError(f"twice: {line}")
            samples[key] = float(value)
    return families


def check_histogram(name, samples):
    series = {}
    for (ending, labels), value in samples.items():
        rest = tuple(label for label in labels if label[0] != "le")
        one = series.setdefault(rest, {"buckets": []})
        if ending == "_bucket":
            one["buckets"].append((float(dict(labels)["le"]), value))
        else:
            one[ending] = value
    for labels, one in series.items():
        bounds, counts = zip(*one["buckets"])
        checks.true(list(bounds) == sorted(set(bounds)) and bounds[-1] == float("inf"), f"{name}{labels}: bounds rise to Inf")
        checks.equal(list(counts), sorted(counts), f"{name}{labels}: buckets accumulate")
        checks.equal(counts[-1], one["_count"], f"{name}{labels}: the last bucket is the count")


VLLM = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "gpu_cache_usage_perc",
        "prefix_cache_queries_total", "prefix_cache_hits_total", "prompt_tokens_total", "generation_tokens_total",
        "request_success_total", "time_to_first_token_seconds", "inter_token_latency_seconds",
        "time_per_output_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds",
        "request_prefill_time_seconds", "request_decode_time_seconds", "request_prompt_tokens",
        "request_generation_tokens", "request_max_num_generation_tokens", "num_preemptions_total"]


def check_metrics(text):
    try:
        families = parse_metrics(text)
    except ValueError as problem:
        checks.true(False, f"metrics: {problem}")
        return {}
    for name in VLLM:
        checks.true(f"vllm:{name}" in families, f"vllm:{name} is there")
    for name, (kind, samples) in families.items():
        if kind == "histogram":
            check_histogram(name, samples)
    try:
        from prometheus_client.parser import text_string_to_metric_families
        checks.true(len(list(text_string_to_metric_families(text))) > 20, "prometheus_client reads the metrics")
    except ImportError:
        pass
    return families


# --- The tests ---

def test_keys_and_metrics(folder, model):
    store = os.path.join(folder, "keys.db")
    user, admin = add_key(store, "--tenant", "acme", "--most-tokens", "6"), add_key(store, "--admin")
    with Server(model, arguments=["--keys", store, "--name", "tiny"]) as server:
        for path in ("/health", "/ready", "/version"):
            checks.equal(server.request("GET", path)[0], 200, f"{path} is open")
        for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/chat/completions"),
                             ("POST", "/v1/completions"), ("POST", "/v1/embeddings"), ("POST", "/tokenize"),
                             ("POST", "/v1/responses"), ("GET", "/v1/admin/models"), ("POST", "/v1/admin/models")):
            body = {} if method == "POST" else None
            for headers in ({}, bearer("bulla-" + "0" * 64), bearer("sk-1")):
                status, answer = server.json(method, path, body, headers)
                checks.equal((status, answer["error"]["type"]), (401, "authentication_error"), f"{path} with {headers}")
        for method, path in (("GET", "/v1/admin/models"), ("POST", "/v1/admin/models"), ("DELETE", "/v1/admin/models/x")):
            body = {} if method == "POST" else None
            checks.equal(server.json(method, path, body, bearer(user))[0], 403, f"{method} {path} with a user's key")
        checks.equal(server.json("GET", "/v1/admin/models", None, bearer(admin))[0], 200, "an admin's key")
        checks.equal(server.request("GET", "/v1/models", None, {"X-Api-Key": user})[0], 200, "x-api-key")
        status, answer = server.json("POST", "/v1/chat/completions", chat("tiny"), bearer(user))
        checks.equal(status, 200, f"an answer: {answer}")
        server.events("/v1/chat/completions", {**chat("tiny"), "max_tokens": 5}, bearer(admin))
        server.json("POST", "/v1/chat/completions", chat("no model of that name " + SECRET), bearer(user))
        families = check_metrics(server.request("GET", "/metrics", None, bearer(user))[2].decode())
        of_model = (("", (("model_name", "tiny"),)))
        checks.true(families["vllm:prompt_tokens_total"][1][of_model] > 0, "prompt tokens are counted")
        checks.true(families["vllm:generation_tokens_total"][1][of_model] > 0, "generated tokens are counted")
        checks.equal(sum(families["vllm:request_success_total"][1].values()), 2, "answers are counted")
        checks.true(("", (("route", "/v1/chat/completions"), ("status", "401"))) in families["bulla_http_requests_total"][1],
                    "refusals are counted")
        # The server sees by itself which keys are disabled or new.
        late = add_key(store)
        server.wait(lambda: server.request("GET", "/v1/models", None, bearer(late))[0] == 200, what="a new key")
        checks.equal(bulla("keys", "disable", key_id(user), "--store", store).returncode, 0, "keys disable")
        server.wait(lambda: server.request("GET", "/v1/models", None, bearer(user))[0] == 401, what="a disabled key")
        checks.equal(server.json("GET", "/v1/models", None, bearer(user))[1]["error"]["code"], "disabled_api_key", "disabled")
        checks.equal([line["event"] for line in server.log() if line["event"].startswith("keys_")], ["keys_reloaded"] * 2,
                     "a line in the log for each change")
        server.process.send_signal(signal.SIGHUP)
        server.wait(lambda: sum(line["event"] == "keys_reloaded" for line in server.log()) == 3, what="SIGHUP")
        checks.equal(server.stop(), 0, "exit status after SIGTERM")
        text = server.read(server.log_path) + server.errors()
        for word in (SECRET, user, admin, late, user[6:]):
            checks.true(word not in text, f"{word[:12]}... is not in the log")
        answers = [line for line in server.log() if line.get("route") == "/v1/chat/completions" and line["status"] == 200]
        checks.equal(len(answers), 2, "a line an answer")
        checks.equal((answers[0]["tenant"], answers[0]["key"], answers[0]["model"]), ("acme", key_id(user), "tiny"), "whose")
        checks.true(answers[0]["prompt_tokens"] > 0 and answers[1]["stream"], "what")


def test_without_keys(model):
    with Server(model, tls=False) as server:
        checks.equal(server.request("GET", "/v1/models")[0], 200, "use without keys")
        status, answer = server.json("POST", "/v1/admin/models", {"name": "x", "path": "/x"})
        checks.equal((status, answer["error"]["code"]), (403, "no_admin_keys"), "nobody administers a server without keys")
    with Server(config={"models": [], "metrics_open": True, "keys": "/nowhere/keys"}, start=False) as server:
        try:
            server.start()
            checks.true(False, "a server without its keys starts")
        except RuntimeError as problem:
            checks.contains(str(problem), "there is no such store of keys", "keys that are not there")


def raw(server, head):
    """All that a server without TLS says to these bytes until it closes."""
    said = b""
    with socket.create_connection(server.address, 60) as client:
        client.sendall(head)
        while part := client.recv(65536):
            said += part
    return said.decode("latin-1")


def test_heads(folder, model):
    """A body whose request is not let in is neither asked for nor read."""
    store = os.path.join(folder, "heads.json")
    user = add_key(store)
    with Server(model, tls=False, arguments=["--keys", store]) as server:
        for method, path, key, status in (("POST", "/v1/embeddings", None, 401), ("POST", "/v1/embeddings", "bulla-1", 401),
                                          ("POST", "/v1/admin/models", user, 403), ("POST", "/nowhere", user, 404),
                                          ("PUT", "/tokenize", user, 405)):
            for more in ("", "Expect: 100-continue\r\n"):
                said = raw(server, (f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 16777216\r\n{more}"
                                    + (f"Authorization: Bearer {key}\r\n" if key else "") + "\r\n").encode())
                checks.equal(said[:13], f"HTTP/1.1 {status} ", f"{method} {path} before its body: {said[:200]}")
                checks.contains(said, "Connection: close", "the connection ends with it")
        said = raw(server, (f"POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
                            f"Connection: close\r\nAuthorization: Bearer {user}\r\n\r\n{{}}").encode())
        checks.contains(said, "HTTP/1.1 400", "a body that is let in is read")


def test_hosts(folder, model):
    """Where only this machine can connect and there are no keys, requests must be for a name of this machine."""
    store = os.path.join(folder, "hosts.json")
    user = add_key(store)
    evil = {"Host": "evil.example:8080", "Origin": "http://evil.example:8080"}
    body = {"prompt": "a"}
    with Server(model, tls=False) as server:
        for method, path in (("GET", "/health"), ("GET", "/"), ("GET", "/v1/models"), ("GET", "/nowhere"), ("POST", "/tokenize")):
            status, answer = server.json(method, path, body if method == "POST" else None, evil)
            checks.equal((status, answer["error"]["code"]), (403, "foreign_host"), f"{method} {path} of another host")
        checks.contains(answer["error"]["message"], "--hosts", "it says what to do")
        for host in ("localhost", "chat.localhost:1", "127.0.0.1", "[::1]:8080"):
            checks.equal(server.request("POST", "/tokenize", body, {"Host": host})[0], 200, host)
        checks.contains(raw(server, b"GET /health HTTP/1.0\r\n\r\n"), "200 OK", "HTTP/1.0 without Host")
    with Server(model, tls=False, arguments=["--hosts", "other.example,box.example"]) as server:
        checks.equal(server.request("GET", "/v1/models", None, {"Host": "box.example:99"})[0], 200, "--hosts")
        checks.equal(server.request("GET", "/v1/models", None, evil)[0], 403, "and no others")
    with Server(model, config={"hosts": ["box.example"], "insecure_http": True}) as server:
        checks.equal(server.request("GET", "/v1/models", None, {"Host": "box.example"})[0], 200, "hosts of a configuration")
    with Server(model, tls=False, arguments=["--keys", store]) as server:
        checks.equal(server.request("GET", "/v1/models", None, {**evil, **bearer(user)})[0], 200, "keys keep others out")


def test_refusals(model):
    """What the HTTP layer does not take has an id, is logged and counted."""
    with Server(model, tls=False, config=None, arguments=["--cors", "https://a.example"]) as server:
        connection = server.connect()
        connection.putrequest("POST", "/v1/completions")
        for name, value in (("Content-Length", str(1 << 40)), ("X-Request-Id", "too-long"), ("Origin", "https://a.example")):
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        checks.equal((answer.status, json.loads(answer.read())["error"]["code"]), (413, "body_too_long"), "a long body")
        checks.equal(answer.getheader("X-Request-Id"), "too-long", "its id")
        checks.equal(answer.getheader("Access-Control-Allow-Origin"), "https://a.example", "and CORS")
        connection.close()
        status, headers, body = server.request("GET", "/health", None, {"A": "a" * 40000})
        checks.equal((status, json.loads(body)["error"]["code"]), (431, "header_too_long"), "a long header")
        checks.true(headers["x-request-id"].startswith("req-"), "has an id of its own")
        def requests():
            return {line["request_id"]: line for line in server.log() if line["event"] == "request"}
        server.wait(lambda: len(requests()) >= 2, what="both lines in the log")
        lines = requests()
        checks.equal([lines["too-long"][key] for key in ("status", "error", "route", "method")],
                     [413, "body_too_long", "unknown", "POST"], "its line in the log")
        checks.true(headers["x-request-id"] in lines and lines["too-long"]["seconds"] < 60, "all have one")
        text = server.request("GET", "/metrics")[2].decode()
        for status in (413, 431):
            checks.contains(text, f'bulla_http_requests_total{{route="unknown",status="{status}"}} 1', "and are counted")


def test_large_bodies():
    """What means nothing in a body takes no memory while the answer lasts, and answers together are bounded."""
    upstream = Upstream()
    body = json.dumps({**chat(), "stream": True})[:-1] + ',"junk":[' + ",".join(["{}"] * 600000) + "]}"
    limits = {"answer_bytes": 4 << 20}
    with Server(config={"models": [upstream.model()], "insecure_http": True, "limits": limits}) as server:
        before, connections = memory_bytes(server.pid), []
        for _ in range(8):
            connection = server.connect()
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            connections.append(connection)
            checks.true(upstream.waiting.acquire(timeout=60), "the upstream is asked")
        grown = memory_bytes(server.pid) - before
        checks.true(grown < 300 << 20, f"8 answers to requests of {len(body)} bytes hold {grown >> 20} MiB")
        prompt = {"model": "up", "prompt": "x" * (5 << 20), "stream": True}
        status, headers, answer = server.request("POST", "/v1/completions", prompt)
        checks.equal((status, json.loads(answer)["error"]["code"], headers.get("retry-after")), (503, "overloaded", "1"),
                     "a request that would hold more than is left")
        upstream.go_on.set()
        for connection in connections:
            checks.contains(connection.getresponse().read().decode(), "data: [DONE]", "the answers end")
            connection.close()


def test_metrics_open(folder, model):
    store = os.path.join(folder, "open.json")
    add_key(store)
    with Server(model, tls=False, arguments=["--keys", store, "--metrics-open"]) as server:
        checks.equal(server.request("GET", "/metrics")[0], 200, "--metrics-open")
        checks.equal(server.request("GET", "/v1/models")[0], 401, "the rest stays closed")


def test_command_lines(folder, model):
    def config(value):
        descriptor, path = tempfile.mkstemp(dir=folder, suffix=".json")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file)
        return path
    here = ["--listen", "127.0.0.1:0"]
    cases = [
        (["--config", config({"lissten": "x"})], 1, "there is no field \"lissten\""),
        (["--config", "/nowhere"], 1, "/nowhere"),
        ([], 2, "which model?"),
        ([model, "--listen", "nonsense"], 2, "expected HOST:PORT"),
        ([model, "--listen", "0.0.0.0:0", "--http"], 2, "--insecure-http"),
        (["--config", config({"listen": "0.0.0.0:0", "http": True})], 2, "--insecure-http"),
        ([model, "--listen", "0.0.0.0:0"], 2, "--keys FILE"),
        ([model, "--listen", "192.0.2.1:1", "--open"], 1, "cannot listen on 192.0.2.1"),
        ([model, *here, "--hosts", "a:80"], 2, "is no host's name"),
        ([*here, "--config", config({"limits": {"body_bytes": 4096, "held_bytes": 4095}})], 2, "less than that of one body"),
        ([model, *here, "--log-level", "loud"], 2, "expected error, warning, info or debug"),
        ([model, *here, "--tls-certificate", "x"], 2, "belong together"),
        ([model, *here, "--tls-name", "a b"], 2, "cannot be a certificate's name"),
        ([model, *here, "--tls-name", "a", "--http"], 2, "--tls-name is for the certificate"),
        ([model, *here, "--tls-name", "a", "--tls-certificate", "c", "--tls-key", "k"], 2, "--tls-name is for the certificate"),
        ([model, *here, "--name", "a b"], 1, "is no name for a model"),
        ([model + ".missing", *here], 1, ".missing"),
        ([*here, "--upstream", "http://127.0.0.1:1"], 2, "needs --name"),
        ([*here, "--config", config({}), "--threads", "2"], 2, "are for a MODEL"),
    ]
    for arguments, status, says in cases:
        done = bulla("serve", *arguments, timeout=60, env={**os.environ, "BULLA_STATE": os.path.join(folder, "state")})
        checks.equal((done.returncode, says in done.stderr, done.stdout), (status, True, ""), f"{arguments}: {done.stderr}")
    for arguments, status in ((["keys", "add"], 2), (["keys", "list", "--store", "/nowhere/x"], 1), (["keys", "frobnicate"], 2),
                              (["keys", "disable", "--store", "x"], 2)):
        checks.equal(bulla(*arguments).returncode, status, f"{arguments}")


def test_config(model):
    config = {"http": True, "cors_origin": "https://a.example", "page": False,
              "models": [{"name": "one", "path": model, "aliases": ["uno"], "max_tokens": 3}, {"name": "two", "path": model}]}
    with Server(config=config) as server:
        names = [entry["id"] for entry in server.json("GET", "/v1/models")[1]["data"]]
        checks.equal(sorted(names)[:2], ["one", "two"], "models of a configuration")
        checks.true(server.url.startswith("http:"), "http")
        status, answer = server.json("POST", "/v1/chat/completions", {**chat("uno"), "max_tokens": 2})
        checks.equal(status, 200, f"an answer by alias: {answer}")
        checks.equal(server.request("GET", "/")[0], 404, "page: false")


def greet(server, name):
    """Whether a client that wants to reach `name` takes the server's certificate."""
    context = ssl.create_default_context(cafile=server.certificate)
    try:
        with socket.create_connection(server.address, timeout=60) as plain:
            with context.wrap_socket(plain, server_hostname=name):
                return True
    except ssl.SSLCertVerificationError:
        return False


def test_tls_names(model):
    """The self-made certificate's names: of the options, of the configuration, and those it had before."""
    with Server(config={"models": []}, arguments=["--tls-name", "llm.example", "--tls-name", "127.0.0.9"]) as server:
        checks.equal([greet(server, name) for name in ("localhost", "llm.example", "127.0.0.9", "other.example")],
                     [True, True, True, False], "names of the options")
        server.stop()
        with open(server.config, "w", encoding="utf-8") as file:
            json.dump({"models": [], "tls": {"names": ["other.example"]}}, file)
        server.arguments = []
        server.start()
        checks.equal([greet(server, name) for name in ("llm.example", "other.example")], [True, True],
                     "a name of the configuration beside those that were there")
        checks.equal([line["event"] for line in server.log() if line["event"].startswith("certificate")],
                     ["certificate_made"] * 2, "the log says that it was made")


def test_log_levels(model):
    """What probes and an open page ask all the time stands in the log at level debug only, unless it goes wrong."""
    routine = ["/", "/health", "/metrics", "/page/{file}", "/ready", "/v1/models", "/version"]
    for level, expected in (("info", []), ("debug", routine)):
        with Server(model, tls=False, arguments=["--log-level", level]) as server:
            for path in ("/", "/page/chat.js", "/health", "/ready", "/version", "/metrics", "/v1/models", "/v1/models/none"):
                server.request("GET", path)
            server.wait(lambda: any(line.get("route") == "/v1/models/{id}" for line in server.log()), what="the last request")
            seen = [line for line in server.log() if line["event"] == "request"]
            checks.equal(sorted(line["route"] for line in seen if line["status"] == 200), expected, f"at level {level}")
            checks.equal([(line["route"], line["level"]) for line in seen if line["status"] != 200],
                         [("/v1/models/{id}", "info")], "a request that goes wrong")


def test_drain():
    upstream = Upstream()
    with Server(config={"models": [upstream.model()], "insecure_http": True}) as server:
        checks.true(server.url.startswith("http:"), "insecure_http")
        stream = Stream(server)
        checks.true(upstream.waiting.acquire(timeout=30), "the upstream is asked")
        server.process.send_signal(signal.SIGTERM)
        server.wait(lambda: any(line["event"] == "draining" for line in server.log()), what="draining")
        try:
            server.request("GET", "/health")
            checks.true(False, "a connection is taken while the server drains")
        except OSError:
            checks.true(True, "no new connections")
        upstream.go_on.set()
        stream.join(30)
        checks.equal((stream.ended, stream.content()), (True, "one two three four"), f"the answer is finished: {stream.text}")
        checks.contains(stream.text, "data: [DONE]", "the answer's end")
        checks.equal(server.process.wait(30), 0, "exit status after draining")


def test_hand_back():
    upstream = Upstream()
    with Server(config={"models": [upstream.model()], "drain_seconds": 0}) as server:
        stream = Stream(server)
        checks.true(upstream.waiting.acquire(timeout=30), "the upstream is asked")
        server.wait(lambda: "two" in stream.text, what="the first words")
        server.process.send_signal(signal.SIGTERM)
        stream.join(30)
        checks.contains(stream.text, '"error"', "an answer that is handed back says so")
        checks.true('"finish_reason":"stop"' not in stream.text, "and does not look whole")
        checks.equal(server.process.wait(30), 0, "exit status after handing back")
    upstream.go_on.set()


def test_second_signal():
    upstream = Upstream()
    with Server(config={"models": [upstream.model()]}) as server:
        Stream(server)
        checks.true(upstream.waiting.acquire(timeout=30), "the upstream is asked")
        server.process.send_signal(signal.SIGTERM)
        server.wait(lambda: any(line["event"] == "draining" for line in server.log()), what="draining")
        server.process.send_signal(signal.SIGTERM)
        checks.equal(server.process.wait(10), 130, "a second signal ends it at once")
    upstream.go_on.set()


def refused_start(server):
    """What one says that may not listen where `server` does."""
    config = os.path.join(server.folder, "no models.json")
    with open(config, "w", encoding="utf-8") as file:
        json.dump({"models": [], "log": "none"}, file)
    done = bulla("serve", "--listen", "%s:%d" % server.address, "--config", config, timeout=60,
                 env={**os.environ, "BULLA_STATE": server.state})
    checks.equal((done.returncode, done.stdout), (1, ""), f"a second server on the same address: {done.stderr}")
    return done.stderr


def test_second_start(model):
    """A second server does not start where one listens, unless it is to follow that one: then the first finishes what it
    has while the second serves. Where the first drains already, the second just starts."""
    upstream = Upstream()
    with Server(config={"models": [upstream.model()]}) as first:
        stream = Stream(first)
        checks.true(upstream.waiting.acquire(timeout=30), "the upstream is asked")
        says = refused_start(first)
        checks.contains(says, "ddress already in use", "why")
        checks.contains(says, "--take-over", "what to do")
        follower = {"listen": "%s:%d" % first.address, "environment": {"BULLA_STATE": first.state}}
        with Server(model, arguments=["--take-over"], **follower) as second:
            checks.equal(second.url, first.url, "the same address")
            first.process.send_signal(signal.SIGTERM)
            first.wait(lambda: any(line["event"] == "draining" for line in first.log()), what="draining")
            second.state = first.state
            for _ in range(20):
                checks.equal(second.request("GET", "/ready")[0], 200, "the second answers")
            refused_start(second)
            second.process.send_signal(signal.SIGTERM)
            checks.equal(second.process.wait(30), 0, "the second ends")
        with Server(model, **follower) as third:
            third.state = first.state
            checks.equal(third.request("GET", "/ready")[0], 200, "a third starts while the first drains")
            upstream.go_on.set()
            stream.join(30)
            checks.equal(stream.content(), "one two three four", "the first finishes its answer")
            checks.equal(first.process.wait(30), 0, "the first ends")
            checks.equal(third.request("GET", "/ready")[0], 200, "the third goes on")


def test_take_over_waits(model):
    """One that follows another takes connections once its models are ready, not before."""
    with Server(model, tls=False) as first:
        where = "%s:%d" % first.address
        with Server(model, tls=False, listen=where, arguments=["--take-over"], environment={"BULLA_ISA": "abacus"},
                    start=False) as second:
            second.spawn()
            statuses = {first.request("GET", "/version")[0]}
            while second.process.poll() is None:
                try:
                    statuses.add(first.request("GET", "/version", timeout=10)[0])
                except OSError as problem:
                    statuses.add(repr(problem))
            checks.equal(statuses, {200}, "the first answers all meanwhile")
            checks.equal(second.process.returncode, 1, f"a model that does not start: {second.errors()}")
        with Server(model, tls=False, listen=where, arguments=["--take-over", "--name", "next"]) as second:
            first.stop()
            checks.equal(second.json("GET", "/v1/models")[1]["data"][0]["id"], "next", "the second's model")


def test_kills(folder):
    """`bulla keys add` killed at any moment: every key that was printed is there, and the store is whole."""
    draw = random.Random(5)
    began = time.monotonic()
    add_key(os.path.join(folder, "timed.db"))
    longest = 2 * (time.monotonic() - began)
    for name in ("killed.db", "killed.json"):
        store, printed = os.path.join(folder, name), [add_key(os.path.join(folder, name))]
        for _ in range(400 if FULL else 60):
            running = [subprocess.Popen([PROGRAM, "keys", "add", "--store", store], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL) for _ in range(2)]
            time.sleep(draw.random() * longest)
            for process in running:
                process.kill()
                text = process.communicate()[0].decode()
                if text.endswith("\n"):
                    printed.append(text.strip())
        done = bulla("keys", "list", "--store", store)
        checks.equal(done.returncode, 0, f"the store is whole: {done.stderr}")
        for key in printed:
            checks.contains(done.stdout, key_id(key), f"{name}: a key that was printed is there")
        checks.true(len(printed) > 3, f"{name}: {len(printed)} keys were printed")
        key = add_key(store)
        checks.contains(bulla("keys", "list", "--store", store).stdout, key_id(key), "and takes more")


def held_answer(server):
    """A stream that has begun and goes on for long."""
    connection = server.connect()
    connection.request("POST", "/v1/completions", json.dumps({"model": "tiny", "prompt": "a", "max_tokens": 400,
                                                              "ignore_eos": True, "stream": True}),
                       {"Content-Type": "application/json", **bearer(server.key)})
    answer = connection.getresponse()
    checks.equal(answer.status, 200, "a stream begins")
    answer.read1(100)
    return connection


def test_killed_server(folder, model):
    """kill -9 of the front in the middle of answers, a few times: its worker goes too, and the next start serves with
    the same keys and the same certificate."""
    store = os.path.join(folder, "served.db")
    key = add_key(store)
    with Server(model, arguments=["--name", "tiny", "--keys", store], start=False) as server:
        server.key, certificate = key, None
        for _ in range(10 if FULL else 4):
            server.start()
            with open(server.certificate, "rb") as file:
                found = file.read()
            checks.equal(found, certificate or found, "the certificate is kept")
            certificate = found
            status, answer = server.json("POST", "/v1/completions",
                                         {"model": "tiny", "prompt": "a", "max_tokens": 3}, bearer(key))
            checks.equal((status, answer.get("object")), (200, "text_completion"), "it answers")
            checks.equal(server.request("GET", "/v1/models")[0], 401, "and wants a key")
            streams, workers = [held_answer(server) for _ in range(3)], server.workers()
            server.kill()
            server.wait(lambda: not any(os.path.exists(f"/proc/{worker}") for worker in workers), what="the worker's end")
            for connection in streams:
                connection.close()
            checks.contains(bulla("keys", "list", "--store", store).stdout, key_id(key), "the store of keys is whole")


def long_answer(server, body, headers=None):
    """The answer to what would take far longer than any test; None where it is an error, and the error's status and code."""
    status, answer = server.json("POST", "/v1/completions",
                                 {"model": "long", "prompt": "a", "max_tokens": 60000, "ignore_eos": True, **body}, headers)
    if status != 200:
        return None, (status, answer["error"]["code"])
    return answer, None


def test_deadlines(folder):
    model = make_model(folder, "long", context=65536)
    with Server(model, tls=False, arguments=["--name", "long", "--max-running", "1"]) as server:
        for body, headers in (({"timeout": 2}, None), ({"timeout": 900}, {"X-Request-Timeout": "2"})):
            answer, problem = long_answer(server, body, headers)
            checks.equal(problem, None, "an answer whose time is up stays as far as it came")
            choice, tokens = answer["choices"][0], answer["usage"]["completion_tokens"]
            checks.equal((choice["finish_reason"], choice["stop_reason"]), ("length", "deadline"), f"what ended {body}")
            checks.true(0 < tokens < 60000 and choice["text"], f"it has {tokens} tokens")
        checks.equal(server.json("POST", "/v1/completions", {"prompt": "a"}, {"X-Request-Timeout": "soon"})[0], 400,
                     "a header that is no number")
        connection = server.connect()
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 60000, "ignore_eos": True,
                                                                  "stream": True}))
        stream = connection.getresponse()
        stream.read1(100)
        checks.equal(long_answer(server, {"timeout": 0.3})[1], (504, "deadline"), "one that waited for all of its time")
        connection.close()
        stream.close()
        # A worker that makes no step: the front keeps the time.
        worker = server.workers()[0]
        os.kill(worker, signal.SIGSTOP)
        checks.equal(long_answer(server, {"timeout": 0.1})[1], (504, "deadline"), "a worker that stands still")
        os.kill(worker, signal.SIGCONT)
        checks.equal(server.json("POST", "/v1/completions", {"prompt": "a"})[0], 200, "it answers again")
    with Server(model, tls=False, arguments=["--name", "long", "--max-seconds", "1"]) as server:
        checks.equal(long_answer(server, {"n": 4})[0]["choices"][3]["stop_reason"], "deadline", "--max-seconds")
    upstream = Upstream()
    with Server(config={"models": [{**upstream.model(), "max_seconds": 1}]}, tls=False) as server:
        server.wait(lambda: server.request("GET", "/ready")[0] == 200, what="the upstream")
        status, answer = server.json("POST", "/v1/chat/completions", {**chat(), "timeout": 30})
        checks.equal(status, 200, "an upstream's answer is ended here")
        checks.equal((answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"],
                      answer["choices"][0]["stop_reason"]), ("one two ", "length", "deadline"), "with what it had")
    upstream.go_on.set()


def main():
    if not can_serve() or bulla("worker", "--help").returncode != 0:
        checks.skip("this build has no bulla serve")
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder, "tiny")
        test_keys_and_metrics(folder, model)
        test_without_keys(model)
        test_heads(folder, model)
        test_hosts(folder, model)
        test_refusals(model)
        test_large_bodies()
        test_metrics_open(folder, model)
        test_command_lines(folder, model)
        test_config(model)
        test_tls_names(model)
        test_log_levels(model)
        test_drain()
        test_hand_back()
        test_second_signal()
        test_second_start(model)
        test_take_over_waits(model)
        test_kills(folder)
        test_killed_server(folder, model)
        test_deadlines(folder)
    checks.finish()


if __name__ == "__main__":
    main()
