#!/usr/bin/env python3
"""Token ids against the originals (PyPI tokenizers and sentencepiece), and round trips.

The demo models' vocabularies come from BULLA_MODELS, others from the vocabulary files of the llama-cpp-python source
package where BULLA_PEERS has it. `tests/tool_tokenizer.c` is the C side.
"""
import glob
import json
import os
import struct
import subprocess
import tempfile

import gguf
import numpy as np
import safetensors.numpy
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from checks import Checks
from lines import SENTENCES, lines
from reference_tokenizers import PRE, Vocabulary, byte_level, bytes_to_unicode, rebuild, sentencepiece_processor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
TOOL = os.path.join(BUILD, "tests", "tool_tokenizer")
LINES = int(os.environ.get("BULLA_TOKENIZER_LINES",
                           "10000" if os.environ.get("BULLA_TEST_COUNTS") == "full" else "600"))
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
        if not (vocabulary.architecture == "phi3" and b"</s>" in record):  # which takes white space away
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
    check_folder(checks, tokenizer, records, f"{name} as tokenizer.json", plain.ids, special.ids)
    if vocabulary.model == "llama" and vocabulary.architecture != "phi3":  # whose original is tokenizers
        processor = sentencepiece_processor(vocabulary)
        expected = processor.encode([record.decode("utf-8", "replace") for record in records])
        same_ids(checks, plain.ids, expected, records, f"{name} against sentencepiece")


def save(tokenizer, folder, config=None, generation=None):
    """A model's folder with this tokenizer; the weights are one small tensor. Returns the number of ids."""
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    for name, content in (("config.json", {"model_type": "llama"}), ("tokenizer_config.json", config or {}),
                          ("generation_config.json", generation or {})):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(content, file)
    safetensors.numpy.save_file({"x": np.zeros((2, 2), np.float32)}, os.path.join(folder, "model.safetensors"))
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def check_folder(checks, tokenizer, records, what, plain_ids=None, special_ids=None):
    """tokenizer.json against `tokenizers` (or the ids already known to be its), with and without special tokens."""
    with tempfile.TemporaryDirectory() as folder:
        rows = save(tokenizer, folder)
        for special, known in ((False, plain_ids), (True, special_ids)):
            expected = known or reference_ids(tokenizer, records, special)
            found = Encoded(folder, records, *(["special"] if special else []), vocabulary=rows)
            if checks.equal(found.status, 0, f"{what}: {found.words}"):
                same_ids(checks, found.ids, expected, records, f"{what}{', special' if special else ''}")
                for text, streamed, record in zip(found.decoded, found.streamed, records):
                    checks.equal(streamed, text, f"{what}: streamed and whole decoding of {record!r}")


def small_bpe(kind, **arguments):
    """A BPE model of a few hundred merges, trained on the sentences of lines.py."""
    tokenizer = Tokenizer(models.BPE(unk_token=None if kind == "bytes" else "<unk>"))
    alphabet = []
    if kind == "bytes":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
    special = [] if kind == "bytes" else ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(list(SENTENCES.values()) * 3, trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=alphabet, special_tokens=special, show_progress=False,
        max_token_length=12, limit_alphabet=400))
    model = json.loads(tokenizer.to_str())["model"]
    unknown = {} if kind == "bytes" else {"unk_token": "<unk>"}
    return models.BPE(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]],
                      **unknown, **arguments)


ADDED = [
    AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
    AddedToken("<both>", lstrip=True, rstrip=True, normalized=False, special=True),
    AddedToken("word", single_word=True, normalized=False), AddedToken("<plain>", normalized=True),
    AddedToken("<special plain>", normalized=True, special=True), AddedToken("<pl", normalized=False),
    AddedToken("\n\n", normalized=False), AddedToken("▁▁▁", normalized=False),
]
ADDED_LINES = [
    "a <left> b <left>\t <right> \n c", " <both> <both>x<both>", "<left><right>", "  <right>  <left>  ",
    "word words sword a-word word_ _word word. word", "wordword word", "<plain><plain> <plain>  x <plain>",
    "<special plain> and <special plain>x", "<pl <plain <plai", "\n\n\n \n\n", "a▁▁▁b   c", "<lef<left>",
    "\u3000<left>\u3000",
    "<both>", " <plain>", "éword wordé ①word ²word word\u0301", "<right> ", "x<right>\u2028y", "<special plain",
]


def check_pre_tokenizers(checks, vocabulary, records):
    """Every pre-tokenizer, whatever vocabulary it belongs to."""
    for pre in PRE:
        for nfc, ignore in ((False, False), (True, True)):
            tokenizer = byte_level(vocabulary, pre, nfc, ignore)
            check_folder(checks, tokenizer, records, f"{pre} nfc={nfc} ignore_merges={ignore}")


def with_added(tokenizer):
    tokenizer.add_tokens(ADDED)
    tokenizer.add_special_tokens([token for token in ADDED if token.special])
    return tokenizer


