"""Receipts of a server that lies: a document is changed, and signed anew with a key of the test's own, its hashes and chains
made to fit, so that `bulla verify` finds nothing wrong with it. Needs the program `openssl`.

    with Forger() as forger:
        document = forger.sign(forger.copy(document))   # a receipt by the test's key, without log and evidence
"""
import base64
import copy
import hashlib
import json
import os
import subprocess
import tempfile

PARTS = {"content": 1, "reasoning": 2, "tool_call": 3, "arguments": 4, "finish": 5}


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u32(*values):
    return b"".join(value.to_bytes(4, "little") for value in values)


def canonical(value):
    """RFC 8785, of values without fractions and with ASCII keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def prompt_hash(salt, ids):
    return sha256(b"bulla-prompt-v1", salt, u32(*ids))


class Forger:
    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="forging-")
        self.key = os.path.join(self.folder.name, "key.pem")
        self.openssl("genpkey", "-algorithm", "ed25519", "-out", self.key)
        self.public = self.openssl("pkey", "-in", self.key, "-pubout", "-outform", "DER")[-32:].hex()
        return self

    def __exit__(self, *unused):
        self.folder.cleanup()

    @staticmethod
    def openssl(*arguments):
        return subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout

    @staticmethod
    def copy(document):
        return copy.deepcopy({name: document[name] for name in ("bulla_receipt", "signed", "transcript")})

    def sign(self, document):
        """Everything in the receipt that follows from the transcript is made so; the rest stays as it is."""
        receipt, transcript = document["signed"]["receipt"], document["transcript"]
        salt = bytes.fromhex(transcript["salt"])
        receipt["key"] = self.public
        receipt["evidence"] = receipt["policy"] = "0" * 64
        receipt["request"] = sha256(b"bulla-request-v1", salt, base64.b64decode(transcript["request"])).hex()
        receipt["choices"] = [self.end_of(salt, number, choice["steps"]) for number, choice in enumerate(transcript["choices"])]
        receipt["output_tokens"] = sum(choice["tokens"] for choice in receipt["choices"])
        path = os.path.join(self.folder.name, "signed")
        with open(path, "wb") as file:
            file.write(b"bulla-receipt-v1\n" + canonical(receipt))
        signature = self.openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.key, "-in", path)
        document["signed"]["signature"] = base64.b64encode(signature).decode()
        return document

    @staticmethod
    def end_of(salt, number, steps):
        chain, tokens = sha256(b"bulla-chain-v1", salt, u32(number)), 0
        for step in steps:
            ids, text = step.get("ids", []), step["text"].encode()
            chain = sha256(chain, u32(PARTS[step["part"]], len(ids), *ids), len(text).to_bytes(8, "little"), text)
            tokens += len(ids)
        return {"chain": chain.hex(), "finish": steps[-1]["text"].split("\0")[0], "tokens": tokens}
