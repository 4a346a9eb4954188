#!/usr/bin/env python3
"""Quotes of a simulated TPM 2.0 (swtpm), made with tpm2-tools after a boot whose every event went into the TPM and into
an event log: verified with keys of each kind. Skipped where these programs are missing.

`tests/tool_evidence.c` gives the verdicts.
"""
import base64
import hashlib
import json
import os
import subprocess
import tempfile

from checks import Checks
from tpm_simulator import ATTESTING, Simulator, boot, event_log, missing_program

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
TOOL = os.path.join(BUILD, "tests", "tool_evidence")
TIME = 1767225600

# What tpm2_create and tpm2_quote are told.
KEYS = [("rsa2048:rsassa-sha256:null", "rsassa", "sha256"), ("rsa2048:rsapss-sha256:null", "rsapss", "sha256"),
        ("rsa2048:rsassa-sha384:null", "rsassa", "sha384"), ("rsa3072:rsapss-sha384:null", "rsapss", "sha384"),
        ("ecc256:ecdsa-sha256:null", "ecdsa", "sha256"), ("ecc384:ecdsa-sha384:null", "ecdsa", "sha384")]


def judge(folder, document, policy):
    """(whether it passed, the names of the failed checks)"""
    paths = [os.path.join(folder, name) for name in ("document.json", "policy.json")]
    for path, value in zip(paths, (document, policy)):
        with open(path, "w") as file:
            json.dump(value, file)
    result = subprocess.run([TOOL, *paths, str(TIME)], capture_output=True, check=False)
    if result.returncode not in (0, 1):
        return None, result.stderr.decode()
    verdict = json.loads(result.stdout)
    return verdict["passed"], [check["name"] for check in verdict["checks"] if check["state"] == "fail"]


def check_keys(checks, tpm, folder, log):
    nonce = os.urandom(32)
    for kind, scheme, digest in KEYS:
        tpm.key(kind)
        document = tpm.document(nonce, log, scheme, digest)
        accepted = tpm.policy(nonce, tpm_name=tpm.read("name").hex(), secure_boot=True, pcr=document["pcrs"]["sha256"],
                              boot_loader=[hashlib.sha256(program).hexdigest() for program in (b"shim", b"kernel")])
        checks.equal(judge(folder, document, accepted), (True, []), f"{kind}: accepted")
        unnamed = {name: value for name, value in accepted.items() if name not in ("tpm_key", "tpm_name")}
        checks.equal(judge(folder, document, unnamed), (False, ["policy.tpm_key"]), f"{kind}: not named")
        other = tpm.policy(os.urandom(32))
        checks.equal(judge(folder, document, other), (False, ["policy.report_data"]), f"{kind}: another nonce")
        without = {name: value for name, value in document.items() if name not in ("ak_public", "event_log")}
        checks.equal(judge(folder, without, tpm.policy(nonce)), (True, []), f"{kind}: without log and public area")


def check_lies(checks, tpm, folder, events):
    nonce, log = os.urandom(32), event_log(events)
    tpm.key("ecc256:ecdsa-sha256:null")
    document, policy = tpm.document(nonce, log, "ecdsa", "sha256"), tpm.policy(nonce)
    document["event_log"] = base64.b64encode(event_log(events[:-2] + events[-1:])).decode()
    checks.equal(judge(folder, document, policy), (False, ["tpm.log.replay"]), "an event left out of the log")
    document["event_log"] = base64.b64encode(log).decode()
    checks.equal(judge(folder, document, policy), (True, []), "the log as it was")
    data = bytearray(log)
    at = log.index("SecureBoot".encode("utf-16-le")) + 20
    data[at] ^= 1
    document["event_log"] = base64.b64encode(data).decode()
    checks.equal(judge(folder, document, policy), (False, ["tpm.log.event_data"]), "secure boot said otherwise")
    document["event_log"] = base64.b64encode(log).decode()
    document["pcrs"]["sha256"]["14"] = "00" * 31 + "01"
    checks.equal(judge(folder, document, policy), (False, ["tpm.quote.digest"]), "a value that was not quoted")
    tpm.run("tpm2_pcrextend", "4:sha256=" + "ab" * 32)
    document = tpm.document(nonce, log, "ecdsa", "sha256")
    checks.equal(judge(folder, document, policy), (False, ["tpm.log.replay"]), "more measured than the log says")


def check_unrestricted(checks, tpm, folder, log):
    """A key with which anything can be signed, a false quote too."""
    nonce = os.urandom(32)
    tpm.key("ecc256:ecdsa-sha256:null", ATTESTING.replace("restricted|", ""))
    document = tpm.document(nonce, log, "ecdsa", "sha256")
    checks.equal(judge(folder, document, tpm.policy(nonce)), (False, ["tpm.ak_public.attributes"]), "not restricted")


def main():
    checks = Checks()
    if missing_program():
        checks.skip(f"{missing_program()} is not installed")
    for secure_boot in (1, 0):
        with tempfile.TemporaryDirectory() as folder:
            tpm = Simulator(folder)
            try:
                events = boot(secure_boot)
                log = event_log(events)
                tpm.extend(events)
                if secure_boot:
                    check_keys(checks, tpm, folder, log)
                    check_unrestricted(checks, tpm, folder, log)
                    check_lies(checks, tpm, folder, events)
                else:
                    nonce = os.urandom(32)
                    tpm.key("ecc256:ecdsa-sha256:null")
                    document = tpm.document(nonce, log, "ecdsa", "sha256")
                    checks.equal(judge(folder, document, tpm.policy(nonce)), (True, []), "secure boot is off")
                    checks.equal(judge(folder, document, tpm.policy(nonce, secure_boot=True)),
                                 (False, ["policy.secure_boot"]), "secure boot is off, and wanted")
            finally:
                tpm.close()
    checks.finish()


if __name__ == "__main__":
    main()
