#!/usr/bin/env python3
"""Whole disputes about real models' runs before the referee (tests/tool_court.c): one bit is wrong, at the proposer's or the
challenger's, at every kind of operation's first, last and middle places and at random ones. The honest side wins each time;
rounds and bytes stay within their bounds.

Counts: a 512-token prompt with 128 answered and 2,000 faults where BULLA_TEST_COUNTS is full, else fewer.

usage: test_dispute_model.py [MODEL]...     smollm2, gemma3
"""
import json
import os
import subprocess
import sys

import demo_models
from checks import Checks

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
PROMPT, DRAWN = (512, 128) if FULL else (40, 6)
FAULTS = {"smollm2": 2000, "gemma3": 200} if FULL else {"smollm2": 12, "gemma3": 2}
TOOL = os.path.join(demo_models.BUILD, "tests", "tool_court")


def check(checks, name):
    path = demo_models.model(name)
    result = subprocess.run([TOOL, path, str(PROMPT), str(DRAWN), str(FAULTS[name]), "1"], check=False, capture_output=True, text=True)
    if not checks.equal((result.returncode, result.stderr), (0, ""), f"{name}: tool_court"):
        return
    print(f"{name}: {result.stdout.strip()}")
    figures = json.loads(result.stdout)
    checks.equal(figures["faults"], FAULTS[name], f"{name}: faults")
    checks.true(figures["rounds"] <= 8, f"{name}: at most 8 rounds")
    checks.true(figures["bytes"] <= 65536, f"{name}: at most 64 KiB of messages")


def main():
    checks = Checks()
    names = sys.argv[1:] or [name for name, _ in demo_models.sources() if FULL or name == "smollm2"]
    if not names:
        Checks.skip("no demo models (BULLA_MODELS)")
    for name in names:
        check(checks, name)
    checks.finish()


if __name__ == "__main__":
    main()
