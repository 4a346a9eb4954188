#!/usr/bin/env python3
"""The verifying page, built for WebAssembly (scripts/verify-page) and opened from its file in Chromium without a network:
it gives the verdicts of `bulla verify`, to the letter, on evidence of real hardware, simulated evidence, receipts, changed
ones, and what is no document at all."""
import base64
import json
import os
import re
import subprocess
import sys
import tempfile

from checks import Checks
from connecting import Connect
from serving import Server
from small_source import make_model
from test_page import ROOT, find_tools

BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
SHARED = os.environ.get("BULLA_SHARED", "")
PROGRAM = os.path.join(BUILD, "src", "bulla")
OTHER_LOG = "example.com/log+a06c8792+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def read(*path):
    with open(os.path.join(SHARED, "vectors", *path), "rb") as file:
        return file.read()


def snp(report):
    return {"bulla_evidence": 1, "type": "snp", "report": base64.b64encode(report).decode(),
            "certificates": [read("snp", "milan-v3-vcek.pem").decode() + read("snp", "ask_ark_milan.pem").decode()]}


def served(folder):
    """A server's evidence for a nonce, asked for and another, and a receipt of its, with the log's key and another's."""
    policy = {"attestation": {"type": "sim", "allow_simulated": True}}
    with Server(make_model(folder, "tiny"), arguments=["--name", "tester", "--attester", "sim"]) as server:
        nonce, log_key = os.urandom(32).hex(), server.request("GET", "/log/key")[2].decode().strip()
        evidence = server.request("GET", f"/v1/evidence?nonce={nonce}")[2].decode()
        with Connect(server.url, policy) as connect:
            connect.ask("/v1/chat/completions", {"model": "tester", "messages": [{"role": "user", "content": "Hello"}],
                                                 "max_tokens": 8})
            receipt = json.dumps(connect.receipts()[0])
    yield {"name": "evidence for a nonce", "text": evidence, "policy": policy, "nonce": nonce}
    yield {"name": "evidence for another nonce", "text": evidence, "policy": policy, "nonce": "00" * 32}
    yield {"name": "evidence, no nonce", "text": evidence, "policy": policy, "nonce": "xy", "error": True}
    yield {"name": "receipt", "text": receipt, "policy": policy, "logKey": log_key}
    yield {"name": "receipt of another log", "text": receipt, "policy": policy, "logKey": OTHER_LOG}
    yield {"name": "receipt, no log's key", "text": receipt, "policy": policy, "logKey": "x", "error": True}
    yield {"name": "receipt that is changed", "text": receipt.replace('"native"', '"Native"', 1), "policy": policy}
    yield {"name": "receipt at another time", "text": receipt, "policy": policy, "time": "2001-01-01"}


def documents(folder):
    simulated = json.dumps({"bulla_evidence": 1, "type": "sim", "report": {"measurement": "11" * 32, "report_data": "22" * 64}})
    yield {"name": "simulated", "text": simulated, "policy": {"type": "sim", "allow_simulated": True, "report_data": "22" * 64}}
    yield {"name": "simulated, not allowed", "text": simulated, "policy": {"type": "sim"}}
    if os.path.isdir(os.path.join(SHARED, "vectors", "snp")):
        report = read("snp", "milan-v3-report.bin")
        policy = {"type": "snp", "launch_measurement": report[0x90:0xc0].hex(), "report_data": report[0x50:0x90].hex()}
        changed = bytearray(report)
        changed[0x91] ^= 1
        for name, bytes_, time in (("real", report, "2026-03-01"), ("too early", report, "2001-01-01T12:00:00Z"),
                                   ("changed", bytes(changed), "2026-03-01"), ("cut", report[:-1], "2026-03-01")):
            yield {"name": f"SNP, {name}", "text": json.dumps(snp(bytes_)), "policy": policy, "time": time}
        yield {"name": "SNP, no policy", "text": json.dumps(snp(report)), "policy": None, "time": "2026-03-01"}
    yield from served(folder)
    yield {"name": "no JSON", "text": "{", "policy": None, "error": True}
    yield {"name": "no document", "text": "[]", "policy": {"type": "snp"}}
    yield {"name": "no time", "text": simulated, "policy": {"type": "sim"}, "time": "yesterday", "error": True}
    yield {"name": "unknown field of the policy", "text": simulated, "policy": {"type": "sim", "unheard_of": 1}, "error": True}


def make_cases(checks, folder):
    """The documents with what `bulla verify` says of them, in files."""
    cases = []
    for index, case in enumerate(documents(folder)):
        case = {"time": "", "nonce": "", "logKey": "", "simulated": '"sim"' in case["text"], **case}
        for name, text in (("document", case.pop("text")), ("policy", case["policy"])):
            if text is None:
                continue
            case[name] = os.path.join(folder, f"{index}-{name}.json")
            with open(case[name], "w", encoding="utf-8") as file:
                file.write(text if isinstance(text, str) else json.dumps(text))
        command = [PROGRAM, "verify", case["document"], "--json"]
        for option, value in (("--policy", case["policy"]), ("--time", case["time"]), ("--nonce", case["nonce"]),
                              ("--log-key", case["logKey"])):
            command += [option, value] if value else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        checks.equal(not done.stdout, case.get("error", False), f"{case['name']}: the command says what is wrong in place of a verdict")
        if done.stdout:
            case["verdict"] = json.loads(done.stdout)
        cases.append(case)
    return cases


def main():
    checks = Checks()
    checks.only_in_full("it installs a browser and a compiler for WebAssembly")
    node, tools = find_tools()
    made = subprocess.run([os.path.join(ROOT, "scripts", "verify-page")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if not checks.true(made.returncode == 0, "the page is built:\n" + made.stdout[-2000:]):
        checks.finish()
    print(made.stdout.strip().splitlines()[-1])
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(checks, folder)
        accepted = {case["name"] for case in cases if case.get("verdict", {}).get("passed")}
        checks.true({"simulated", "evidence for a nonce", "receipt"} <= accepted, f"accepted are {sorted(accepted)}")
        path = os.path.join(folder, "cases.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(cases, file)
        environment = dict(os.environ, **tools, BULLA_VERIFY_CASES=path, BULLA_VERIFY_PAGE=os.path.join(ROOT, "build", "verify.html"))
        done = subprocess.run([node, os.path.join(ROOT, "tests", "web", "verify.test.mjs")], env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280)
        counted = re.search(r"^(\d+) checks", done.stdout, re.MULTILINE)
        if checks.true(done.returncode == 0 and counted, done.stdout.strip()[-3000:]):
            checks.made += int(counted.group(1)) - 1
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
