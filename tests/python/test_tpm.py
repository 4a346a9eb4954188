#!/usr/bin/env python3
"""Quotes of a simulated TPM 2.0 (swtpm), made with tpm2-tools after a boot whose every event went into the TPM and into
an event log: verified with keys of each kind. Skipped where these programs are missing.

`tests/tool_evidence.c` gives the verdicts.
"""
import base64
import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time

from checks import Checks

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
TOOL = os.path.join(BUILD, "tests", "tool_evidence")
TIME = 1767225600

BANKS = {"sha1": 4, "sha256": 11, "sha384": 12}
QUOTED = {"sha256": [0, 1, 2, 3, 4, 5, 6, 7, 8, 14], "sha384": [4, 7]}
ATTESTING = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
# What tpm2_create and tpm2_quote are told.
KEYS = [("rsa2048:rsassa-sha256:null", "rsassa", "sha256"), ("rsa2048:rsapss-sha256:null", "rsapss", "sha256"),
        ("rsa2048:rsassa-sha384:null", "rsassa", "sha384"), ("rsa3072:rsapss-sha384:null", "rsapss", "sha384"),
        ("ecc256:ecdsa-sha256:null", "ecdsa", "sha256"), ("ecc384:ecdsa-sha384:null", "ecdsa", "sha384")]

GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
VARIABLE, APPLICATION, SEPARATOR, NO_ACTION, CRTM_VERSION, IPL = 0x80000001, 0x80000003, 4, 3, 8, 13


def variable(name, data):
    text = name.encode("utf-16-le")
    return GLOBAL_VARIABLE + struct.pack("<QQ", len(name), len(data)) + text + data


def boot(secure_boot):
    """Events: (PCR, type, data, what was measured)."""
    on = variable("SecureBoot", bytes([secure_boot]))
    events = [(0, CRTM_VERSION, b"firmware 7", b"firmware 7"), (7, VARIABLE, on, on),
              (7, VARIABLE, variable("PK", b"key"), variable("PK", b"key")), (4, APPLICATION, b"path of shim", b"shim")]
    events += [(pcr, SEPARATOR, bytes(4), bytes(4)) for pcr in range(8)]
    return events + [(4, APPLICATION, b"path of the kernel", b"kernel"), (8, IPL, b"command line", b"command line")]


def event_log(events):
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 2, 2, len(BANKS))
    spec += b"".join(struct.pack("<HH", number, hashlib.new(bank).digest_size) for bank, number in BANKS.items()) + b"\0"
    log = struct.pack("<II", 0, NO_ACTION) + bytes(20) + struct.pack("<I", len(spec)) + spec
    for pcr, kind, data, measured in events:
        log += struct.pack("<III", pcr, kind, len(BANKS))
        for bank, number in BANKS.items():
            log += struct.pack("<H", number) + hashlib.new(bank, measured).digest()
        log += struct.pack("<I", len(data)) + data
    return log


class Simulator:
    """A TPM that has just been switched on, in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.state = os.path.join(folder, "state")
        os.mkdir(self.state)
        for _ in range(10):
            port = free_pair()
            self.process = subprocess.Popen(
                ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + self.state, "--flags", "not-need-init,startup-clear",
                 "--server", f"type=tcp,port={port},bindaddr=127.0.0.1",
                 "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self.answers(port):
                break
        self.environment = dict(os.environ, TPM2TOOLS_TCTI=f"swtpm:host=127.0.0.1,port={port}", TSS2_LOG="all+none")

    def answers(self, port):
        for _ in range(200):
            if self.process.poll() is not None:
                return False
            try:
                socket.create_connection(("127.0.0.1", port + 1), 1).close()
                return True
            except OSError:
                time.sleep(0.02)
        return False

    def run(self, *command):
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, check=True).stdout

    def read(self, name):
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def extend(self, events):
        for pcr, kind, _, measured in events:
            if kind != NO_ACTION:
                self.run("tpm2_pcrextend", f"{pcr}:" + ",".join(f"{bank}={hashlib.new(bank, measured).hexdigest()}"
                                                                for bank in BANKS))

    def pcrs(self):
        """As the document has them."""
        values = {}
        for bank, numbers in QUOTED.items():
            self.run("tpm2_pcrread", f"{bank}:" + ",".join(map(str, numbers)), "-o", "values")
            raw, size = self.read("values"), hashlib.new(bank).digest_size
            values[bank] = {str(number): raw[i * size:(i + 1) * size].hex() for i, number in enumerate(numbers)}
        return values

    def key(self, kind, attributes=ATTESTING):
        """Makes a key and leaves it in the file "key"."""
        self.run("tpm2_createprimary", "-C", "e", "-G", "ecc256", "-c", "primary")
        self.run("tpm2_flushcontext", "-t")
        self.run("tpm2_create", "-C", "primary", "-G", kind, "-a", attributes, "-u", "public", "-r", "private")
        self.run("tpm2_flushcontext", "-t")
        self.run("tpm2_load", "-C", "primary", "-u", "public", "-r", "private", "-c", "key", "-n", "name")
        self.run("tpm2_flushcontext", "-t")
        self.run("tpm2_readpublic", "-c", "key", "-f", "pem", "-o", "pem")
        self.run("tpm2_readpublic", "-c", "key", "-f", "der", "-o", "der")
        self.run("tpm2_flushcontext", "-t")

    def document(self, nonce, log, scheme, digest):
        selection = "+".join(f"{bank}:" + ",".join(map(str, numbers)) for bank, numbers in QUOTED.items())
        self.run("tpm2_quote", "-c", "key", "-l", selection, "-q", nonce.hex(), "-m", "quote", "-s", "signature",
                 "-g", digest, "--scheme", scheme)
        self.run("tpm2_flushcontext", "-t")
        encoded = {name: base64.b64encode(self.read(file)).decode()
                   for name, file in (("quote", "quote"), ("signature", "signature"), ("ak_public", "public"))}
        return {"bulla_evidence": 1, "type": "tpm", **encoded, "pcrs": self.pcrs(), "ak": self.read("pem").decode(),
                "event_log": base64.b64encode(log).decode()}

    def policy(self, nonce, **more):
        return {"type": "tpm", "report_data": nonce.hex(), "tpm_key": hashlib.sha256(self.read("der")).hexdigest(), **more}

    def close(self):
        self.process.terminate()
        self.process.wait(10)


def free_pair():
    """A port whose successor is free too."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 1))
                return port
            except OSError:
                continue


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
    for program in ("swtpm", "tpm2_quote"):
        if not shutil.which(program):
            checks.skip(f"{program} is not installed")
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
