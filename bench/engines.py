"""Bulla and its peer as things to measure: each gives tokens a second for a Case, the command that answers one token,
and the command that evaluates a prompt for its memory to be watched.
"""
import dataclasses
import json
import os
import subprocess
import sys

import peer

PROMPT = "The capital of France is"  # for the time to the first token: as it is, without a chat template


@dataclasses.dataclass
class Case:
    """A prompt of `prefill` tokens at once, or `decode` tokens one after another behind `depth` others, in `streams`
    sequences together."""
    name: str
    prefill: int = 0
    decode: int = 0
    depth: int = 0
    streams: int = 1


def output_of(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("%s\n%s" % (" ".join(command), done.stderr[-2000:]))
    return done.stdout


def imported(program, model, *options):
    """The GGUF as Bulla's model file, made anew where the program is newer."""
    target = os.path.join(peer.cache_folder(), os.path.basename(model)[:-len(".gguf")] + ".bulla")
    if not os.path.exists(target) or os.path.getmtime(target) < os.path.getmtime(program):
        output_of(program, "import", model, "-o", target, *options)
    return target


class Bulla:
    name = "Bulla"

    def __init__(self, program, model, threads):
        self.program, self.model, self.threads = program, model, threads

    def bench(self, *options):
        return json.loads(output_of(self.program, "bench", self.model, "--threads", str(self.threads), "--json",
                                    "--repetitions", "1", *options))

    @staticmethod
    def shape(case):
        return ("--prefill", str(case.prefill), "--decode", str(case.decode), "--depth", str(case.depth),
                "--streams", str(case.streams))

    def choose(self, case):
        return {"threads": self.threads}

    def speed(self, case):
        found = self.bench(*self.shape(case))
        return found["prefill_tokens_per_second" if case.prefill else "decode_tokens_per_second"]

    def profile(self, case):
        return self.bench("--profile", *self.shape(case))["profile"]

    def answer(self, text, tokens, *options):
        """The command that continues a text."""
        return [self.program, "run", self.model, text, "--max-tokens", str(tokens), "--threads", str(self.threads),
                *options]

    def first_token(self):
        return self.answer(PROMPT, 1, "--raw")

    def evaluate(self, length):
        return [self.program, "bench", self.model, "--threads", str(self.threads), "--prefill", str(length),
                "--decode", "0", "--repetitions", "1"]


@dataclasses.dataclass
class Settings:
    flash_attention: int = 0
    ubatch: int = 512
    threads: int = 1


class Llama:
    """llama.cpp's programs on one GGUF. Its settings are chosen for each case by one run of each that may help."""

    def __init__(self, name, folder, model, threads):
        self.name, self.folder, self.model, self.threads = name, folder, model, threads
        self.chosen = {}  # by the case's name

    def choose(self, case):
        ubatches = (128, 512, 2048) if case.prefill else (512,)
        best = self.better(case, [Settings(flash, ubatch, self.threads) for flash in (0, 1) for ubatch in ubatches])
        fewer = [dataclasses.replace(best, threads=threads) for threads in sorted({1, self.threads})]
        self.chosen[case.name] = self.better(case, fewer) if len(fewer) > 1 else best
        return dataclasses.asdict(self.chosen[case.name])

    def better(self, case, candidates):
        """Of long cases without the run that warms up: it takes as long as the case itself."""
        is_long = case.prefill + case.depth > 1024
        return max(candidates, key=lambda settings: self.measured(case, settings, *["--no-warmup"] * is_long))

    def speed(self, case):
        return self.measured(case, self.chosen[case.name])

    def measured(self, case, settings, *more):
        return self.together(case, settings) if case.streams > 1 else self.alone(case, settings, *more)

    def alone(self, case, settings, *more):
        text = output_of(os.path.join(self.folder, "llama-bench"), "-m", self.model, "-r", "1", "-o", "json",
                         "-p", str(case.prefill), "-n", str(case.decode), "-d", str(case.depth), *self.options(settings),
                         "-fa", str(settings.flash_attention), *more)
        return json.loads(text)[-1]["avg_ts"]

    def together(self, case, settings):
        context = (case.depth + case.decode) * case.streams
        text = output_of(os.path.join(self.folder, "llama-batched-bench"), "-m", self.model, "-c", str(context),
                         "-npp", str(case.depth), "-ntg", str(case.decode), "-npl", str(case.streams),
                         *self.options(settings), "-fa", "on" if settings.flash_attention else "off",
                         "--output-format", "jsonl")
        rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return rows[-1]["speed_tg"]

    @staticmethod
    def options(settings):
        return ("-t", str(settings.threads), "-b", "2048", "-ub", str(settings.ubatch))

    def first_token(self):
        """llama-completion, its program for one answer: no conversation, no warm-up run, a context no larger than
        needed."""
        return [os.path.join(self.folder, "llama-completion"), "-m", self.model, "-p", PROMPT, "-n", "1", "-c", "512",
                "-t", str(self.threads), "--temp", "0", "--no-warmup", "-no-cnv", "--no-display-prompt",
                "--simple-io"]

    def evaluate(self, length):
        settings = self.chosen.get("prefill of 4,096", Settings(1, 512, self.threads))
        return [os.path.join(self.folder, "llama-bench"), "-m", self.model, "-p", str(length), "-n", "0", "-r", "1",
                *self.options(settings), "-fa", str(settings.flash_attention)]