def check_small(checks, records):
    """Features that the large vocabularies do not use."""
    records = [line.encode() for line in ADDED_LINES] + records
    for arguments in ({}, {"ignore_merges": True}, {"fuse_unk": True}):
        tokenizer = Tokenizer(small_bpe("bytes", **arguments))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        check_folder(checks, with_added(tokenizer), records, f"small byte-level {arguments}")
    shapes = {
        "Replace": (normalizers.Replace(" ", "▁"), None),
        "Prepend": (normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None),
        "NFC, Replace": (normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "▁")]), None),
        "Replace, Split": (normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous")),
    }
    for scheme in ("always", "first", "never"):
        for split in (False, True):
            shapes[f"Metaspace {scheme} {split}"] = (None, pre_tokenizers.Metaspace("▁", scheme, split))
    for name, (normalizer, pre_tokenizer) in shapes.items():
        for arguments in ({"byte_fallback": True, "fuse_unk": True}, {"fuse_unk": True}, {"fuse_unk": False}):
            tokenizer = Tokenizer(small_bpe("characters", **arguments))
            if normalizer:
                tokenizer.normalizer = normalizer
            if pre_tokenizer:
                tokenizer.pre_tokenizer = pre_tokenizer
            check_folder(checks, with_added(tokenizer), records, f"small {name} {arguments}")


