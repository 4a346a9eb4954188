#!/usr/bin/env python3
"""`bulla connect` before servers that misbehave (hostile_server.py): in every case either nothing of a prompt reaches the
server, or the client sees a failure; and before an honest one everything passes, is verified and kept."""
import base64
import concurrent.futures
import glob
import json
import os
import socket
import stat
import sys
import time
from http.client import HTTPException

import hostile_server
from checks import Checks
from connecting import Connect
from hostile_server import HostileServer, Log, Noter, State
from serving import can_serve, memory_bytes

PROMPT = "Tell me the capital of France."
ANSWER = "".join(hostile_server.WORDS)
FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
KINDS = [("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}], "temperature": 0.5}),
         ("/v1/completions", {"prompt": PROMPT, "temperature": 0.5}),
         ("/v1/responses", {"input": PROMPT, "temperature": 0.5})]
# Lies that one form or another cannot tell, or that are none there.
NOT_OF_RESPONSES = {"text_in_other_member", "two_choices", "reordered_events", "swapped_ids", "other_ids", "truncated_text",
                    "text_without_step", "unverified_engine", "huge_event", "extra_finish", "event_after_receipt",
                    "hang_up_after_receipt", "no_done", "not_a_stream", "error_beside_text"}
NOT_OF_WHOLE = {"no_done", "hang_up_after_receipt", "event_after_receipt", "extra_finish", "error_beside_text", "not_an_error"}
NOT_OF_WHOLE_RESPONSES = {"text_in_other_member", "two_choices", "truncated_text", "huge_event"}
# The check that has to notice it: a part of the error's message.
NAMED = {"wrong_receipt_key": "receipt.key", "other_model_root": "receipt.model_root",
         "changed_parameter": "parameters.temperature", "bad_signature": "receipt.signature",
         "missing_inclusion": "log.inclusion", "wrong_inclusion": "log.inclusion", "unsigned_checkpoint": "log.checkpoint",
         "other_log": "log.checkpoint", "receipt_of_another": "receipt.id", "salt_of_another": "receipt.request",
         "wrong_evidence_hash": "receipt.evidence", "evidence_not_found": "receipt.evidence", "wrong_id": "receipt.id",
         "wrong_finish": "receipt.finish", "wrong_counts": "receipt.tokens", "no_receipt": "answer.receipt",
         "no_receipt_headers": "answer.headers", "says_not_simulated": "receipt.simulated",
         "other_endpoint": "parameters.endpoint", "unverified_engine": "answer.verified"}


def message(outcome):
    return str((outcome.error or {}).get("message"))


# --- an honest server ---

def check_honest(checks):
    with HostileServer() as server, Connect(server.url, server.policy()) as connect:
        for path, body in KINDS:
            for streamed in (False, True):
                outcome = connect.ask(path, {"model": "canned", **body}, streamed)
                what = f"{path}, streamed {streamed}"
                checks.true(outcome.verified and not outcome.failed, f"{what} is verified: {outcome}")
                checks.equal(outcome.text, ANSWER, f"{what}: the text")
                checks.true(outcome.is_done == streamed, f"{what} ends as it should")
                checks.true(not streamed or all("bulla_receipt" not in event for event in outcome.events) and
                            all("bulla" not in event for event in outcome.events[:-1]), f"{what}: clients see nothing of it")
                checks.true(streamed or outcome.headers.get("x-bulla-verified") == "true", f"{what}: the header says it")
                checks.true(os.path.exists(outcome.mark["receipt"]), f"{what}: its receipt is where it says")
        check_forms(checks, connect)
        check_documents(checks, server, connect)
        checks.true(server.connections <= 4, f"connections are used again: {server.connections}")
        check_plain(checks, server, connect)


def check_forms(checks, connect):
    for streamed in (False, True):
        outcome = connect.chat("think first and call it", streamed, tools=[{"type": "function", "function": {"name": "look_up"}}])
        checks.true(outcome.verified and outcome.finish == "tool_calls", f"thinking and calls: {outcome}")
        outcome = connect.ask("/v1/responses", {"input": "think first and call it", "model": "canned"}, streamed)
        checks.true(outcome.verified, f"the same of responses: {outcome}")
        outcome = connect.ask("/v1/responses", {"input": "think first", "max_output_tokens": 3}, streamed)
        checks.true(outcome.verified, f"an incomplete response: {outcome}")
        outcome = connect.chat("several", streamed, n=3, seed=-5 % 2**64, temperature=0.123456, stop=["x", ""],
                               response_format={"type": "json_object"}, logit_bias={"5": 1.5}, max_completion_tokens=5)
        checks.true(outcome.failed and "seed" not in message(outcome),
                    f"an empty stop string counts for nothing, and the server took it for one: {outcome}")
        outcome = connect.chat("several", streamed, n=3, seed=2**64 - 5, temperature=0.123456, stop="x", top_k=3,
                               response_format={"type": "json_object"}, logit_bias={"5": 1.5}, max_completion_tokens=50,
                               stream_options={"include_usage": True} if streamed else None)
        checks.true(outcome.verified, f"many parameters, three choices: {outcome}")


def newest(connect, path):
    """The last of the notes in a file of checkpoints."""
    return connect.read(path).split("\0")[-1]


def check_documents(checks, server, connect):
    documents = connect.receipts()
    checks.true(len(documents) >= 12, "a receipt is kept of each answer")
    for path in glob.glob(os.path.join(connect.receipts_folder, "*")):
        checks.equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "only its owner may read a receipt")
    for document in documents:
        salt = bytes.fromhex(document["transcript"]["salt"])
        request = base64.b64decode(document["transcript"]["request"])
        checks.equal(document["signed"]["receipt"]["request"],
                     hostile_server.sha256(b"bulla-request-v1", salt, request).hex(), "the transcript's request")
        for k, choice in enumerate(document["transcript"]["choices"]):
            chain = hostile_server.Chain(salt, k)
            for step in choice["steps"]:
                chain.step(step["part"], step["ids"], step["text"])
            checks.equal(chain.value.hex(), document["signed"]["receipt"]["choices"][k]["chain"], "the transcript's chain")
        checks.equal(document["evidence"], server.standing, "the evidence")
    kept = glob.glob(os.path.join(connect.kept, "logs", "*.checkpoint"))
    checks.true(len(kept) == 1 and newest(connect, kept[0]) == server.state.log.checkpoint(), "the newest checkpoint is kept")


