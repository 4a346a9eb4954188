"""A server of receipts written anew from docs/receipt.md, docs/evidence.md and C2SP's formats, with a canned model and
SIMULATED evidence, which can misbehave in every way that `bulla connect` has to notice. Needs python3, openssl's command
and libcrypto alone.

    with HostileServer() as server:
        server.url                          # "https://127.0.0.1:45678"
        server.lie = "wrong_key"            # one of the LIES below; None: honest
        server.bodies                       # bodies of requests for answers that reached it: prompts
        server.policy()                     # a policy that accepts its evidence

One server is one process's worth of keys; `HostileServer(state=other)` shares the log and its key with another one.
"""
import base64
import ctypes
import ctypes.util
import hashlib
import http.server
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time

MODEL = "canned"
ROOT = hashlib.sha256(b"the canned model").digest()
MEASUREMENT = hashlib.sha256(b"the canned program").digest()
PROMPT_TOKENS = 5
WORDS = ["The", " capital", " of", " France", " is", " Paris", ".", " It", " lies", " on", " the", " Seine", ", \u2603", "!"]

# What it can do, and where: before anything is sent, or in an answer.
LIES_BEFORE = ["stale_nonce", "replayed_evidence", "relayed_evidence", "no_evidence", "evidence_not_json", "hangs_on_evidence",
               "debug_measurement", "huge_evidence", "closes_after_evidence"]
LIES = ["other_text", "other_ids", "wrong_receipt_key", "other_model_root", "changed_parameter", "dropped_last_event",
        "dropped_event", "reordered_events", "swapped_ids", "no_done", "hang_up", "hang_up_after_receipt", "no_receipt",
        "receipt_of_another", "wrong_salt", "salt_of_another", "bad_signature", "missing_inclusion", "wrong_inclusion",
        "unsigned_checkpoint", "other_log", "no_receipt_headers", "text_without_step", "text_in_other_member",
        "event_after_receipt", "wrong_evidence_hash", "evidence_not_found", "wrong_finish", "wrong_counts", "truncated_text",
        "says_not_simulated", "other_endpoint", "broken_json", "two_choices", "wrong_id", "unverified_engine", "not_a_stream",
        "extra_finish", "huge_event", "other_status", "error_beside_text", "not_an_error"]


