#!/usr/bin/env python3
"""Disputes about real models' answers (tests/tool_trace.c): random faults of one bit, every kind of operation among them, are
found and refused; whoever disputes an honest element loses; messages, rounds and openings stay within their bounds.

Counts: a 512-token prompt with 128 answered and 200 faults where BULLA_TEST_COUNTS is full (2,000 are disputed before the
referee by test_dispute_model.py), else fewer.

usage: test_trace_model.py [MODEL]...     smollm2, gemma3
"""
import json
import os
import subprocess
import sys

import demo_models
from checks import Checks

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
PROMPT, DRAWN = (512, 128) if FULL else (72, 8)
FAULTS = {"smollm2": 200, "gemma3": 50} if FULL else {"smollm2": 16, "gemma3": 4}
TOOL = os.path.join(demo_models.BUILD, "tests", "tool_trace")


def check(checks, name):
    path = demo_models.model(name)
    result = subprocess.run([TOOL, "faults", path, str(PROMPT), str(DRAWN), str(FAULTS[name]), "1"], check=False,
                            capture_output=True, text=True)
    if not checks.equal((result.returncode, result.stderr), (0, ""), f"{name}: tool_trace"):
        return
    print(f"{name}: {result.stdout.strip()}")
    figures = json.loads(result.stdout)
    checks.equal(figures["faults"], FAULTS[name], f"{name}: faults")
    checks.true(figures["rounds"] <= 8, f"{name}: at most 8 rounds")
    checks.true(figures["bytes"] <= 65536, f"{name}: at most 64 KiB of messages")
    checks.true(figures["largest"] <= 8192, f"{name}: a message has at most 8 KiB")


def main():
    checks = Checks()
    names = sys.argv[1:] or [name for name, _ in demo_models.sources()]
    if not names:
        Checks.skip("no demo models (BULLA_MODELS)")
    for name in names:
        check(checks, name)
    checks.finish()


if __name__ == "__main__":
    main()
