#!/usr/bin/env python3
"""How far Bulla's integers are from float arithmetic on the same weights.

usage: bench/accuracy.py [options]            needs numpy, gguf and tokenizers

  --models FOLDER    the demo GGUFs (BULLA_MODELS)
  --model NAME       smollm2 or gemma3; may be given again (both)
  --corpus NAME      wikitext2, chinese, code or chat; may be given again (all)
  --text FILE        any UTF-8 file as a corpus of its own
  --chunks N         chunks of the large corpus (64); the others have up to 16
  --tokens N         length of a chunk (512)
  --build FOLDER     build tree with src/bulla and bench/logits (BULLA_BUILD, build/release)
  --file FILE        an imported model to measure instead of importing (with one --model)
  --import-option X  handed to `bulla import`; may be given again
  --json FILE        where the figures go as JSON
  --check            also compare the float model's perplexity with llama.cpp's (BULLA_LLAMA: folder of its
                     programs, or PATH), on the same weights as F32
  --noise SIGMA      measure float logits with Gaussian noise instead of Bulla's: what the pipeline itself says

Each chunk starts at position 0 (with the start token where the model has one); the second half of its positions
counts, each predicting the next token of the chunk. For each corpus: the mean over positions of
KL(float || Bulla), both perplexities and their ratio, the share of positions with the same most likely token.
Intervals are 95 % Student intervals over chunks, paired: both sides see the same tokens.

Float states are kept in $BULLA_CACHE/accuracy (~/.cache/bulla/accuracy), logits never: they are products of
states and head, made block by block.
"""
import argparse
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import gguf
import numpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import corpora
from float_model import FloatModel
from tokens import Tokens

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3": "gemma-3-270m-q4-k-m.gguf"}
BATCH = 8   # chunks that go through a layer together
ROWS = 32   # positions whose logits are held at once


def cache_folder():
    base = os.environ.get("BULLA_CACHE")
    if not base:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "bulla")
    folder = os.path.join(base, "accuracy")
    os.makedirs(folder, exist_ok=True)
    return folder


def digest_of(*paths):
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def say(text):
    print(text, file=sys.stderr, flush=True)


