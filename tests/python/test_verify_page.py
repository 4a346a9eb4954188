#!/usr/bin/env python3
"""The verifying page, built for WebAssembly (scripts/verify-page) and opened from its file in Chromium without a network:
it gives the verdicts of `bulla verify`, to the letter, on evidence of real hardware, simulated evidence, receipts, changed
ones, and what is no document at all."""
import base64
import calendar
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

from checks import Checks
from test_page import ROOT, find_tools

BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
SHARED = os.environ.get("BULLA_SHARED", "")
PROGRAM = os.path.join(BUILD, "src", "bulla")


def read(*path):
    with open(os.path.join(SHARED, "vectors", *path), "rb") as file:
        return file.read()


def snp(report):
    return {"bulla_evidence": 1, "type": "snp", "report": base64.b64encode(report).decode(),
            "certificates": [read("snp", "milan-v3-vcek.pem").decode() + read("snp", "ask_ark_milan.pem").decode()]}


def documents():
    """Name, document's text, policy or None, time."""
    simulated = {"bulla_evidence": 1, "type": "sim", "report": {"measurement": "11" * 32, "report_data": "22" * 64}}
    yield "simulated", json.dumps(simulated), {"type": "sim", "allow_simulated": True, "report_data": "22" * 64}, "2026-01-01"
    yield "simulated, not allowed", json.dumps(simulated), {"type": "sim"}, "2026-01-01"
    if os.path.isdir(os.path.join(SHARED, "vectors", "snp")):
        report = read("snp", "milan-v3-report.bin")
        claims = {"launch_measurement": report[0x90:0xc0].hex(), "report_data": report[0x50:0x90].hex()}
        changed = bytearray(report)
        changed[0x91] ^= 1
        for name, bytes_, date in (("real", report, "2026-03-01"), ("too early", report, "2001-01-01"),
                                   ("changed", bytes(changed), "2026-03-01"), ("cut", report[:-1], "2026-03-01")):
            yield f"SNP, {name}", json.dumps(snp(bytes_)), {"type": "snp", **claims}, date
        yield "SNP, no policy", json.dumps(snp(report)), None, "2026-03-01"
    for path in sorted(glob.glob(os.path.join(ROOT, "fuzz", "corpus", "receipt", "*"))):
        with open(path, encoding="utf-8") as file:
            yield f"receipt, {os.path.basename(path)}", file.read(), {"type": "sim", "allow_simulated": True}, "2026-03-01"
    yield "no JSON", "{", None, "2026-01-01"
    yield "no document", "[]", {"type": "snp"}, "2026-01-01"
    yield "unknown field of the policy", json.dumps(simulated), {"type": "sim", "unheard_of": 1}, "2026-01-01"


def make_cases(folder):
    cases = []
    for index, (name, document, policy, date) in enumerate(documents()):
        case = {"name": name, "document": os.path.join(folder, f"{index}.json"), "policy": None, "nonce": "",
                "time": calendar.timegm(time.strptime(date, "%Y-%m-%d")), "simulated": '"sim"' in document or '"simulated":true' in document}
        with open(case["document"], "w", encoding="utf-8") as file:
            file.write(document)
        if policy is not None:
            case["policy"] = os.path.join(folder, f"{index}-policy.json")
            with open(case["policy"], "w", encoding="utf-8") as file:
                json.dump(policy, file)
        done = subprocess.run([PROGRAM, "verify", case["document"], "--json", "--time", date] +
                              (["--policy", case["policy"]] if policy is not None else []), capture_output=True, text=True)
        if done.stdout:
            case["verdict"] = json.loads(done.stdout)
        else:
            case["error"] = True
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
        cases = make_cases(folder)
        checks.true(any(case.get("verdict", {}).get("passed") for case in cases), "some are accepted")
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