class Signer:
    """Ed25519 by libcrypto."""
    library = ctypes.CDLL(ctypes.util.find_library("crypto") or "libcrypto.so.3")
    for name in ("EVP_PKEY_new_raw_private_key", "EVP_MD_CTX_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.EVP_PKEY_new_raw_private_key.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.EVP_PKEY_get_raw_public_key.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    library.EVP_DigestSignInit.argtypes = [ctypes.c_void_p] * 5
    library.EVP_DigestSign.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.EVP_MD_CTX_free.argtypes = [ctypes.c_void_p]

    def __init__(self, seed=None):
        self.key = self.library.EVP_PKEY_new_raw_private_key(1087, None, seed or os.urandom(32), 32)
        public, length = ctypes.create_string_buffer(32), ctypes.c_size_t(32)
        self.library.EVP_PKEY_get_raw_public_key(self.key, public, ctypes.byref(length))
        self.public = public.raw

    def sign(self, message):
        context = self.library.EVP_MD_CTX_new()
        signature, length = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
        self.library.EVP_DigestSignInit(context, None, None, None, self.key)
        done = self.library.EVP_DigestSign(context, signature, ctypes.byref(length), message, len(message))
        self.library.EVP_MD_CTX_free(context)
        assert done == 1
        return signature.raw


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def base64_of(data):
    return base64.b64encode(data).decode()


# --- the log ---

def tree_root(hashes):
    if not hashes:
        return sha256()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while 2 * split < len(hashes):
        split *= 2
    return sha256(b"\x01", tree_root(hashes[:split]), tree_root(hashes[split:]))


def tree_path(hashes, index):
    if len(hashes) == 1:
        return []
    split = 1
    while 2 * split < len(hashes):
        split *= 2
    if index < split:
        return tree_path(hashes[:split], index) + [tree_root(hashes[split:])]
    return tree_path(hashes[split:], index - split) + [tree_root(hashes[:split])]


class Noter:
    """A key of signed notes: a log's, or a witness's."""

    def __init__(self, name, algorithm=1):
        self.name, self.algorithm, self.signer = name, algorithm, Signer()
        self.key = bytes([algorithm]) + self.signer.public
        self.id = sha256(name.encode(), b"\n", self.key)[:4]

    @property
    def line(self):
        return f"{self.name}+{self.id.hex()}+{base64_of(self.key)}"

    def sign(self, text):
        if self.algorithm == 4:
            now = int(time.time())
            signature = struct.pack(">Q", now) + self.signer.sign(b"cosignature/v1\ntime %d\n" % now + text.encode())
        else:
            signature = self.signer.sign(text.encode())
        return f"\u2014 {self.name} {base64_of(self.id + signature)}\n"


class Log:
    """A tree of entries with its key. Tiles are those of the newest tree."""

    def __init__(self, name="hostile.example/log"):
        self.noter, self.entries, self.lock, self.witnesses = Noter(name), [], threading.Lock(), []

    def hashes(self):
        return [sha256(b"\x00", entry) for entry in self.entries]

    def checkpoint(self, size=None):
        hashes = self.hashes()[:size]
        text = f"{self.noter.name}\n{len(hashes)}\n{base64_of(tree_root(hashes))}\n"
        return text + "\n" + self.noter.sign(text) + "".join(witness.sign(text) for witness in self.witnesses)

    def append(self, entry):
        with self.lock:
            self.entries.append(entry)
            return self.inclusion(len(self.entries) - 1)

    def inclusion(self, index):
        return {"index": index, "path": [one.hex() for one in tree_path(self.hashes(), index)],
                "checkpoint": self.checkpoint()}

    def tile(self, path):
        """Bytes of "L/N" or "L/N.p/W", or None."""
        path, _, width = path.partition(".p/")
        level, _, rest = path.partition("/")
        index = int("".join(part.lstrip("x") for part in rest.split("/")))
        step = 256 ** int(level)
        hashes = self.hashes()
        nodes = [tree_root(hashes[i * step:(i + 1) * step]) for i in range(len(hashes) // step)]
        nodes = nodes[index * 256:(index + 1) * 256]
        wanted = int(width) if width else 256
        return b"".join(nodes[:wanted]) if len(nodes) >= wanted else None


# --- the server ---

class State:
    """What outlives a server's process: its TLS key and its log."""

    def __init__(self, folder=None):
        self.folder = folder or tempfile.mkdtemp(prefix="bulla-hostile-")
        self.certificate, self.key = os.path.join(self.folder, "certificate.pem"), os.path.join(self.folder, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
                        "-subj", "/CN=nobody.example", "-keyout", self.key, "-out", self.certificate], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        public = subprocess.run(["openssl", "x509", "-in", self.certificate, "-noout", "-pubkey"], check=True,
                                stdout=subprocess.PIPE).stdout
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, check=True,
                             stdout=subprocess.PIPE).stdout
        self.tls_key = sha256(der)
        self.log = Log()

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class HostileServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, state=None, lie=None, tls_1_2=False, port=0, has_log=True):
        self.owns_state = state is None
        self.state = state or State()
        self.receipts, self.lie, self.has_log = Signer(), lie, has_log
        self.bodies, self.paths, self.headers, self.connections, self.open = [], [], [], 0, []
        self.words, self.pause, self.error, self.filler, self.same_id = WORDS, 0, None, 0, None
        self.released = threading.Event()
        self.other_receipt, self.old_evidence, self.relay = None, None, None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.state.certificate, self.state.key)
        if tls_1_2:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        else:
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context = context
        self.standing = self.evidence(os.urandom(32))
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"https://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def get_request(self):
        connection, address = super().get_request()
        self.connections += 1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False,
                                              suppress_ragged_eofs=False)
        self.open.append(connection)
        return connection, address

    def handle_error(self, request, client_address):
        pass

    def close(self):
        self.released.set()
        self.shutdown()
        self.server_close()
        for connection in self.open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already
        if self.owns_state:
            self.state.remove()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def policy(self, **more):
        return {"attestation": {"type": "sim", "allow_simulated": True, "measurement": [MEASUREMENT.hex()], **more}}

    def evidence(self, nonce, tls_key=None):
        """Bound to the keys, the model and the nonce."""
        binding = {"models": [ROOT.hex()], "nonce": nonce.hex(), "policy": bytes(32).hex(),
                   "receipt_key": self.receipts.public.hex(), "tls_key": (tls_key or self.state.tls_key).hex()}
        root = sha256(b"\x00", ROOT)
        data = hashlib.sha512(b"bulla-evidence-v1" + canonical({**binding, "models": root.hex()})).hexdigest()
        measurement = sha256(b"another program") if self.lie == "debug_measurement" else MEASUREMENT
        return {"bulla_evidence": 1, "type": "sim", "binding": binding,
                "report": {"measurement": measurement.hex(), "report_data": data}}

    def parameters(self, body, endpoint, seed):
        """What is in effect: see the table of docs/receipt.md."""
        def millionths(name, default):
            value = body.get(name)
            return round(1000000 * (default if value is None else value))
        stop = body.get("stop")
        chat = endpoint == "/v1/chat/completions"
        limits = [body[name] for name in ("max_output_tokens", "max_completion_tokens", "max_tokens", "n_predict")
                  if body.get(name) is not None]
        formats = body.get("text", {}).get("format") if endpoint == "/v1/responses" else body.get("response_format")
        logprobs = body.get("logprobs")
        return {
            "chat_template_kwargs": self.hashed(body.get("chat_template_kwargs")), "continue_final_message": False,
            "echo": bool(body.get("echo")), "endpoint": endpoint, "frequency_penalty": millionths("frequency_penalty", 0),
            "ignore_eos": bool(body.get("ignore_eos")), "logit_bias": self.hashed(body.get("logit_bias")),
            "logprobs": (body.get("top_logprobs") or 0) if chat and logprobs else None if chat else logprobs,
            "max_tokens": limits[0] if limits else None, "min_p": millionths("min_p", 0), "model": body.get("model", MODEL),
            "n": body.get("n") or 1, "parallel_tool_calls": body.get("parallel_tool_calls", True) is not False,
            "presence_penalty": millionths("presence_penalty", 0), "reasoning_effort": body.get("reasoning_effort"),
            "repetition_penalty": millionths("repetition_penalty", 1), "response_format": self.hashed(formats), "seed": str(seed),
            "stop": [] if stop is None else [stop] if isinstance(stop, str) else stop,
            "temperature": millionths("temperature", 1),
            "timeout": None, "tool_choice": body.get("tool_choice") or ("auto" if body.get("tools") else "none"),
            "tools": self.hashed(body.get("tools")), "top_k": max(0, body.get("top_k") or 0), "top_p": millionths("top_p", 1)}

    def hashed(self, value):
        return None if value is None else sha256(b"bulla-parameter-v1", self.salt, canonical(value)).hex()


