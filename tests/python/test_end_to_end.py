#!/usr/bin/env python3
"""From a measured boot to a receipt that outlives its server: a TPM (swtpm) is extended by a boot's events, a server quotes it,
`bulla connect` verifies that with a policy that names the TPM's key, the boot and the model, asks, and keeps the receipts.
With server, TPM and connect gone, each verifies without a network, with `bulla verify` and with docs/verify_receipt.py, and
under another policy does not."""
import copy
import glob
import hashlib
import json
import os
import subprocess
import tempfile

from checks import Checks
from connecting import Connect
from receipt_script import check_script, find_python
from serving import PROGRAM, Server, can_serve
from small_source import make_model
from test_attest import evidence, tpm_key
from tpm_simulator import booted, missing_program

NAME = "tester"
CHAT = {"model": NAME, "messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 12}
ASKED = [("/v1/chat/completions", CHAT), ("/v1/chat/completions", {**CHAT, "n": 2, "temperature": 0.8, "seed": 7}),
         ("/v1/completions", {"model": NAME, "prompt": "a b c", "max_tokens": 9}),
         ("/v1/responses", {"model": NAME, "input": "Hello there", "max_output_tokens": 9})]


def without_network():
    """What runs a command where there is no network, not the loopback either; empty where this system does not let us."""
    command = ["unshare", "--map-root-user", "--net"]
    try:
        return command if subprocess.run(command + ["true"], capture_output=True, check=False).returncode == 0 else []
    except FileNotFoundError:
        return []


def policy_for(document):
    return {"attestation": {"type": "tpm", "tpm_key": tpm_key(document["ak"]), "secure_boot": True,
                            "pcr": {"4": document["pcrs"]["sha256"]["4"], "7": document["pcrs"]["sha256"]["7"]},
                            "boot_loader": [hashlib.sha256(program).hexdigest() for program in (b"shim", b"kernel")],
                            "models": document["binding"]["models"]}}


def verify(path, policy, log_key, folder, prefix):
    accepted = os.path.join(folder, "accepted.json")
    with open(accepted, "w", encoding="utf-8") as file:
        json.dump(policy, file)
    done = subprocess.run(prefix + [PROGRAM, "verify", path, "--policy", accepted, "--log-key", log_key, "--json"],
                          capture_output=True, text=True, check=False)
    verdict = json.loads(done.stdout)["checks"] if done.stdout.strip() else []
    return done.returncode, sorted(check["name"] for check in verdict if check["state"] == "fail"), done.stderr


def other_policies(policy):
    """Each with the one check that has to refuse."""
    for field, value, check in (("models", ["00" * 32], "policy.models"), ("tpm_key", "11" * 32, "policy.tpm_key"),
                                ("pcr", {"4": "22" * 32}, "policy.pcr"),
                                ("boot_loader", [hashlib.sha256(b"another").hexdigest()], "policy.boot_loader")):
        other = copy.deepcopy(policy)
        other["attestation"][field] = value
        yield other, check


def ask(checks, connect):
    for path, body in ASKED:
        for streamed in (False, True):
            outcome = connect.ask(path, body, streamed)
            checks.true(outcome.verified and not outcome.failed, f"{path}, streamed {streamed}: {outcome}")


def check_after(checks, paths, policy, log_key, folder):
    prefix = without_network()
    print("verified without a network" if prefix else "this system has no namespaces for us: verified with the network there")
    checks.equal(len(paths), 2 * len(ASKED), "a receipt an answer")
    for path in paths:
        checks.equal(verify(path, policy, log_key, folder, prefix)[:2], (0, []), f"{os.path.basename(path)} verifies")
    check_script(checks, find_python(), paths, log_key, prefix)
    for other, check in other_policies(policy):
        status, failed, trouble = verify(paths[0], other, log_key, folder, prefix)
        checks.true(status == 1 and check in failed, f"another {check}: status {status}, failed {failed} {trouble}")


def main():
    checks = Checks()
    if not can_serve():
        checks.skip("this build has no bulla serve")
    if missing_program():
        checks.skip(f"{missing_program()} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        with booted(os.path.join(folder, "tpm")) as (_, attester):
            arguments = ["--name", NAME, *attester]
            with Server(make_model(folder, "tiny"), arguments=arguments) as server:
                policy = policy_for(evidence(server, os.urandom(32).hex()))
                log_key = server.request("GET", "/log/key")[2].decode().strip()
                with Connect(server.url, policy, arguments=["--log-key", log_key], state=os.path.join(folder, "kept")) as connect:
                    ask(checks, connect)
                    for other, check in list(other_policies(policy))[:3]:
                        with Connect(server.url, other) as refused:
                            outcome = refused.ask(*ASKED[0])
                            checks.true(outcome.failed and check in str(outcome.error), f"connect with another {check}: {outcome}")
                    server.stop()
        check_after(checks, sorted(glob.glob(os.path.join(folder, "kept", "receipts", "*.json"))), policy, log_key, folder)
    checks.finish()


if __name__ == "__main__":
    main()