def check_plain(checks, server, connect):
    status, headers, body = connect.get("/v1/models")
    checks.true(status == 200 and json.loads(body)["data"][0]["id"] == "canned" and "x-bulla-verified" not in headers,
                "the list of models passes")
    outcome = connect.ask("/v1/embeddings", {"model": "canned", "input": "x"})
    checks.true(outcome.status == 200 and outcome.headers.get("x-bulla-verified") == "false", "embeddings pass, marked")
    for error in ((400, {"error": {"message": "no", "code": "context_length_exceeded"}}), (404, {"error": {"message": "none"}}),
                  (429, {"error": {"message": "later"}}, [("Retry-After", "9")]), (500, {"error": {"message": "oops"}}),
                  (503, {"error": {"message": "busy"}}, [("Retry-After", "3")])):
        server.error = error
        outcome = connect.chat(PROMPT, True)
        checks.equal((outcome.status, outcome.value), (error[0], error[1]), "the server's error passes as it is")
        checks.equal(outcome.headers.get("retry-after"), dict(error[2] if len(error) > 2 else []).get("Retry-After"),
                     "its Retry-After")
        checks.equal(outcome.headers.get("x-bulla-verified"), "false", "it is marked")
    server.error = None
    outcome = connect.ask("/v1/chat/completions", b"{\"messages\":", False)
    checks.true(outcome.status == 400 and "invalid_json" in str(outcome.value), "a body that is no JSON is refused here")
    checks.true(connect.chat(PROMPT).verified, "and it goes on")


# --- who may ask ---

