#!/usr/bin/env python3
"""Token ids against the originals (PyPI tokenizers and sentencepiece), and round trips.

The demo models' vocabularies come from BULLA_MODELS, others from the vocabulary files of the llama-cpp-python source
package where BULLA_PEERS has it. `tests/tool_tokenizer.c` is the C side.
"""
import glob
import os
import struct
import subprocess

from tokenizers import normalizers

from checks import Checks
from lines import lines
from reference_tokenizers import PRE, Vocabulary, bytes_to_unicode, rebuild, sentencepiece_processor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
TOOL = os.path.join(BUILD, "tests", "tool_tokenizer")
LINES = int(os.environ.get("BULLA_TOKENIZER_LINES",
                           "10000" if os.environ.get("BULLA_TEST_COUNTS") == "full" else "3000"))
VOCABULARIES = ["llama-bpe", "llama-spm", "phi-3", "qwen2", "qwen35", "gpt-2", "starcoder", "refact"]


class Encoded:
    def __init__(self, source, records, *flags, vocabulary=0):
        data = b"".join(struct.pack("<I", len(record)) + record for record in records)
        result = subprocess.run([TOOL, source, str(vocabulary), *flags], input=data, capture_output=True)
        self.status = result.returncode
        self.words = result.stderr.decode()
        rows = result.stdout.decode().split("\n")[:-1]
        self.ids = [[int(word) for word in row.split()] for row in rows[0::3]]
        self.decoded = [bytes.fromhex(row) for row in rows[1::3]]
        self.streamed = [bytes.fromhex(row) for row in rows[2::3]]


def same_ids(checks, found, expected, records, what):
    checks.equal(len(found), len(expected), f"{what}: records")
    for got, wanted, record in zip(found, expected, records):
        checks.equal(got, wanted, f"{what}: ids of {record!r}")


def reference_ids(tokenizer, records, special):
    tokenizer.encode_special_tokens = not special
    texts = [record.decode("utf-8", "replace") for record in records]
    return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]


def expected_text(vocabulary, record):
    """What decoding gives back: the text, but for what the vocabulary cannot say."""
    text = record.decode("utf-8", "replace")
    if vocabulary.model == "llama":
        return text.replace("▁", " ")
    if PRE[vocabulary.pre][1]:
        text = normalizers.NFC().normalize_str(text)
    alphabet = {character: byte for byte, character in bytes_to_unicode().items()}
    known = {alphabet[token] for token in vocabulary.tokens if token in alphabet}
    return bytes(byte for byte in text.encode() if byte in known).decode("utf-8", "replace")


def check_round_trip(checks, encoded, vocabulary, records, name):
    for text, streamed, record in zip(encoded.decoded, encoded.streamed, records):
        checks.equal(streamed, text, f"{name}: streamed and whole decoding of {record!r}")
        checks.equal(text.decode(), expected_text(vocabulary, record), f"{name}: round trip")


def check_vocabulary(checks, path, records):
    name = os.path.basename(path)
    vocabulary = Vocabulary(path)
    tokenizer = rebuild(vocabulary)
    plain = Encoded(path, records)
    if not checks.equal(plain.status, 0, f"{name}: {plain.words}"):
        return
    print(f"{name}: {', '.join(plain.words.splitlines())}", flush=True)
    same_ids(checks, plain.ids, reference_ids(tokenizer, records, False), records, f"{name} against tokenizers")
    check_round_trip(checks, plain, vocabulary, records, name)
    special = Encoded(path, records, "special")
    same_ids(checks, special.ids, reference_ids(tokenizer, records, True), records,
             f"{name} against tokenizers, special")
    if vocabulary.model == "llama":
        processor = sentencepiece_processor(vocabulary)
        expected = processor.encode([record.decode("utf-8", "replace") for record in records])
        same_ids(checks, plain.ids, expected, records, f"{name} against sentencepiece")


def main():
    checks = Checks()
    models = os.environ.get("BULLA_MODELS", "")
    paths = sorted(glob.glob(os.path.join(models, "**", "*.gguf"), recursive=True)) if models else []
    peers = os.environ.get("BULLA_PEERS", "")
    if peers:
        for name in VOCABULARIES:
            paths += glob.glob(os.path.join(peers, "**", f"ggml-vocab-{name}.gguf"), recursive=True)[:1]
    if not paths:
        checks.skip("no vocabulary: BULLA_MODELS and BULLA_PEERS are not set")
    records = lines(LINES, seed=3)
    for path in paths:
        check_vocabulary(checks, path, records)
    checks.finish()


if __name__ == "__main__":
    main()
