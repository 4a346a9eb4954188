#!/usr/bin/env python3
"""Each check of evidence, policies, receipts and logs is missed when it is gone. The name of each stands in a list of failures
that a test expects; and with one check after another switched off (tests/verdict_switch.c), those tests must fail. With reduced
counts the checks of what all formats share are switched off, and some of the others; with full counts all, by their names in
src/trust. BULLA_CHECKS names some alone."""
import os
import random
import re
import subprocess
import sys

from checks import Checks

ROOT = os.environ.get("BULLA_SOURCE_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
SEED = int(os.environ.get("BULLA_TEST_SEED", "20250"))
# The tests into which the switch is linked.
TESTS = ["evidence", "ra_tls", "verify_receipt", "nitro", "tpm", "cca", "snp", "sgx", "tdx", "dcap", "nvidia", "gpus"]
# The first parts of names.
KINDS = ["snp", "sgx", "tdx", "dcap", "pcs", "nitro", "cca", "nvidia", "tpm", "sim", "binding", "evidence", "policy", "receipt",
         "log"]
SHARED = ["sim", "binding", "evidence"]
SAMPLE = 12  # of the others that say something about the policy, the receipt and the log, with reduced counts
# States that are never failures, being said as not checked alone; and names of files.
NEVER_FAIL = {"evidence.tried", "tpm.ak", "policy.program", "receipt.time", "log.db"}
NUMBERED = {"receipt.chain.0"}  # in place of "receipt.chain.%zu"


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as text:
        return text.read()


def names():
    found = set(NUMBERED)
    for folder, _, files in os.walk(os.path.join(ROOT, "src", "trust")):
        for file in files:
            if file.endswith(".c"):
                found |= set(re.findall(r'"((?:%s)(?:\.[a-z0-9_]+)+)"' % "|".join(KINDS), read(folder, file)))
    found |= {"policy." + field for field in re.findall(r'FIELD(?:_OF)?\("([a-z0-9_.]+)"', read("src", "trust", "policy.c"))}
    return sorted(found - NEVER_FAIL)


def find_tests(sources, name):
    """Those that expect it among the failures: a string with its name as a word."""
    pattern = re.compile(r'"[^"\n]*(?<![\w.])(?:gpus\.\d+\.)?%s(?![\w.])[^"\n]*"' % re.escape(name))
    return [test for test, text in sources.items() if pattern.search(text)]


def fails(test, name, pattern="*"):
    environment = dict(os.environ, BULLA_CHECK_SWITCHED_OFF=name, BULLA_TESTS=pattern, BULLA_TEST_COUNTS="reduced")
    result = subprocess.run([os.path.join(BUILD, "tests", "test_" + test)], env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, check=False)
    return result.returncode != 0


def main():
    checks = Checks()
    if not os.path.exists(os.path.join(BUILD, "tests", "test_snp")):
        checks.skip("not built")
    sources = {test: read("tests", f"test_{test}.c") for test in TESTS}
    every = names()
    checks.true(len(every) > 250, "the checks are found by their names")
    tests = {name: find_tests(sources, name) for name in every}
    for name in every:
        checks.true(tests[name], f"{name} is among the failures that a test expects")
    if os.environ.get("BULLA_CHECKS"):
        every = os.environ["BULLA_CHECKS"].split()
    elif os.environ.get("BULLA_TEST_COUNTS") != "full":
        others = [name for name in every if name.split(".")[0] in ("policy", "receipt", "log")]
        every = [name for name in every if name.split(".")[0] in SHARED] + random.Random(SEED).sample(others, SAMPLE)
    for name in every:
        # Most are seen by a change that is made for them; the other tests take longer.
        turns = [(test, pattern) for pattern in ("*change*", "*") for test in tests[name]]
        checks.true(any(fails(test, name, pattern) for test, pattern in turns), f"{name} is missed when it is gone")
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