def check_clients(checks):
    with HostileServer() as server:
        with Connect(server.url, server.policy(), arguments=["--strict"]) as connect:
            checks.equal(stat.S_IMODE(os.stat(os.path.join(connect.kept, "key")).st_mode), 0o600, "the key's file")
            checks.contains(connect.errors(), connect.key, "the key is printed when it is made")
            body = {"messages": [{"role": "user", "content": PROMPT}]}
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {connect.key}"},
                            {"Authorization": f"Bearer {connect.key}x"}):
                status, _, answer = connect.request("POST", "/v1/chat/completions", body, headers)
                checks.true(status == 401 and b"api_key" in answer, f"{headers} is not let in")
            outcome = connect.ask("/v1/chat/completions", body, headers={"Authorization": "", "x-api-key": connect.key})
            checks.equal(outcome.status, 401, "an Authorization that is there counts")
            status, _, _ = connect.request("POST", "/v1/chat/completions", body, {"x-api-key": connect.key})
            checks.equal(status, 200, "x-api-key without it is enough")
            for headers in ({"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"},
                            {"Origin": "https://evil.example"}):
                outcome = connect.ask("/v1/chat/completions", body, headers=headers)
                checks.equal(outcome.status, 403, f"{headers} is foreign")
            outcome = connect.ask("/v1/embeddings", {"input": "x"})
            checks.true(outcome.status == 403 and "unverifiable" in str(outcome.value), "strict: embeddings are refused")
            checks.equal(len(server.bodies), 1, "only what was let in reached the server")
            key = connect.key
            connect.stop()
            connect.start()
            checks.equal(connect.key, key, "the key stays")
        with Connect(server.url, server.policy(), is_open=True) as connect:
            checks.true(connect.chat(PROMPT).verified, "without a key where it is open")
        with open(os.path.join(server.state.folder, "server-key"), "w", encoding="ascii") as file:
            file.write("secret-of-the-server\n")
        with Connect(server.url, server.policy(), arguments=["--server-key-file", file.name, "--no-transcripts"]) as connect:
            paths = len(server.paths)
            checks.true(connect.chat(PROMPT, True).verified, "with the server's key")
            checks.true(all(connect.key not in text for one in server.headers for text in one.values()),
                        "the local key never leaves")
            checks.equal({one.get("Authorization") for path, one in zip(server.paths, server.headers) if "?nonce=" in path}, {None},
                         "who is not verified yet does not get the server's key")
            sent = server.headers[server.paths.index("/v1/chat/completions", paths)]
            checks.equal(sent.get("Authorization"), "Bearer secret-of-the-server", "the server's key takes its place")
            checks.true(all("transcript" not in one for one in connect.receipts()), "receipts without texts")


def check_usage(checks):
    with HostileServer() as server:
        for listen, arguments, what in (("0.0.0.0:0", [], "loopback"), ("127.0.0.1:0", ["--witnesses", "1"], "--witness")):
            connect = Connect(server.url, server.policy(), arguments=arguments, start=False)
            connect.listen = listen
            try:
                connect.start()
                checks.true(False, f"{listen} {arguments} is refused")
            except RuntimeError as problem:
                checks.contains(str(problem), what, f"{listen} {arguments} is refused")
            finally:
                connect.remove()
        for policy, url, what in ((server.policy(report_data="00" * 64), server.url, "report_data"),
                                  (server.policy(), server.url.replace("https", "http"), "https")):
            connect = Connect(url, policy, start=False)
            try:
                connect.start()
                checks.true(False, f"{what} is refused")
            except RuntimeError as problem:
                checks.contains(str(problem), what, "what cannot be verified is refused at the start")
            finally:
                connect.remove()


def refused_folder(checks, connect, path, what):
    try:
        connect.start()
        checks.true(False, f"{path} is refused: {what}")
    except RuntimeError as problem:
        checks.contains(str(problem), what, f"{path} is refused")


def check_folders(checks):
    """What others could change is not relied on."""
    with HostileServer() as server:
        for number, name in enumerate(("state", "receipts", "logs")):
            connect = Connect(server.url, server.policy(), start=False)
            path = os.path.join(connect.folder, name) if number < 2 else os.path.join(connect.folder, "state", "logs")
            os.makedirs(path, mode=0o700)
            connect.kept = os.path.join(connect.folder, "state")
            connect.arguments = ["--receipts", os.path.join(connect.folder, "receipts")]
            for mode in (0o720, 0o702, 0o1777):
                os.chmod(path, mode)
                refused_folder(checks, connect, path, f"chmod go-w {path}")
            os.chmod(path, 0o755)
            if os.geteuid() == 0:
                os.chown(path, 65534, 65534)
                refused_folder(checks, connect, path, "belongs to another user (65534)")
                os.chown(path, 0, 0)
            connect.start()
            checks.true(connect.chat(PROMPT).verified, f"{name} of its own, which others may read")
            connect.stop()
            connect.remove()