class Model:
    """A GGUF with its float twin, which is loaded when first needed."""

    def __init__(self, name, path):
        self.name, self.path = name, path
        self.digest = digest_of(path, os.path.join(ROOT, "bench", "float_model.py"))
        self.tokens = Tokens(gguf.GGUFReader(path).fields)
        self._float = None

    @property
    def float(self):
        if self._float is None:
            self._float = FloatModel(self.path)
        return self._float

    def chunks(self, text, count, length):
        """The text's first chunks as ids [count, length]. As llama-perplexity cuts: the start token, where there
        is one, takes the place of each chunk's first token."""
        ids = self.tokens.encode(text)
        if self.tokens.start is not None:
            ids = [self.tokens.start] + ids
        count = min(count, len(ids) // length)
        cut = numpy.array(ids[:count * length], dtype=numpy.uint32).reshape(count, length)
        if self.tokens.start is not None:
            cut[:, 0] = self.tokens.start
        return cut

    def states(self, ids):
        """Float states [chunks, wanted positions, n] that predict the second half of each chunk."""
        key = hashlib.sha256(self.digest.encode() + str(ids.shape).encode() + ids.tobytes()).hexdigest()[:32]
        path = os.path.join(cache_folder(), f"{self.name}-{key}.npy")
        if os.path.exists(path):
            return numpy.load(path)
        parts, start = [], time.monotonic()
        for first in range(0, len(ids), BATCH):
            parts.append(self.float.hidden(ids[first:first + BATCH])[:, wanted(ids)])
            say(f"  float: {min(first + BATCH, len(ids))} of {len(ids)} chunks, {time.monotonic() - start:.0f} s")
        states = numpy.concatenate(parts)
        with tempfile.NamedTemporaryFile(dir=cache_folder(), delete=False) as file:
            numpy.save(file, states)
        os.replace(file.name, path)
        return states


def wanted(ids):
    return slice(ids.shape[1] // 2, ids.shape[1] - 1)


class LogitsTool:
    """Bulla's logits through bench/logits FILE. To its standard input go records of u32: n, n ids, the first
    position wanted; from its standard output come once i32 F and u32 vocabulary, then for each record, for each
    position from the wanted one to the last, vocabulary i32 with F fraction bits. All little-endian."""

    def __init__(self, command, ids):
        # The last token of a chunk is only predicted.
        first = ids.shape[1] // 2
        records = b"".join(numpy.concatenate(([len(row) - 1], row[:-1], [first])).astype("<u4").tobytes()
                           for row in ids)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1 << 22)
        self.command = command
        threading.Thread(target=self._feed, args=(records,), daemon=True).start()
        self.fraction_bits, self.vocabulary = (int(value) for value in self._read(2))

    def _feed(self, records):
        try:
            self.process.stdin.write(records)
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # _read says what is missing

    def _read(self, count):
        data = self.process.stdout.read(4 * count)
        if len(data) != 4 * count:
            status = self.process.wait()
            sys.exit(f"accuracy: {' '.join(self.command)} ended with {status} after {len(data)} of {4 * count} bytes")
        return numpy.frombuffer(data, dtype="<i4")

    def rows(self, count, _float_logits):
        values = self._read(count * self.vocabulary).reshape(count, self.vocabulary)
        # Differences to the largest are exact in integers; only then float32.
        return (values - values.max(axis=1, keepdims=True)).astype(numpy.float32) * 2.0 ** -self.fraction_bits

    def close(self):
        if self.process.wait() != 0:
            sys.exit(f"accuracy: {' '.join(self.command)} ended with {self.process.returncode}")


class Noise:
    """A stand-in for the tool: float logits with Gaussian noise, for which KL is about sigma^2 / 2."""

    def __init__(self, sigma):
        self.sigma, self.random = sigma, numpy.random.default_rng(1)

    def rows(self, count, float_logits):
        noise = self.random.standard_normal(float_logits.shape, dtype=numpy.float32)
        return float_logits + self.sigma * noise

    def close(self):
        pass


def log_softmax(logits):
    logits = logits - logits.max(axis=1, keepdims=True)
    total = numpy.exp(logits).sum(axis=1, dtype=numpy.float64)
    return logits - numpy.log(total).astype(numpy.float32)[:, None]


def compare(model, ids, source):
    """Means of each chunk: [chunks, (KL, float loss, Bulla's loss, agreement)]."""
    states = model.states(ids)
    figures = []
    for chunk, states_of_chunk in enumerate(states):
        sums = numpy.zeros(4)
        targets = ids[chunk, ids.shape[1] // 2 + 1:].astype(numpy.int64)
        for first in range(0, len(targets), ROWS):
            logits = model.float.logits(states_of_chunk[first:first + ROWS])
            target = targets[first:first + ROWS]
            rows = numpy.arange(len(target))
            ours = log_softmax(source.rows(len(target), logits))
            exact = log_softmax(logits)
            sums[1] -= exact[rows, target].sum(dtype=numpy.float64)
            sums[2] -= ours[rows, target].sum(dtype=numpy.float64)
            sums[3] += (exact.argmax(axis=1) == ours.argmax(axis=1)).sum()
            numpy.subtract(exact, ours, out=ours)
            ours *= numpy.exp(exact)
            sums[0] += ours.sum(dtype=numpy.float64)
        figures.append(sums / len(targets))
    source.close()
    return numpy.array(figures)


def student_quantile(freedom):
    """The 97.5 % quantile of Student's t by its expansion around the normal one (Abramowitz and Stegun 26.7.5)."""
    z = 1.959963984540054
    terms = [(z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384]
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))


def interval(values):
    """Mean and half width of its 95 % interval."""
    if len(values) < 2:
        return float(numpy.mean(values)), math.inf
    return float(numpy.mean(values)), float(student_quantile(len(values) - 1) * numpy.std(values, ddof=1)
                                            / math.sqrt(len(values)))


def summary(figures):
    kl, kl_half = interval(figures[:, 0])
    loss, loss_half = interval(figures[:, 2] - figures[:, 1])
    agreement, agreement_half = interval(figures[:, 3])
    return {"chunks": len(figures), "kl": kl, "kl_interval": [kl - kl_half, kl + kl_half],
            "perplexity_float": math.exp(figures[:, 1].mean()), "perplexity_bulla": math.exp(figures[:, 2].mean()),
            "perplexity_ratio": math.exp(loss),
            "perplexity_ratio_interval": [math.exp(loss - loss_half), math.exp(loss + loss_half)],
            "same_top": agreement, "same_top_interval": [agreement - agreement_half, agreement + agreement_half]}


def imported(model, arguments):
    """The model imported by the program of the build tree; kept while neither of the two changes."""
    if arguments.file:
        return arguments.file
    program = os.path.join(arguments.build, "src", "bulla")
    key = hashlib.sha256((digest_of(model.path, program) + repr(arguments.import_option)).encode()).hexdigest()[:16]
    path = os.path.join(cache_folder(), f"{model.name}-{key}.bulla")
    if not os.path.exists(path):
        say(f"  importing {os.path.basename(model.path)}")
        subprocess.run([program, "import", model.path, *arguments.import_option, "-o", path + ".new"], check=True)
        os.replace(path + ".new", path)
    return path


def llama_program(name):
    folder = os.environ.get("BULLA_LLAMA")
    path = os.path.join(folder, name) if folder else shutil.which(name)
    if not path or not os.path.exists(path):
        sys.exit(f"accuracy: --check needs {name}: neither in BULLA_LLAMA nor on PATH")
    return path


def check_against_llama(model, text, chunks, length):
    """Perplexity of llama.cpp on the same weights as F32, against the float model's: {theirs, ours}."""
    ids = model.chunks(text, chunks, length)
    with tempfile.TemporaryDirectory() as folder:
        text_path, weights = os.path.join(folder, "text"), os.path.join(folder, "weights.gguf")
        with open(text_path, "w", encoding="utf-8") as file:
            file.write(text)
        subprocess.run([llama_program("llama-quantize"), "--allow-requantize", model.path, weights, "F32"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        output = subprocess.run(
            [llama_program("llama-perplexity"), "-m", weights, "-f", text_path, "-c", str(length), "-b", str(length),
             "--chunks", str(len(ids)), "-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", "2"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", output)
    if not found:
        sys.exit(f"accuracy: llama-perplexity gave no estimate:\n{output[-2000:]}")
    ours = math.exp(compare(model, ids, Noise(0))[:, 1].mean())
    return {"chunks": len(ids), "perplexity_llama": float(found.group(1)), "perplexity_float": ours}


def parse():
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument
    add("-h", "--help", action="store_true")
    add("--models", default=os.environ.get("BULLA_MODELS"))
    add("--model", action="append", choices=sorted(MODELS))
    add("--corpus", action="append", choices=corpora.NAMES)
    add("--text")
    add("--chunks", type=int, default=64)
    add("--tokens", type=int, default=512)
    add("--build", default=os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release")))
    add("--file")
    add("--import-option", action="append", default=[])
    add("--json")
    add("--check", action="store_true")
    add("--noise", type=float)
    arguments = parser.parse_args()
    if arguments.help:
        print(__doc__.strip())
        sys.exit(0)
    if not arguments.models:
        sys.exit("accuracy: where are the models? Give --models FOLDER or set BULLA_MODELS (see scripts/fetch-models)")
    arguments.model = arguments.model or list(MODELS)
    if arguments.file and len(arguments.model) != 1:
        sys.exit("accuracy: --file is of one model: name it by --model")
    return arguments


def texts_of(model, arguments):
    """(name, text, most chunks) of the corpora to measure."""
    if arguments.text:
        with open(arguments.text, encoding="utf-8") as file:
            yield os.path.basename(arguments.text), file.read(), arguments.chunks
        if not arguments.corpus:
            return
    for name in arguments.corpus or corpora.NAMES:
        text = corpora.text_of(name, model.name)
        yield name, text, arguments.chunks if name == "wikitext2" else min(arguments.chunks, 16)


def measure(model, arguments, results):
    for name, text, chunks in texts_of(model, arguments):
        ids = model.chunks(text, chunks, arguments.tokens)
        if len(ids) == 0:
            say(f"  {model.name} {name}: less than one chunk of text, left out")
            continue
        source = (Noise(arguments.noise) if arguments.noise is not None else
                  LogitsTool([os.path.join(arguments.build, "bench", "logits"), imported(model, arguments)], ids))
        start = time.monotonic()
        result = summary(compare(model, ids, source))
        result.update(model=model.name, corpus=name, tokens=arguments.tokens, seconds=time.monotonic() - start)
        if arguments.check:
            result["llama"] = check_against_llama(model, text, min(len(ids), 4), arguments.tokens)
        results.append(result)
        print_row(result)


def print_row(result):
    ratio, low, high = result["perplexity_ratio"], *result["perplexity_ratio_interval"]
    print(f"{result['model']:8} {result['corpus']:10} {result['chunks']:4}  "
          f"{result['kl']:.5f} [{result['kl_interval'][0]:.5f}, {result['kl_interval'][1]:.5f}]  "
          f"{result['perplexity_float']:10.4f} {result['perplexity_bulla']:10.4f}  "
          f"{100 * (ratio - 1):+.3f} % [{100 * (low - 1):+.3f}, {100 * (high - 1):+.3f}]  "
          f"{100 * result['same_top']:.2f} %", flush=True)
    if "llama" in result:
        check = result["llama"]
        print(f"         float model on {check['chunks']} chunks: perplexity {check['perplexity_float']:.4f}, "
              f"llama.cpp {check['perplexity_llama']:.4f}", flush=True)


def main():
    arguments = parse()
    print(f"{'model':8} {'corpus':10} {'n':>4}  {'KL(float || Bulla)':26}  {'ppl float':>10} {'ppl Bulla':>10}  "
          f"{'ratio - 1':27}  same top", flush=True)
    results = []
    for name in arguments.model:
        measure(Model(name, os.path.join(arguments.models, MODELS[name])), arguments, results)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"results": results}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
