"""Counting checks, for the scripts that scripts/run-tests runs.

    from checks import Checks
    checks = Checks()
    checks.equal(found, expected, "what it is")
    checks.finish()

A check that does not hold is printed with what was found and expected; finish() prints the count and
exits with 1 where one did not. checks.skip("why") ends a test that lacks something from outside.
"""
import os
import sys

SHOWN_FAILURES = 20
SHOWN_CHARACTERS = 2000


class Checks:
    def __init__(self):
        self.made = 0
        self.failed = 0

    def true(self, condition, what):
        self.made += 1
        if not condition:
            self._fail(what)
        return bool(condition)

    def equal(self, found, expected, what):
        self.made += 1
        if found != expected:
            self._fail(f"{what}\n  found    {_short(found)}\n  expected {_short(expected)}")
        return found == expected

    def contains(self, text, part, what):
        self.made += 1
        if part not in text:
            self._fail(f"{what}\n  found    {_short(text)}\n  without  {_short(part)}")
        return part in text

    def finish(self):
        print(f"{self.made} checks" + (f", {self.failed} failed" if self.failed else ""))
        sys.exit(1 if self.failed or not self.made else 0)

    @staticmethod
    def skip(why):
        print(f"skipped: {why}")
        sys.exit(77)

    @staticmethod
    def only_in_full(why):
        """Ends a test that takes too long for the reduced counts of `make test`; BULLA_TEST_COUNTS full runs it."""
        if os.environ.get("BULLA_TEST_COUNTS") != "full":
            Checks.skip(f"only with full counts (make test-full): {why}")

    def _fail(self, text):
        self.failed += 1
        if self.failed <= SHOWN_FAILURES:
            print(f"not so: {text}", flush=True)
        elif self.failed == SHOWN_FAILURES + 1:
            print("(no more failures are printed)", flush=True)


def _short(value):
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."