# --- before anything is sent ---

def refused(checks, server, connect, what, check=None):
    for streamed in (False, True):
        before = len(server.bodies)
        outcome = connect.chat(PROMPT, streamed)
        checks.true(outcome.failed and not outcome.verified and outcome.status in (0, 502, 503, 504), f"{what} is refused: {outcome}")
        checks.equal(server.bodies[before:], [], f"{what}: nothing of the prompt reached the server")
        if check:
            checks.contains(message(outcome), check, f"{what}: the check is named")
    outcome = connect.ask("/v1/embeddings", {"input": PROMPT})
    checks.true(outcome.failed, f"{what}: nor embeddings")


def check_evidence(checks):
    state = State()
    named = {"stale_nonce": "binding.nonce", "replayed_evidence": "binding.nonce", "relayed_evidence": "binding.tls_key",
             "no_evidence": "evidence", "debug_measurement": "policy.measurement", "hangs_on_evidence": "server.timeout",
             "closes_after_evidence": "evidence", "huge_evidence": "evidence", "evidence_not_json": "evidence"}
    with HostileServer() as another:
        for lie in hostile_server.LIES_BEFORE:
            with HostileServer(state, lie) as server:
                server.old_evidence, server.relay = server.evidence(os.urandom(32)), another
                patience = ["--idle-seconds", "1"] if lie == "hangs_on_evidence" else []
                with Connect(server.url, server.policy(), arguments=patience) as connect:
                    refused(checks, server, connect, lie, named[lie])
        with HostileServer(state) as server:
            policies = [({"attestation": {"type": "sim", "measurement": [hostile_server.MEASUREMENT.hex()]}}, "allow_simulated"),
                        ({"attestation": {"type": "snp"}}, "policy.type"), ({"attestation": {"type": "tdx", "allow_simulated": True}},
                                                                          "policy.type")]
            for policy, check in policies:
                with Connect(server.url, policy) as connect:
                    refused(checks, server, connect, f"the policy {policy}", check)
            with Connect(server.url, server.policy(models=["11" * 32])) as connect:
                outcome = connect.chat(PROMPT)
                checks.true(outcome.failed and "policy.models" in message(outcome), f"a model that the policy does not name: {outcome}")
    with HostileServer(state, tls_1_2=True) as server, Connect(server.url, server.policy()) as connect:
        refused(checks, server, connect, "TLS 1.2", "tls")
    with socket.create_server(("127.0.0.1", 0)) as silent, HostileServer(state) as server:
        with Connect(f"https://127.0.0.1:{silent.getsockname()[1]}", server.policy(), arguments=["--idle-seconds", "1"]) as connect:
            started = time.monotonic()
            checks.true(connect.chat(PROMPT).failed, "a server that only listens")
            checks.true(time.monotonic() - started < 60, "and the client is told")
    state.remove()


def check_other_key(checks):
    """Another server in the place of the one that was verified: with its own evidence, or with the first one's."""
    first = HostileServer()
    port = first.server_address[1]
    with Connect(first.url, first.policy()) as connect:
        checks.true(connect.chat(PROMPT).verified, "the first server answers")
        for relays in (False, True):
            first.close()
            other = HostileServer(lie="relayed_evidence" if relays else "replayed_evidence", port=port)
            other.relay, other.old_evidence = first, first.evidence(os.urandom(32))
            refused(checks, other, connect, f"another TLS key, {'relayed' if relays else 'replayed'} evidence")
            other.close()
            first = HostileServer(port=port)
            outcome = connect.chat(PROMPT)
            for _ in range(100):
                if "server." not in message(outcome):
                    break
                time.sleep(0.1)
                outcome = connect.chat(PROMPT)
            checks.true(outcome.failed and "log." in message(outcome),
                        f"a new server that verifies has another log, which is not the known one: {outcome}")
    first.close()


