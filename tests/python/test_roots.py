#!/usr/bin/env python3
"""The roots that the program trusts are the pinned ones and no others: every SHA-256 in src/trust/roots.c is in `bulla`, and
what tests trust is in test programs alone."""
import os
import re
import sys

from checks import Checks

ROOT = os.environ.get("BULLA_SOURCE_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
TEST_NAME = b"a test's root"  # of tests/trust_roots.c


def pinned():
    with open(os.path.join(ROOT, "src", "trust", "roots.c"), encoding="utf-8") as file:
        text = file.read()
    for vendor, name, digest in re.findall(r'\{"(\w+)", "([^"]+)", \{([^}]*)\}\}', text):
        yield vendor, name, bytes(int(byte, 16) for byte in digest.replace("\n", "").split(","))


def main():
    checks = Checks()
    program, test = os.path.join(BUILD, "src", "bulla"), os.path.join(BUILD, "tests", "test_snp")
    if not os.path.exists(program) or not os.path.exists(test):
        checks.skip("not built")
    with open(program, "rb") as file:
        product = file.read()
    with open(test, "rb") as file:
        tested = file.read()
    roots = list(pinned())
    checks.true(len(roots) >= 3, "roots are pinned")
    for vendor, name, digest in roots:
        checks.equal(len(digest), 32, f"{vendor} {name}: a SHA-256")
        checks.true(digest in product, f"{vendor} {name} is in the program")
    checks.true(TEST_NAME in tested, "tests have roots of their own")
    checks.true(TEST_NAME not in product, "the program has none of them")
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
