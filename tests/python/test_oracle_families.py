#!/usr/bin/env python3
"""A tiny random model of each family, imported: its answers, recomputed bit for bit by the oracle, with prompts
beyond its sliding window."""
import os
import random
import tempfile

import tiny_gguf
from checks import Checks
from oracle_answers import check_answer, check_tables, import_model

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
SEEDS = 10 if FULL else 1
OPTIONS = [
    "--max-tokens 30",
    "--max-tokens 40 --temperature 1 --seed 5",
    "--max-tokens 40 --temperature 2 --top-k 100 --top-p 0.9 --min-p 0.01 --seed 6 --repetition-penalty 1.2",
    "--max-tokens 100 --temperature 1.3 --seed 7 --presence-penalty 0.3 --frequency-penalty 0.1",
]


def check_range(checks, folder):
    """RANGE raised by a token of the prompt, by the prompt's last one, and by one that was sampled."""
    source = os.path.join(folder, "range.gguf")
    tiny_gguf.write(source, "range")
    model = import_model(source, folder)
    rare = tiny_gguf.RARE_TEXT
    for question in ("abc" + rare, "a" + rare + "bcdefgh", rare * 3 + "x"):
        printed = check_answer(checks, model, question, ["--raw", "--max-tokens", "10"])
        checks.equal((printed["output"], printed["finish"]), ([], "range"), f"{question!r} raises RANGE")
        checks.equal(printed["range"]["position"], printed["prompt"].index(tiny_gguf.RARE_TOKEN), "and there")
    ends = set()
    for seed in range(30):
        printed = check_answer(checks, model, "abc", f"--raw --max-tokens 30 --temperature 1 --seed {seed}".split())
        ends.add(printed["finish"])
        if printed["finish"] == "range":
            checks.equal(printed["output"][-1], tiny_gguf.RARE_TOKEN, "the token that raises RANGE ends the answer")
    checks.true("range" in ends, f"sampled answers end by RANGE, too: {ends}")


def main():
    checks = Checks()
    chance = random.Random(5)
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        check_range(checks, folder)
    for family in [name for name in tiny_gguf.FAMILIES if name != "range"]:
        for seed in range(1, SEEDS + 1):
            with tempfile.TemporaryDirectory() as folder:
                source = os.path.join(folder, f"{family}-{seed}.gguf")
                tiny_gguf.write(source, family, seed)
                model = import_model(source, folder)
                check_tables(checks, model)
                for length, options in zip((1, 10, 70, 150), OPTIONS):
                    question = "".join(chance.choice("abcdefghijklmnopqrstuvwxyz é€") for _ in range(length))
                    printed = check_answer(checks, model, question, ["--raw", *options.split()])
                    total += len(printed["output"])
    print(f"{total} tokens of {SEEDS} models a family")
    checks.finish()


if __name__ == "__main__":
    main()