def check_renewal(checks):
    with HostileServer() as server, Connect(server.url, server.policy(), arguments=["--renew", "1"]) as connect:
        checks.true(connect.chat(PROMPT).verified, "an answer under fresh evidence")
        asked = sum("nonce=" in path for path in server.paths)
        time.sleep(1.2)
        checks.true(connect.chat(PROMPT).verified, "an answer after it grew old")
        checks.true(sum("nonce=" in path for path in server.paths) > asked, "the evidence was asked for again before it")
        server.lie = "stale_nonce"
        time.sleep(2.2)
        refused(checks, server, connect, "evidence that cannot be renewed", "binding.nonce")
    with HostileServer() as server, Connect(server.url, server.policy(max_age="1s")) as connect:
        checks.true(connect.chat(PROMPT).verified, "a policy with an age: fresh for its nonce")
        server.lie = "debug_measurement"
        time.sleep(2.2)
        refused(checks, server, connect, "evidence older than the policy's age", "policy.measurement")


# --- answers ---

def check_lies(checks):
    state = State()
    for place, lie in enumerate(hostile_server.LIES):
        for number, (path, body) in enumerate(KINDS):
            for streamed in (False, True):
                skipped = NOT_OF_RESPONSES if number == 2 and streamed else NOT_OF_WHOLE if not streamed else set()
                skipped = skipped | (NOT_OF_WHOLE_RESPONSES if number == 2 and not streamed else set())
                if lie in skipped or (number > 0 and not FULL and place % 4 != number):
                    continue
                check_lie(checks, state, lie, path, body, streamed)
    state.remove()


def check_lie(checks, state, lie, path, body, streamed):
    what = f"{lie}, {path}, streamed {streamed}"
    state.log = Log()
    with HostileServer(state, lie) as server, Connect(server.url, server.policy(), is_open=True) as connect:
        outcome = connect.ask(path, {"model": "canned", **body}, streamed)
        checks.true(outcome.failed and not outcome.verified, f"{what} is seen: {outcome}")
        checks.true(not outcome.is_done, f"{what}: no end as if it were whole")
        if not streamed:
            checks.true(outcome.status in (0, 502, 504) and outcome.text == "", f"{what}: nothing of the answer: {outcome}")
        elif outcome.status == 200:
            checks.equal((outcome.mark or {}).get("verified"), False, f"{what}: what came before is marked")
        checks.true(ANSWER.startswith(outcome.text) or lie in ("reordered_events",),
                    f"{what}: only what was checked is passed on: {outcome.text!r}")
        if lie in NAMED:
            checks.contains(message(outcome), NAMED[lie], f"{what}: the check is named")
        checks.equal(connect.receipts(), [], f"{what}: no receipt is kept")


def check_responses(checks):
    """What the events of a response repeat must be what it delivered."""
    state = State()
    for lie in ("other_repeat", "other_output", "output_text", "not_an_error"):
        check_lie(checks, state, lie, *KINDS[2], True)
    state.remove()


def check_hanging(checks):
    with HostileServer(lie="hangs") as server, Connect(server.url, server.policy(), arguments=["--idle-seconds", "1"]) as connect:
        for streamed in (False, True):
            outcome = connect.chat(PROMPT, streamed)
            checks.true(outcome.failed and not outcome.is_done and "server.timeout" in message(outcome),
                        f"a server that hangs, streamed {streamed}: {outcome}")


# --- the log ---

def check_log(checks):
    with HostileServer() as server, Connect(server.url, server.policy()) as connect:
        log = server.state.log
        checks.true(connect.chat(PROMPT).verified, "the first of a log is believed")
        tiles = sum("/log/tile" in path for path in server.paths)
        for _ in range(3):
            checks.true(connect.chat(PROMPT).verified, "what follows directly needs no tile")
        checks.equal(sum("/log/tile" in path for path in server.paths), tiles, "none was asked for")
        for others in (1, 5, 250, 3, 300):
            for _ in range(others):
                log.entries.append(os.urandom(32))
            checks.true(connect.chat(PROMPT).verified, f"one history after {others} entries of others")
        before = len(connect.receipts())
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            outcomes = list(pool.map(lambda k: connect.chat(PROMPT, bool(k % 2)), range(24)))
        checks.true(all(one.verified for one in outcomes), f"many at once: {[one for one in outcomes if not one.verified][:2]}")
        checks.equal(len(connect.receipts()), before + 24, "each has its receipt")
        server.lie = "no_tiles"
        log.entries.append(os.urandom(32))
        outcome = connect.chat(PROMPT)
        checks.true(outcome.failed and "log.consistency" in message(outcome), f"a log that hides its tiles: {outcome}")
        server.lie = None
        checks.true(connect.chat(PROMPT).verified, "and shows them again")