PARTS = {"content": 1, "reasoning": 2, "tool_call": 3, "arguments": 4, "finish": 5}


class Chain:
    def __init__(self, salt, choice):
        self.value, self.tokens, self.steps, self.finish = sha256(b"bulla-chain-v1", salt, struct.pack("<I", choice)), 0, [], None

    def step(self, part, ids, text):
        data = text.encode()
        self.value = sha256(self.value, struct.pack("<II", PARTS[part], len(ids)),
                            b"".join(struct.pack("<I", one) for one in ids), struct.pack("<Q", len(data)), data)
        self.tokens += len(ids)
        self.steps.append({"part": part, "ids": ids, "text": text})
        if part == "finish":
            self.finish = text.split("\0")[0]
        return {"part": part, "ids": ids} if ids else {"part": part}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HostileServer

    def log_message(self, *_):
        pass

    def setup(self):
        self.request.do_handshake()
        super().setup()

    def lies(self, name):
        return self.server.lie == name

    # --- plain documents ---

    def reply(self, status, value, headers=()):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        server = self.server
        path, _, query = self.path.partition("?")
        server.paths.append(self.path)
        server.headers.append(dict(self.headers))
        if path == "/v1/evidence":
            self.give_evidence(query)
        elif path.startswith("/v1/evidence/"):
            is_right = path.endswith(sha256(canonical(server.standing)).hex()) and not self.lies("evidence_not_found")
            self.reply(200 if is_right else 404, server.standing if is_right else {"error": {"message": "no such evidence"}})
        elif path == "/log/key" and server.has_log:
            self.reply(200, (server.state.log.noter.line + "\n").encode())
        elif path == "/log/checkpoint" and server.has_log:
            self.reply(200, server.state.log.checkpoint().encode())
        elif path.startswith("/log/tile/") and server.has_log:
            tile = server.state.log.tile(path[len("/log/tile/"):])
            self.reply(404 if tile is None or self.lies("no_tiles") else 200, tile or b"")
        elif path == "/v1/models":
            self.reply(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "bulla"}]})
        else:
            self.reply(404, {"error": {"message": f"there is no {path} here", "type": "invalid_request_error", "code": "not_found",
                                       "param": None}})

    def give_evidence(self, query):
        server = self.server
        nonce = bytes.fromhex(query.partition("=")[2]) if query else os.urandom(32)
        if self.lies("stale_nonce"):
            nonce = bytes(32)
        value = server.evidence(nonce)
        if self.lies("replayed_evidence"):
            value = server.old_evidence
        if self.lies("relayed_evidence"):
            value = server.relay.evidence(nonce)
        if self.lies("hangs_on_evidence"):
            server.released.wait(30)
        if self.lies("no_evidence"):
            self.reply(404, {"error": {"message": "no evidence here"}})
        elif self.lies("evidence_not_json"):
            self.reply(200, b"{\"bulla_evidence\":1,")
        elif self.lies("huge_evidence"):
            self.reply(200, b"[" + b" " * (20 << 20) + b"]")
        elif self.lies("closes_after_evidence"):
            self.reply(200, value, [("Connection", "close")])
        else:
            self.reply(200, value)

    # --- answers ---

    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.paths.append(self.path)
        server.headers.append(dict(self.headers))
        if server.error:
            server.bodies.append(body)
            self.reply(*server.error)
        elif self.path == "/v1/embeddings":
            self.reply(200, {"object": "list", "model": MODEL, "data": [{"object": "embedding", "index": 0,
                                                                         "embedding": [0.25, -0.5]}],
                             "usage": {"prompt_tokens": 3, "total_tokens": 3}})
        elif self.path in ("/v1/chat/completions", "/v1/completions", "/v1/responses"):
            server.bodies.append(body)
            try:
                Answer(self, body).send()
            except (OSError, ValueError):
                self.close_connection = True
        else:
            self.reply(404, {"error": {"message": "not here"}})