def check_frame(checks):
    """Tokens around a text, and end tokens."""
    tokenizer = Tokenizer(small_bpe("characters", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.add_special_tokens(["<s>", "</s>", "<turn>"])
    start, end = tokenizer.token_to_id("<s>"), tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", start), ("</s>", end)])
    with tempfile.TemporaryDirectory() as folder:
        rows = save(tokenizer, folder)
        found = Encoded(folder, [b"a b", b""], "start", vocabulary=rows)
        checks.equal(found.ids, [tokenizer.encode(text).ids for text in ("a b", "")], "template's tokens")
        found = Encoded(folder, [b"a b"], vocabulary=rows)
        checks.equal(found.ids, [tokenizer.encode("a b", add_special_tokens=False).ids], "no template's tokens")
        rows = save(tokenizer, folder, {"tokenizer_class": "LlamaTokenizerFast", "add_eos_token": False})
        found = Encoded(folder, [b"a b"], "start", vocabulary=rows)
        checks.equal(found.ids, [tokenizer.encode("a b").ids[:-1]], "add_eos_token false of Llama's class")


def check_refusals(checks):
    """What tokenizer.json may say that is not supported, or makes no sense."""
    tokenizer = Tokenizer(small_bpe("bytes"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    good = json.loads(tokenizer.to_str())
    vocabulary = len(good["model"]["vocab"])
    cases = [
        (("model", "type"), "Unigram", "Unigram"), (("model", "type"), 5, "model.type"),
        (("model", "dropout"), 0.5, "dropout"), (("model", "vocab"), [], "model.vocab"),
        (("model", "merges"), None, "model.merges"), (("model", "merges"), ["a"], "model.merges[0]"),
        (("model", "merges"), [["a", "zzzzq"]], "model.merges[0]"), (("model", "merges"), [3], "model.merges[0]"),
        (("model", "continuing_subword_prefix"), "##", "continuing_subword_prefix"),
        (("model", "unk_token"), "<nothing>", "unk_token"),
        (("model", "vocab"), {"a": vocabulary + 5}, "below"), (("model", "vocab"), {"a": -1}, "expected an id"),
        (("model", "vocab"), {"a": 1.5}, "expected an id"), (("model", "vocab"), {"a": 0, "b": 0}, "the id 0"),
        (("normalizer",), {"type": "NFKC"}, "NFKC"), (("normalizer",), {"type": "Sequence"}, "normalizers"),
        (("pre_tokenizer",), {"type": "BertPreTokenizer"}, "BertPreTokenizer"), (("pre_tokenizer",), None, "ByteLevel"),
        (("pre_tokenizer",), {"type": "ByteLevel", "add_prefix_space": True}, "add_prefix_space"),
        (("pre_tokenizer",), {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}, "x+"),
        (("post_processor",), {"type": "BertProcessing"}, "BertProcessing"),
        (("post_processor",), {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>"}}]}, "<x>"),
        (("added_tokens",), {}, "added_tokens"), (("added_tokens",), [{"id": 1}], "added_tokens[0]"),
        (("added_tokens",), [{"id": vocabulary, "content": "<x>"}], "below"),
        (("added_tokens",), [{"id": 1, "content": "<other>"}], "added_tokens[0]"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        save(tokenizer, folder)
        for keys, value, part in cases:
            changed = json.loads(json.dumps(good))
            target = changed
            for key in keys[:-1]:
                target = target[key]
            target[keys[-1]] = value
            with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
                json.dump(changed, file)
            found = Encoded(folder, [b"a"], vocabulary=vocabulary)
            checks.equal(found.status, 1, f"{keys} = {value!r} is refused")
            checks.contains(found.words, part, f"the sentence for {keys} = {value!r}")


GGUF = {
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": [chr(code) for code in range(0x21, 0x7F)] + ["ab", "<s>"],
    "tokenizer.ggml.token_type": [1] * 95 + [3], "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.bos_token_id": 95, "tokenizer.ggml.eos_token_id": 95,
}
SPM = {**GGUF, "tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0.0] * 96}


def write_gguf(path, fields):
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in fields.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, int):
            writer.add_int32(key, value)
    writer.add_tensor("x", np.zeros((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_gguf_refusals(checks):
    """Each key missing, of another type, or of nonsense content: a sentence that names it."""
    cases = [
        (GGUF, "model", None, "model is missing"), (GGUF, "model", "bert", "bert"),
        (GGUF, "pre", "nonsense", "nonsense"), (GGUF, "tokens", None, "tokens is missing"),
        (GGUF, "tokens", "x", "tokens"), (GGUF, "tokens", [1, 2], "tokens"),
        (GGUF, "merges", None, "merges is missing"), (GGUF, "merges", ["ab"], "merges[0]"),
        (GGUF, "merges", ["a b", "a zz"], "merges[1]"), (GGUF, "merges", [""], "merges[0]"),
        (GGUF, "merges", [5], "merges"), (GGUF, "token_type", [1] * 95, "token_type has 95"),
        (GGUF, "token_type", [9] * 96, "token_type[0] is 9"), (GGUF, "token_type", ["x"] * 96, "token_type"),
        (GGUF, "bos_token_id", 96, "bos_token_id is 96"), (GGUF, "eos_token_id", "x", "eos_token_id"),
        (GGUF, "eot_token_id", -5, "eot_token_id"), (GGUF, "add_bos_token", "x", "add_bos_token"),
        (SPM, "scores", None, "scores is missing"), (SPM, "token_type", None, "token_type is missing"),
        (SPM, "scores", [0.0] * 95, "scores has 95"), (SPM, "scores", [float("nan")] * 96, "scores"),
        (SPM, "token_type", [6] * 96, "byte token"), (SPM, "unknown_token_id", 1 << 20, "unknown_token_id"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        for fields in (GGUF, SPM):
            write_gguf(path, fields)
            checks.equal(Encoded(path, [b"ab"]).status, 0, "the unchanged GGUF is accepted")
        checks.contains(Encoded(path, [b"ab"], vocabulary=95).words, "96 tokens", "fewer rows than tokens")
        checks.equal(Encoded(path, [b"ab"], vocabulary=200).status, 0, "more rows than tokens")
        for fields, key, value, part in cases:
            key = "tokenizer.ggml." + key
            changed = {**fields, key: value}
            if value is None:
                del changed[key]
            write_gguf(path, changed)
            found = Encoded(path, [b"ab"], vocabulary=96)
            checks.equal(found.status, 1, f"{key} = {value!r} is refused")
            checks.contains(found.words, part, f"the sentence for {key} = {value!r}")


def check_published(checks, path, records):
    """A published SentencePiece model, read by sentencepiece itself, and the same pieces in a GGUF."""
    processor = sentencepiece.SentencePieceProcessor(model_file=path)
    model = sentencepiece_model_pb2.ModelProto()
    with open(path, "rb") as file:
        model.ParseFromString(file.read())
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "model.gguf")
        write_gguf(copy, {
            "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": [piece.piece for piece in model.pieces],
            "tokenizer.ggml.token_type": [piece.type for piece in model.pieces],
            "tokenizer.ggml.scores": [piece.score for piece in model.pieces], "tokenizer.ggml.unknown_token_id": 0})
        found = Encoded(copy, records)
    expected = processor.encode([record.decode("utf-8", "replace") for record in records])
    same_ids(checks, found.ids, expected, records, os.path.basename(path))
    for text, ids, record in zip(found.decoded, expected, records):
        checks.equal(text.decode(), processor.decode(ids), f"{os.path.basename(path)}: decoding of {record!r}")


def main():
    checks = Checks()
    models = os.environ.get("BULLA_MODELS", "")
    paths = sorted(glob.glob(os.path.join(models, "**", "*.gguf"), recursive=True)) if models else []
    peers = os.environ.get("BULLA_PEERS", "")
    if peers:
        for name in VOCABULARIES:
            paths += glob.glob(os.path.join(peers, "**", f"ggml-vocab-{name}.gguf"), recursive=True)[:1]
    records = lines(LINES, seed=3)
    check_refusals(checks)
    check_gguf_refusals(checks)
    check_frame(checks)
    check_small(checks, records[:400])
    for path in paths:
        check_vocabulary(checks, path, records)
    if peers:  # of the package mistral-common, where it is unpacked there
        for path in sorted(glob.glob(os.path.join(peers, "**", "tokenizer.model.v*"), recursive=True)):
            check_published(checks, path, records)
    byte_levels = [path for path in paths if Vocabulary(path).model == "gpt2"]
    if byte_levels:
        check_pre_tokenizers(checks, Vocabulary(byte_levels[-1]), records[:3000])
    checks.finish()


if __name__ == "__main__":
    main()