def fork(log, how):
    if how == "other history":
        log.entries[1] = os.urandom(32)
    elif how == "other history, and others' entries":
        log.entries[0] = os.urandom(32)
        log.entries += [os.urandom(32) for _ in range(7)]
    elif how == "shrunk":
        del log.entries[-3:]
    elif how == "same size":
        log.entries.pop()
    elif how == "emptied":
        log.entries.clear()


def check_forks(checks):
    for how in ("other history", "other history, and others' entries", "same size"):
        with HostileServer() as server, Connect(server.url, server.policy()) as connect:
            for _ in range(6):
                connect.chat(PROMPT)
            log, entries = server.state.log, list(server.state.log.entries)
            kept = log.checkpoint()
            fork(log, how)
            outcome = connect.chat(PROMPT, True)
            checks.true(outcome.failed and "log.fork" in message(outcome), f"{how}: the fork is seen: {outcome}")
            forks = glob.glob(os.path.join(connect.kept, "logs", "*.fork"))
            text = connect.read(forks[0]) if forks else ""
            checks.true(kept in text and log.checkpoint() in text, f"{how}: both notes are kept")
            refused(checks, server, connect, how, "log.fork")
            plain_refused(checks, server, connect, how)
            connect.kill()
            connect.start()
            plain_refused(checks, server, connect, f"{how}, after a kill")
            refused(checks, server, connect, f"{how}, after a kill", "log.fork")
            os.unlink(forks[0])
            log.entries[:] = entries
            checks.true(connect.chat(PROMPT).verified, f"{how}: goes on once the operator removed it, and the log is itself again")


def plain_refused(checks, server, connect, what):
    status, _, body = connect.get("/v1/models")
    checks.true(status == 502 and b"log.fork" in body and "/v1/models" not in server.paths, f"{what}: nor what passes unverified")


def check_shrunk(checks):
    """A smaller tree, and no tiles of the larger one: no contradiction, but not shown either."""
    for how in ("shrunk", "emptied"):
        with HostileServer() as server, Connect(server.url, server.policy()) as connect:
            for _ in range(6):
                connect.chat(PROMPT)
            log, entries = server.state.log, list(server.state.log.entries)
            connect.kill()  # what is known of the log outlives a kill
            connect.start()
            fork(log, how)
            outcome = connect.chat(PROMPT, True)
            checks.true(outcome.failed and "log.consistency" in message(outcome), f"{how}: it is not shown: {outcome}")
            checks.equal(glob.glob(os.path.join(connect.kept, "logs", "*.fork")), [], f"{how}: no fork is kept")
            log.entries[:] = entries
            checks.true(connect.chat(PROMPT).verified, f"{how}: and goes on where the log is itself again")


def check_kept(checks):
    """A receipt with the id and time of another one does not take its place."""
    with HostileServer() as server, Connect(server.url, server.policy()) as connect:
        server.same_id = b"i" * 16
        checks.true(connect.chat(PROMPT).verified, "the first with its id")
        before = connect.receipts()
        for streamed in (False, True):
            outcome = connect.chat("something else", streamed)
            checks.true(outcome.failed and "kept" in message(outcome), f"another with the same id and time: {outcome}")
        checks.equal(connect.receipts(), before, "the first is what it was")
        server.same_id = None
        checks.true(connect.chat(PROMPT).verified, "and it goes on")


