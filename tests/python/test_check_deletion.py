#!/usr/bin/env python3
"""Each check of evidence is missed when it is gone: with one check after another switched off (tests/verdict_switch.c), the
tests of its format must fail. With reduced counts the checks of what all formats share; with full counts all, by their
names in src/trust. BULLA_CHECKS names some alone."""
import os
import re
import subprocess
import sys

from checks import Checks

ROOT = os.environ.get("BULLA_SOURCE_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
# The tests that see the checks of a name's first part.
TESTS = {
    "snp": ["snp"], "sgx": ["sgx"], "tdx": ["tdx"], "dcap": ["sgx", "tdx"], "pcs": ["sgx", "tdx"], "nitro": ["nitro"],
    "cca": ["cca"], "nvidia": ["nvidia", "gpus"], "tpm": ["tpm"], "sim": ["evidence"], "binding": ["evidence"],
    "evidence": ["evidence", "gpus"],
}
SHARED = ["sim", "binding", "evidence"]
# States that are never failures: said as not checked alone.
NEVER_FAIL = {"evidence.tried", "tpm.ak"}


def names():
    found = set()
    for folder, _, files in os.walk(os.path.join(ROOT, "src", "trust")):
        for file in files:
            if file.endswith(".c"):
                with open(os.path.join(folder, file), encoding="utf-8") as text:
                    found |= set(re.findall(r'"((?:%s)(?:\.[a-z0-9_]+)*)"' % "|".join(TESTS), text.read()))
    kinds = set(TESTS) - {"binding"}  # alone, the other words are types of evidence
    return sorted(name for name in found - NEVER_FAIL if name not in kinds)


def fails(test, name, pattern="*"):
    environment = dict(os.environ, BULLA_CHECK_SWITCHED_OFF=name, BULLA_TESTS=pattern, BULLA_TEST_COUNTS="reduced")
    result = subprocess.run([os.path.join(BUILD, "tests", "test_" + test)], env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, check=False)
    return result.returncode != 0


def main():
    checks = Checks()
    if not os.path.exists(os.path.join(BUILD, "tests", "test_snp")):
        checks.skip("not built")
    every = names()
    checks.true(len(every) > 200, "the checks are found by their names")
    if os.environ.get("BULLA_CHECKS"):
        every = os.environ["BULLA_CHECKS"].split()
    elif os.environ.get("BULLA_TEST_COUNTS") != "full":
        every = [name for name in every if name.split(".")[0] in SHARED]
    for name in every:
        # Most are seen by a change that is made for them; the other tests take longer.
        tests = [(test, pattern) for pattern in ("*change*", "*") for test in TESTS[name.split(".")[0]]]
        checks.true(any(fails(test, name, pattern) for test, pattern in tests), f"{name} is missed when it is gone")
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
