#!/usr/bin/env python3
"""`bulla connect` before `bulla serve --attester sim`, end to end: answers of every form are verified, also where others
use the log and after the server's restart; what is kept verifies with `bulla verify` and with docs/verify_receipt.py once
the server is gone."""
import concurrent.futures
import glob
import os
import subprocess
import tempfile

from checks import Checks
from connecting import Connect
from demo_models import tool_model
from receipt_script import check_script, find_python
from serving import PROGRAM, Server, can_serve
from small_source import make_model

POLICY = {"attestation": {"type": "sim", "allow_simulated": True}}
NAME = "tester"
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {
    "type": "object", "properties": {"known": {"type": "boolean"}}, "required": ["known"], "additionalProperties": False}}}
CHAT = {"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 12}
BODIES = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "n": 3, "seed": 2**63 + 5, "temperature": 0.7, "top_k": 5, "top_p": 0.95,
                              "min_p": 0.01, "stop": ["zq", ""], "logprobs": True, "top_logprobs": 2, "presence_penalty": 0.5,
                              "repetition_penalty": 1.1, "logit_bias": {"5": -1}, "timeout": 50, "user": "somebody"}),
    ("/v1/chat/completions", {**CHAT, "max_tokens": 40, "response_format": {"type": "json_object"}}),
    ("/v1/chat/completions", {**CHAT, "max_completion_tokens": 9, "stream_options": {"include_usage": True}}),
    ("/v1/completions", {"prompt": ["a b", "c"], "max_tokens": 8, "echo": True, "n": 2}),
    ("/v1/completions", {"prompt": [5, 6, 7], "logprobs": 2}),
    ("/v1/responses", {"input": "Hello there", "max_output_tokens": 9, "temperature": 0}),
    ("/v1/responses", {"input": [{"role": "user", "content": "Hello"}], "instructions": "Be short.", "max_output_tokens": 30,
                       "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}}),
]


def ask_all(checks, connect, what, bodies=None):
    for streamed in (False, True):
        for path, body in bodies or BODIES:
            if not streamed:
                body = {key: value for key, value in body.items() if key != "stream_options"}
            outcome = connect.ask(path, {"model": NAME, **body}, streamed)
            checks.true(outcome.verified and not outcome.failed and outcome.is_done == streamed,
                        f"{what}: {path} {body}, streamed {streamed}: {outcome}")


def check_log(checks, server, connect):
    """Others' answers are in the log too, and several end at once."""
    body = {"model": NAME, **CHAT}
    for others in (1, 3):
        for _ in range(others):
            checks.equal(server.json("POST", "/v1/chat/completions", body)[0], 200, "another client's answer")
        outcome = connect.ask("/v1/chat/completions", body, True)
        checks.true(outcome.verified, f"a log that others use: {outcome}")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        mine = [pool.submit(connect.ask, "/v1/chat/completions", body, bool(k % 2)) for k in range(12)]
        others = [pool.submit(server.json, "POST", "/v1/chat/completions", body) for _ in range(8)]
        checks.equal({one.result()[0] for one in others}, {200}, "many others")
        failed = [one.result() for one in mine if not one.result().verified]
        checks.true(not failed, f"many at once: {failed[:2]}")


def check_kept(checks, connect, log_key):
    """Without the server."""
    paths = sorted(glob.glob(os.path.join(connect.receipts_folder, "*.json")))
    checks.true(len(paths) >= 2 * len(BODIES), "receipts are kept")
    for path in paths[:len(BODIES)] + paths[-2:]:
        done = subprocess.run([PROGRAM, "verify", path, "--policy", connect.policy_path, "--log-key", log_key],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        checks.true(done.returncode == 0 and "log.inclusion" in done.stdout and "SIMULATED" in done.stdout,
                    f"bulla verify: {done.stdout[-3000:]}")
    check_script(checks, find_python(), paths, log_key)


def check_tools(checks):
    model = tool_model()
    if not model:
        return
    config = {"models": [{"name": NAME, "path": model, "cache_positions": 8192, "threads": 1}]}
    with Server(config=config, arguments=["--attester", "sim"]) as server, Connect(server.url, POLICY) as connect:
        for streamed in (False, True):
            outcome = connect.chat("Look it up.", streamed, model=NAME, tools=[TOOL], tool_choice="required", max_tokens=60)
            checks.true(outcome.verified and outcome.finish in ("tool_calls", "length"), f"a call, streamed {streamed}: {outcome}")
            outcome = connect.ask("/v1/responses", {"model": NAME, "input": "Look it up.", "max_output_tokens": 60,
                                                    "tools": [{"type": "function", **TOOL["function"]}],
                                                    "tool_choice": {"type": "function", "name": "look_up"}}, streamed)
            checks.true(outcome.verified, f"a call of a response, streamed {streamed}: {outcome}")


def main():
    checks = Checks()
    if not can_serve():
        checks.skip("this build has no bulla serve")
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder, "tiny")
        with Server(model, arguments=["--name", NAME, "--attester", "sim"]) as server:
            listen = "{}:{}".format(*server.address)
            with Connect(server.url, POLICY) as connect:
                ask_all(checks, connect, "at first")
                check_log(checks, server, connect)
                log_key = server.request("GET", "/log/key")[2].decode().strip()
                server.stop()
                outcome = connect.ask("/v1/chat/completions", {"model": NAME, **CHAT})
                checks.true(outcome.failed and outcome.status == 503, f"a server that is gone: {outcome}")
                server.listen = listen
                server.start()
                ask_all(checks, connect, "after the server's restart, with another key of receipts", BODIES[:1])
                server.kill()
                server.start()
                connect.kill()
                connect.start()
                ask_all(checks, connect, "after a kill of both", BODIES[-2:-1])
                server.stop()
                check_kept(checks, connect, log_key)
                strict = Connect(server.url, {"attestation": {"type": ["snp", "tdx"]}})
                server.start()
                outcome = strict.ask("/v1/chat/completions", {"model": NAME, **CHAT})
                checks.true(outcome.failed and "SIMULATED" in str(outcome.error) or "policy.type" in str(outcome.error),
                            f"simulated evidence under a policy of hardware: {outcome}")
                strict.stop()
                strict.remove()
    check_tools(checks)
    checks.finish()


main()
