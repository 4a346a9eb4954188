#!/usr/bin/env python3
"""Verifies a receipt document (receipt.md) without Bulla: Python and the package `cryptography` are all it needs.

usage: verify_receipt.py RECEIPT.json [LOG_KEY]      LOG_KEY: the log's verifier key, NAME+HEXID+BASE64

Checks the receipt's signature, the transcript (request, prompt, every step of each choice), that the log has it, and that the
evidence is the one it names and binds its key. What the evidence is worth, `bulla verify` says.
"""
import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PARTS = {"content": 1, "reasoning": 2, "tool_call": 3, "arguments": 4, "finish": 5}


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u32(*values):
    return b"".join(value.to_bytes(4, "little") for value in values)


def canonical(value):
    """RFC 8785, of values without fractions."""
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(key)}:{canonical(item)}" for key, item in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float):
        raise ValueError("a number with a fraction")
    return json.dumps(value, ensure_ascii=False)


def hash_of(value):
    return sha256(canonical(value).encode())


def check(name, holds):
    print(f"{'pass' if holds else 'fail'}        {name}")
    return bool(holds)


def is_signed(key, signature, message):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def prompt_hash(salt, ids):
    if ids and isinstance(ids[0], list):
        return sha256(b"bulla-prompts-v1", salt, *(prompt_hash(salt, prompt) for prompt in ids))
    return sha256(b"bulla-prompt-v1", salt, u32(*ids))


def check_transcript(receipt, transcript):
    salt = bytes.fromhex(transcript["salt"])
    body = base64.b64decode(transcript["request"], validate=True)
    good = check("request", sha256(b"bulla-request-v1", salt, body).hex() == receipt["request"])
    if "prompt_ids" in transcript:
        good &= check("prompt", prompt_hash(salt, transcript["prompt_ids"]).hex() == receipt["prompt"])
    good &= check("number of choices", len(transcript["choices"]) == len(receipt["choices"]))
    for index, (told, named) in enumerate(zip(transcript["choices"], receipt["choices"])):
        chain, count = sha256(b"bulla-chain-v1", salt, u32(index)), 0
        for step in told["steps"]:
            ids, text = step.get("ids", []), step["text"].encode()
            chain = sha256(chain, u32(PARTS[step["part"]], len(ids), *ids), len(text).to_bytes(8, "little"), text)
            count += len(ids)
        ends = [step["text"].split("\0")[0] for step in told["steps"] if step["part"] == "finish"]
        good &= check(f"chain of choice {index}", chain.hex() == named["chain"])
        good &= check(f"end of choice {index}", ends == [named["finish"]] and told["steps"][-1]["part"] == "finish")
        good &= receipt["backend"] != "native" or check(f"tokens of choice {index}", count == named["tokens"])
    return good


def check_log(signed, log, key_line):
    text, _, signatures = log["checkpoint"].rpartition("\n\n")
    origin, size, root = (text + "\n").split("\n")[:3]
    index, last, node = log["index"], int(size) - 1, sha256(b"\0", hash_of(signed))
    good = 0 <= index <= last
    for other in map(bytes.fromhex, log["path"]):  # RFC 9162, section 2.1.3.2
        good &= last > 0
        if index & 1 or index == last:
            node = sha256(b"\1", other, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = sha256(b"\1", node, other)
        index, last = index >> 1, last >> 1
    good = check("inclusion in the log", good and last == 0 and node == base64.b64decode(root))
    if key_line:
        name, _, key = key_line.split("+", 2)
        key, wanted = base64.b64decode(key), f"\u2014 {name} "
        lines = [base64.b64decode(line[len(wanted):]) for line in signatures.split("\n") if line.startswith(wanted)]
        mark = sha256(name.encode(), b"\n", key)[:4]
        good &= check("checkpoint", origin == name and any(
            line[:4] == mark and is_signed(key[1:], line[4:], (text + "\n").encode()) for line in lines))
    return good


def main(path, key_line=None):
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    signed = document["signed"]
    receipt = signed["receipt"]
    message = b"bulla-receipt-v1\n" + canonical(receipt).encode()
    good = check("signature", is_signed(bytes.fromhex(receipt["key"]), base64.b64decode(signed["signature"]), message))
    if "transcript" in document:
        good &= check_transcript(receipt, document["transcript"])
    if "log" in document:
        good &= check_log(signed, document["log"], key_line)
    if "evidence" in document:
        binding = document["evidence"]["binding"]
        good &= check("evidence", hash_of(document["evidence"]).hex() == receipt["evidence"])
        good &= check("key bound by the evidence", binding["receipt_key"] == receipt["key"])
        good &= receipt["backend"] != "native" or check("model bound by the evidence",
                                                        receipt["model_root"] in binding["models"])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