class Answer:
    """One answer, streamed or not, honest or not."""

    def __init__(self, handler, body):
        self.handler, self.server, self.body, self.asked = handler, handler.server, body, json.loads(body)
        self.endpoint = handler.path
        self.salt, self.id = os.urandom(32), self.server.same_id or os.urandom(16)
        self.seed = self.asked.get("seed") if self.asked.get("seed") is not None else 7
        self.count = self.asked.get("n") or 1
        self.chains = [Chain(self.salt, k) for k in range(self.count)]
        self.server.salt = self.salt
        self.created, self.sequence = int(time.time()), 0
        self.call = "call it" in body.decode()
        self.thinks = "think first" in body.decode()

    def lies(self, name):
        return self.server.lie == name

    # --- the receipt ---

    def receipt(self):
        lie, server, salt = self.server.lie, self.server, self.salt
        if lie == "salt_of_another":
            salt = os.urandom(32)
        request = b"another request" if lie == "receipt_of_another" else self.body
        parameters = server.parameters(self.asked, self.endpoint, self.seed)
        if lie == "changed_parameter":
            parameters["temperature"] += 1
        if lie == "other_endpoint":
            parameters["endpoint"] = "/v1/completions" if self.endpoint != "/v1/completions" else "/v1/responses"
        signer = Signer() if lie == "wrong_receipt_key" else server.receipts
        value = {
            "adapter_root": bytes(32).hex(), "backend": "native", "bulla_receipt": 1, "chat_template": sha256(b"t").hex(),
            "choices": [{"chain": chain.value.hex(), "finish": chain.finish, "tokens": chain.tokens} for chain in self.chains],
            "engine": None, "evidence": sha256(canonical(server.standing)).hex(), "id": self.id.hex(),
            "key": signer.public.hex(), "model_root": ROOT.hex(), "output_tokens": sum(chain.tokens for chain in self.chains),
            "parameters": parameters, "policy": bytes(32).hex(), "program_version": 1,
            "prompt": sha256(b"bulla-prompt-v1", salt, struct.pack("<I", 1) * PROMPT_TOKENS).hex(),
            "prompt_tokens": PROMPT_TOKENS, "request": sha256(b"bulla-request-v1", salt, request).hex(), "retention": "none",
            "simulated": True, "time": 1700000000 if self.server.same_id else int(time.time()), "tokenizer": sha256(b"k").hex()}
        if lie == "other_model_root":
            value["model_root"] = sha256(b"a smaller model").hex()
        if lie == "wrong_evidence_hash":
            value["evidence"] = sha256(b"other evidence").hex()
        if lie == "says_not_simulated":
            value["simulated"] = False
        if lie == "wrong_finish":
            value["choices"][0]["finish"] = "length"
        if lie == "wrong_counts":
            value["choices"][0]["tokens"] += 1
            value["output_tokens"] += 1
        if lie in ("wrong_id", "receipt_of_another"):
            value["id"] = os.urandom(16).hex()
        signature = signer.sign(b"bulla-receipt-v1\n" + canonical(value))
        if lie == "bad_signature":
            signature = bytes([signature[0] ^ 1]) + signature[1:]
        return {"receipt": value, "signature": base64_of(signature)}

    def document(self):
        server, lie = self.server, self.server.lie
        signed = self.receipt()
        if lie == "receipt_of_another" and server.other_receipt:
            return server.other_receipt
        document = {"bulla_receipt": 1, "signed": signed}
        if server.has_log and lie != "missing_inclusion":
            log = Log() if lie == "other_log" else server.state.log
            entry = sha256(canonical(signed))
            document["log"] = log.append(os.urandom(32) if lie == "wrong_inclusion" else entry)
            if lie == "unsigned_checkpoint":
                text = document["log"]["checkpoint"].split("\n\n")[0] + "\n"
                document["log"]["checkpoint"] = text + "\n" + Noter(log.noter.name).sign(text)
        server.other_receipt = server.other_receipt or document
        return document

    # --- its way ---

    def headers(self, streamed):
        handler = self.handler
        handler.send_response(203 if self.lies("other_status") else 200)
        streamed = streamed != self.lies("not_a_stream")
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8" if streamed else "application/json")
        handler.send_header("X-Bulla-Seed", str(self.seed))
        if not self.lies("no_receipt_headers"):
            handler.send_header("x-bulla-receipt-id", self.id.hex())
            salt = os.urandom(32) if self.lies("wrong_salt") else self.salt
            handler.send_header("x-bulla-receipt-salt", salt.hex())

    def chunk(self, data):
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, value):
        if self.endpoint == "/v1/responses":
            value = {"type": value["type"], "sequence_number": self.sequence, **value}
            self.sequence += 1
            self.chunk(f"event: {value['type']}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n".encode())
        else:
            self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def steps(self, k):
        """What choice k delivers, in order: (part, ids, text)."""
        ids = iter(range(100 * (k + 1), 1000000))
        if self.thinks:
            yield "reasoning", [next(ids), next(ids)], "Let me think."
        if self.call:
            yield "tool_call", [next(ids)], "look_up\0call_1"
            for text in ('{"city": ', '"Paris"}'):
                yield "arguments", [next(ids)], text
            yield "finish", [], "tool_calls"
            return
        words = self.server.words
        if self.server.filler:
            words = ["word "] * self.server.filler
        most = self.asked.get("max_tokens") or self.asked.get("max_output_tokens") or len(words)
        for word in words[:most]:
            yield "content", [next(ids)], word
        yield "finish", [next(ids)] if most >= len(words) else [], "stop" if most >= len(words) else "length"

    def send(self):
        if self.asked.get("stream"):
            self.headers(True)
            self.handler.send_header("Transfer-Encoding", "chunked")
            self.handler.end_headers()
            if self.lies("broken_json"):
                self.chunk(b"data: {\"choices\":[{]}\n\n")
            if self.endpoint == "/v1/responses":
                self.stream_response()
            else:
                self.stream_chunks()
            self.handler.wfile.write(b"0\r\n\r\n")
        else:
            self.send_whole()

    def hang_up(self):
        self.handler.wfile.flush()
        self.handler.connection.shutdown(socket.SHUT_RDWR)
        raise OSError("hung up")

    # --- chats and completions ---

    def head(self, choices):
        kind = "chat.completion" if self.endpoint == "/v1/chat/completions" else "text_completion"
        return {"id": "chatcmpl-1", "object": kind + (".chunk" if self.asked.get("stream") and kind[0] == "c" else ""),
                "created": self.created, "model": self.asked.get("model", MODEL), "system_fingerprint": "bulla-1",
                "choices": choices}

    def piece(self, k, part, text):
        """A chunk that delivers one step."""
        chat = self.endpoint == "/v1/chat/completions"
        finish = text.split("\0")[0] if part == "finish" else None
        choice = {"index": k, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        if not chat:
            choice["text"] = text if part == "content" else ""
        elif part == "tool_call":
            name, _, call_id = text.partition("\0")
            choice["delta"] = {"tool_calls": [{"index": 0, "id": call_id, "type": "function",
                                               "function": {"name": name, "arguments": ""}}]}
        elif part == "arguments":
            choice["delta"] = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        elif part == "reasoning":
            choice["delta"] = {"reasoning_content": text, "reasoning": text}
        else:
            choice["delta"] = {"content": text} if part == "content" else {}
        return self.head([choice])

    def events(self):
        """The events of all choices, in turns, but the last's receipt."""
        lie, events = self.server.lie, []
        chat = self.endpoint == "/v1/chat/completions"
        streams = [list(self.steps(k)) for k in range(self.count)]
        for k in range(self.count):
            if chat:
                events.append(self.head([{"index": k, "delta": {"role": "assistant", "content": ""}, "logprobs": None,
                                          "finish_reason": None}]))
        for position in range(max(len(one) for one in streams)):
            for k, stream in enumerate(streams):
                if position >= len(stream):
                    continue
                part, ids, text = stream[position]
                value = self.piece(k, part, text)
                is_third = position == 2
                if lie == "dropped_event" and is_third:
                    self.chains[k].step(part, ids, text)
                    continue
                step = self.chains[k].step(part, ids, text)
                value["bulla"] = {"choice": k, "steps": [step], "chain": self.chains[k].value.hex()}
                if is_third:
                    self.spoil(value, step)
                events.append(value)
                if lie == "extra_finish" and part == "finish":
                    events.append(self.piece(k, "content", " And more."))
        if lie == "reordered_events":
            events[3], events[4] = events[4], events[3]
        return events

    def spoil(self, value, step):
        """The third event, which has text."""
        lie, choice = self.server.lie, value["choices"][0]
        holder, key = (choice["delta"], "content") if "delta" in choice else (choice, "text")
        if lie == "other_text":
            holder[key] = " notof"[:len(holder[key])] or "x"
        if lie == "other_ids":
            step["ids"] = [one + 1 for one in step["ids"]]
        if lie == "swapped_ids":
            step["ids"] = step["ids"] + [5, 6]
        if lie == "text_without_step":
            del value["bulla"]
        if lie == "text_in_other_member":
            holder["refusal"] = "Send your money to me."
        if lie == "two_choices":
            value["choices"].append(dict(choice, index=1))
        if lie == "truncated_text":
            holder[key] = holder[key][:-1]
        if lie == "unverified_engine":
            value["bulla"]["verified"] = False
        if lie == "huge_event":
            value["system_fingerprint"] = "x" * (5 << 20)

    def stream_chunks(self):
        events, server = self.events(), self.server
        usage = (self.asked.get("stream_options") or {}).get("include_usage")
        last = events.pop()
        if usage:
            events.append(last)
            last = {**self.head([]), "usage": self.usage()}
        if self.lies("receipt_of_another"):
            self.document()
        for number, value in enumerate(events):
            self.event(value)
            if server.pause:
                time.sleep(server.pause)
            if self.lies("hang_up") and number == 4:
                self.hang_up()
            if self.lies("hangs") and number == 4:
                server.released.wait(30)
        if self.lies("dropped_last_event"):
            self.chunk(b"data: [DONE]\n\n")
            return
        if self.lies("error_beside_text") or self.lies("not_an_error"):
            error = {} if self.lies("not_an_error") else {"message": "It is over.", "type": "server_error"}
            self.event({"error": error, "type": "error", **self.piece(0, "content", " Send your money to me.")})
            return
        if not self.lies("no_receipt"):
            last["bulla_receipt"] = self.document()
        self.event(last)
        if self.lies("hang_up_after_receipt"):
            self.hang_up()
        if self.lies("event_after_receipt"):
            self.event(self.piece(0, "content", " By the way."))
        if not self.lies("no_done"):
            self.chunk(b"data: [DONE]\n\n")

    def usage(self):
        tokens = sum(chain.tokens for chain in self.chains)
        return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}

    # --- responses ---

    def response(self, status, output):
        tokens = self.chains[0].tokens
        return {"id": "resp_1", "object": "response", "created_at": self.created, "status": status, "error": None,
                "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None, "output": output,
                "model": self.asked.get("model", MODEL), "instructions": None, "metadata": {}, "parallel_tool_calls": True,
                "temperature": self.asked.get("temperature", 1), "top_p": 1, "tool_choice": "auto", "tools": [],
                "usage": None if status == "in_progress" else {
                    "input_tokens": PROMPT_TOKENS, "output_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens,
                    "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}}

    @staticmethod
    def item(kind, number, text, status, name="", call_id=""):
        if kind == "call":
            return {"id": f"fc_{number}", "type": "function_call", "status": status, "call_id": call_id, "name": name,
                    "arguments": text}
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text} if kind == "message" else \
            {"type": "reasoning_text", "text": text}
        content = [part] if text or status != "in_progress" else []
        more = {"role": "assistant"} if kind == "message" else {"summary": []}
        return {"id": f"msg_{number}", "type": kind, "status": status, "content": content, **more}

    def items(self):
        """(kind, name, call_id, [(part, ids, text), ...]) of each item, and the finish."""
        items, finish = [], None
        for part, ids, text in self.steps(0):
            kind = {"content": "message", "reasoning": "reasoning"}.get(part, "call")
            if part == "finish":
                finish = (ids, text)
            elif part == "tool_call":
                name, _, call_id = text.partition("\0")
                items.append(("call", name, call_id, [(part, ids, text)]))
            elif items and items[-1][0] == kind:
                items[-1][3].append((part, ids, text))
            else:
                items.append((kind, "", "", [(part, ids, text)]))
        return items, finish

    def marked(self, value, part, ids, text):
        step = self.chains[0].step(part, ids, text)
        if part == "finish":
            step["text"] = text
        value["bulla"] = {"choice": 0, "steps": [step], "chain": self.chains[0].value.hex()}
        return value

    def stream_response(self):
        items, (finish_ids, finish) = self.items()
        output, lie = [], self.server.lie
        self.event({"type": "response.created", "response": self.response("in_progress", [])})
        for number, (kind, name, call_id, steps) in enumerate(items):
            place = {"output_index": number, "item_id": f"msg_{number}"}
            added = {"type": "response.output_item.added", "output_index": number,
                     "item": self.item(kind, number, "", "in_progress", name, call_id)}
            steps = list(steps)
            if kind == "call":
                added = self.marked(added, *steps.pop(0))
            self.event(added)
            event = {"message": "output_text", "reasoning": "reasoning_text", "call": "function_call_arguments"}[kind]
            for position, (part, ids, text) in enumerate(steps):
                value = self.marked({"type": f"response.{event}.delta", **place, "delta": text}, part, ids, text)
                if lie == "other_text" and position == 2:
                    value["delta"] = "not" + value["delta"][3:]
                if lie == "dropped_event" and position == 2:
                    continue
                self.event(value)
                if lie == "hang_up" and position == 2:
                    self.hang_up()
            text = "".join(step[2] for step in steps)
            key = "arguments" if kind == "call" else "text"
            self.event({"type": f"response.{event}.done", **place, key: text + ("?" if lie == "other_repeat" else "")})
            done = self.item(kind, number, text, "completed", name, call_id)
            self.event({"type": "response.output_item.done", "output_index": number, "item": done})
            output.append(done)
        status = "incomplete" if finish == "length" else "completed"
        last = self.marked({"type": f"response.{status}"}, "finish", finish_ids, finish)
        if lie == "other_output":
            output[0] = self.item("message", 0, "something else", "completed")
        last["response"] = self.response(status, output)
        if lie == "output_text":
            last["response"]["output_text"] = "something else"
        if lie == "not_an_error":
            self.event({"type": "error", "error": {}, "response": {**last["response"], "output_text": "something else"}})
            return
        if lie != "no_receipt":
            last["bulla_receipt"] = self.document()
        if lie == "dropped_last_event":
            return
        self.event(last)

    # --- whole answers ---

    def send_whole(self):
        if self.endpoint == "/v1/responses":
            items, (ids, finish) = self.items()
            output = []
            for number, (kind, name, call_id, steps) in enumerate(items):
                for step in steps:
                    self.chains[0].step(*step)
                text = "".join(step[2] for step in steps if step[0] != "tool_call")
                output.append(self.item(kind, number, text, "completed", name, call_id))
            self.chains[0].step("finish", ids, finish)
            value = self.response("incomplete" if finish == "length" else "completed", output)
        else:
            value = {**self.head([self.whole_choice(k) for k in range(self.count)]), "usage": self.usage()}
        value["bulla"] = {"choices": [{"steps": chain.steps} for chain in self.chains]}
        self.spoil_whole(value)
        if self.lies("receipt_of_another"):
            self.document()
        if not self.lies("no_receipt"):
            value["bulla_receipt"] = self.document()
        body = json.dumps(value).encode()
        if self.lies("broken_json"):
            body = body[:-2]
        self.headers(False)
        self.handler.send_header("Content-Length", str(len(body)))
        self.handler.end_headers()
        if self.lies("hang_up"):
            self.handler.wfile.write(body[:100])
            self.hang_up()
        if self.lies("hangs"):
            self.server.released.wait(30)
        self.handler.wfile.write(body)

    def whole_choice(self, k):
        texts = {part: "" for part in PARTS}
        for part, ids, text in self.steps(k):
            self.chains[k].step(part, ids, text)
            texts[part] += text
        choice = {"index": k, "logprobs": None, "finish_reason": texts["finish"], "stop_reason": None}
        if self.endpoint == "/v1/completions":
            return {**choice, "text": texts["content"]}
        message = {"role": "assistant", "content": texts["content"] or None, "refusal": None}
        if self.thinks:
            message["reasoning_content"] = message["reasoning"] = texts["reasoning"]
        if self.call:
            name, _, call_id = texts["tool_call"].partition("\0")
            message["tool_calls"] = [{"id": call_id, "type": "function",
                                      "function": {"name": name, "arguments": texts["arguments"]}}]
        return {**choice, "message": message}

    def spoil_whole(self, value):
        lie = self.server.lie
        steps = value["bulla"]["choices"][0]["steps"]
        if lie in ("other_text", "truncated_text", "text_in_other_member") and "choices" in value:
            choice = value["choices"][0]
            holder, key = (choice["message"], "content") if "message" in choice else (choice, "text")
            if lie == "text_in_other_member":
                holder["refusal"] = "no"
            else:
                holder[key] = holder[key].replace("Paris", "Milan") if lie == "other_text" else holder[key][:-1]
        if lie == "other_text" and "output" in value:
            value["output"][-1]["content"][0]["text"] = "Milan"
        if lie == "other_ids":
            steps[1]["ids"][0] += 1
        if lie == "swapped_ids":
            steps[1]["ids"], steps[2]["ids"] = steps[2]["ids"], steps[1]["ids"]
        if lie in ("dropped_event", "dropped_last_event"):
            del steps[2 if lie == "dropped_event" else -1]
        if lie == "reordered_events":
            steps[1], steps[2] = steps[2], steps[1]
        if lie == "text_without_step":
            del value["bulla"]
        if lie == "unverified_engine":
            value["bulla"]["verified"] = False
        if lie == "two_choices" and "choices" in value:
            value["choices"].append(dict(value["choices"][0], index=1))
        if lie == "huge_event":
            value["system_fingerprint"] = "x" * (70 << 20)