def check_kill(checks):
    with HostileServer() as server, Connect(server.url, server.policy()) as connect:
        for number in range(5):
            outcome = connect.chat(PROMPT, bool(number % 2))
            connect.kill()
            kept = [newest(connect, path) for path in glob.glob(os.path.join(connect.kept, "logs", "*.checkpoint"))]
            checks.true(outcome.verified and kept == [server.state.log.checkpoint()],
                        "a checkpoint is kept before its answer ends, whatever happens next")
            connect.start()
        path, = glob.glob(os.path.join(connect.kept, "logs", "*.checkpoint"))
        connect.kill()
        with open(path, "ab") as file:  # what is no note, up to where the file begins anew
            file.write(b"\0" + b"x" * (1 << 16))
        connect.start()
        checks.true(connect.chat(PROMPT, True).verified, "after a checkpoint's file that ends with no note")
        checks.equal(connect.read(path), server.state.log.checkpoint(), "a file that has grown begins anew")
        server.pause = 0.05
        body = json.dumps({"stream": True, "messages": [{"role": "user", "content": PROMPT}]}).encode()
        client = connect.connect()
        client.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {connect.key}"})
        answer = client.getresponse()
        answer.read(10)
        connect.kill()
        try:
            rest = answer.read()
        except (OSError, HTTPException):
            rest = b""
        checks.true(b"[DONE]" not in rest, "a kill in the middle of an answer is no end of it")
        connect.start()
        server.pause = 0
        checks.true(connect.chat(PROMPT).verified, "and it goes on")


def check_keys(checks):
    with HostileServer() as server:
        witness, other = Noter("witness.example", 4), Noter("other.example", 4)
        arguments = ["--log-key", server.state.log.noter.line, "--witness", witness.line, "--witness", other.line,
                     "--witnesses", "1"]
        with Connect(server.url, server.policy(), arguments=arguments) as connect:
            outcome = connect.chat(PROMPT)
            checks.true(outcome.failed and "log.checkpoint" in message(outcome), f"no witness has signed: {outcome}")
            server.state.log.witnesses = [other]
            checks.true(connect.chat(PROMPT).verified, "one of the two witnesses has signed")
            checks.true("/log/key" not in server.paths, "a pinned key is not asked for")
        with Connect(server.url, server.policy(), arguments=["--log-key", Noter("hostile.example/log").line]) as connect:
            outcome = connect.chat(PROMPT)
            checks.true(outcome.failed and "log.checkpoint" in message(outcome), f"another log than the pinned one: {outcome}")
    with HostileServer(has_log=False) as server:
        with Connect(server.url, server.policy()) as connect:
            refused(checks, server, connect, "a server without a log", "log.key")
            checks.equal(connect.get("/v1/models")[0], 200, "what is not verified passes")
        with Connect(server.url, server.policy(), arguments=["--no-log"]) as connect:
            checks.true(connect.chat(PROMPT, True).verified, "unless it is said that it has none")


# --- much ---

def check_size(checks):
    """A client that reads slowly holds neither memory nor the others."""
    with HostileServer() as server, Connect(server.url, server.policy()) as connect:
        server.filler = 15000
        before = memory_bytes(connect.pid)
        client = connect.connect()
        body = json.dumps({"stream": True, "messages": [{"role": "user", "content": PROMPT}]}).encode()
        client.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {connect.key}"})
        answer = client.getresponse()
        time.sleep(1)
        checks.true(memory_bytes(connect.pid) < before + (64 << 20), "what a client does not take is not held here")
        text = answer.read()
        checks.true(text.endswith(b"data: [DONE]\n\n") and text.count(b"data: ") > 15000, "all of it came in the end")
        server.filler = 0
        long = PROMPT + " " + "x" * (4 << 20)
        checks.true(connect.chat(long, True).verified, "a long request")
        outcome = connect.chat("y" * (20 << 20))
        checks.equal(outcome.status in (413, 0), True, f"a request past the limit: {outcome}")
    with HostileServer() as server, Connect(server.url, server.policy()) as connect:
        server.error = (400, b"z" * (3 << 20))
        checks.equal(len(connect.chat(PROMPT).body), 3 << 20, "a long error passes")


CHECKS = [check_honest, check_clients, check_usage, check_folders, check_evidence, check_other_key, check_renewal, check_lies, check_responses,
          check_hanging, check_log, check_forks, check_shrunk, check_kept, check_kill, check_keys, check_size]


def main():
    """Arguments: names of checks; none: all of them."""
    checks = Checks()
    if not can_serve():
        checks.skip("this build has no servers")
    for check in [one for one in CHECKS if not sys.argv[1:] or one.__name__ in sys.argv[1:]]:
        started = time.monotonic()
        check(checks)
        print(f"{check.__name__}: {time.monotonic() - started:.1f} s", flush=True)
    checks.finish()


main()
