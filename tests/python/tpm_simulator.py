"""A simulated TPM 2.0 (swtpm) that has measured a boot, and what tpm2-tools have it do.

    from tpm_simulator import Simulator, boot, event_log, missing_program
    with tempfile.TemporaryDirectory() as folder:
        tpm = Simulator(folder)     # switched on; Server(arguments=["--tpm-tcti", tpm.tcti]) talks to it
        tpm.extend(boot(1))
        tpm.close()
"""
import base64
import contextlib
import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import time

BANKS = {"sha1": 4, "sha256": 11, "sha384": 12}
QUOTED = {"sha256": [0, 1, 2, 3, 4, 5, 6, 7, 8, 14], "sha384": [4, 7]}
ATTESTING = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"

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


def missing_program():
    """The program that is missing, or None."""
    return next((program for program in ("swtpm", "tpm2_quote") if not shutil.which(program)), None)


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
        self.tcti = f"swtpm:host=127.0.0.1,port={port}"
        self.environment = dict(os.environ, TPM2TOOLS_TCTI=self.tcti, TSS2_LOG="all+none")

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


@contextlib.contextmanager
def booted(folder):
    """A TPM of a measured boot, in a folder that is made, and the options of a server that attests with it."""
    os.mkdir(folder)
    tpm = Simulator(folder)
    try:
        events = boot(1)
        tpm.extend(events)
        collateral = os.path.join(folder, "collateral.json")
        with open(collateral, "w", encoding="utf-8") as file:
            json.dump({"event_log": base64.b64encode(event_log(events)).decode()}, file)
        yield tpm, ["--attester", "tpm", "--tpm-tcti", tpm.tcti, "--collateral", collateral]
    finally:
        tpm.close()
