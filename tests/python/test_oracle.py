#!/usr/bin/env python3
"""Answers of the demo models, recomputed bit for bit by the oracle: greedy and sampled ones, chat and raw
prompts, prompts beyond a sliding window. Reduced counts check the first three, full ones all."""
import os
import tempfile

from checks import Checks
from oracle_answers import check_answer, check_tables, import_model

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
SMOLLM2, GEMMA = "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4-k-m.gguf"
LONG = " ".join(f"Item {number} of the list costs {number * number % 97} coins." for number in range(1, 61))

ANSWERS = [
    (SMOLLM2, "Tell me the capital of France.", "--max-tokens 20"),
    (SMOLLM2, "Once upon a time there was", "--raw --temperature 0.8 --seed 7 --max-tokens 20"),
    (SMOLLM2, "Name five colours.",
     "--temperature 1.5 --top-k 40 --seed 2 --max-tokens 30 --repetition-penalty 1.15 --frequency-penalty 0.2"),
    (SMOLLM2, "Write a short poem about the sea.", "--temperature 1 --top-p 0.9 --seed 1 --max-tokens 80"),
    (SMOLLM2, "How do I boil an egg?", "--temperature 2 --min-p 0.05 --seed 3 --max-tokens 100"),
    (SMOLLM2, "2 + 2 =", "--raw --temperature 0.333333 --top-k 50 --top-p 0.8 --min-p 0.01 --seed 123456789012345 "
                         "--max-tokens 40 --presence-penalty 0.5"),
    (SMOLLM2, LONG + " Which item is the cheapest?", "--temperature 0.7 --seed 4 --max-tokens 40"),
    (GEMMA, "The three largest cities of Italy are",
     "--raw --temperature 1 --top-k 64 --top-p 0.95 --seed 18446744073709551615 --max-tokens 16"),
    (GEMMA, "Why is the sky blue?", "--max-tokens 40 --repetition-penalty 1.1"),
    (GEMMA, LONG, "--raw --temperature 1.2 --seed 5 --top-p 0.97 --max-tokens 64"),
]
REDUCED = 3


def main():
    checks = Checks()
    models = os.environ.get("BULLA_MODELS")
    if models is None:
        checks.skip("no demo models (BULLA_MODELS)")
    opened, total = {}, 0
    with tempfile.TemporaryDirectory(dir=os.environ.get("BULLA_CACHE")) as folder:
        for name, question, options in ANSWERS if FULL else ANSWERS[:REDUCED]:
            if name not in opened:
                opened[name] = import_model(os.path.join(models, name), folder)
                check_tables(checks, opened[name])
            total += len(check_answer(checks, opened[name], question, options.split())["output"])
    print(f"{total} tokens of {len(ANSWERS) if FULL else REDUCED} answers")
    checks.finish()


if __name__ == "__main__":
    main()
