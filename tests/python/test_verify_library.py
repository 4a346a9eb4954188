#!/usr/bin/env python3
"""libbulla-verify is what verification needs and no more: a program of it (tests/tool_verify.c) needs libcrypto and the C
library, and of that nothing that opens, connects, starts or waits, nor the time of day; it verifies. Its code is no more lines than
stated here."""
import json
import os
import re
import subprocess
import sys

from checks import Checks
from count_code import code_lines

ROOT = os.environ.get("BULLA_SOURCE_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
MOST_LINES = 6000      # of code in its own files, src/trust: neither blank nor comment
MOST_ALL_LINES = 9800  # of all kinds, with base's files and every header that any of them includes
# What the library may ask of the C library: memory, texts, numbers, and calendars of a time that it is given.
ALLOWED = re.compile(r"_+(ITM_|cxa_|gmon_start|libc_start|isoc99_sscanf|ctype_|errno_location|stack_chk)\w*|"
                     r"(calloc|realloc|free|mem\w+|str\w+|v?snprintf|sscanf|qsort|bsearch|frexp|ldexp|gmtime_r|timegm|puts)$")
POLICY = '{"allow_simulated":true,"report_data":"%s"}' % ("11" * 64)
DOCUMENT = '{"bulla_evidence":1,"type":"sim","report":{"measurement":"%s","report_data":"%s"}}'


def library_files():
    """The sources of libbulla-verify in the build, and the project's headers that they include."""
    targets = json.loads(subprocess.check_output(["meson", "introspect", "--targets", BUILD]))
    target = [t for t in targets if t["name"] == "bulla-verify"][0]
    found, left = set(), [os.path.relpath(path, ROOT) for group in target["target_sources"] for path in group["sources"]]
    while left:
        path = left.pop()
        if path in found:
            continue
        found.add(path)
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            for name in re.findall(r'^#include "([^"]+)"', file.read(), re.M):
                left += [place for place in (os.path.join("src", name), os.path.join("include", name))
                         if os.path.exists(os.path.join(ROOT, place))]
    return sorted(found)


def count_lines(path):
    with open(os.path.join(ROOT, path), "rb") as file:
        return file.read().count(b"\n")


def symbols_of(path):
    text = subprocess.check_output(["nm", "-D", path], text=True)
    undefined = {line.split()[-1].split("@")[0] for line in text.splitlines() if line.split()[-2] in ("U", "w")}
    needed = subprocess.check_output(["readelf", "-d", path], text=True)
    return undefined, re.findall(r"NEEDED.*\[(.*)\]", needed)


def defined_by(library):
    text = subprocess.check_output(["nm", "-D", "--defined-only", library], text=True)
    return {line.split()[-1].split("@")[0] for line in text.splitlines()}


def path_of(program, library):
    found = re.search(re.escape(library) + r" => (\S+)", subprocess.check_output(["ldd", program], text=True))
    return found.group(1)


def main():
    checks = Checks()
    program = os.path.join(BUILD, "tests", "tool_verify")
    if not os.path.exists(program):
        checks.skip("not built")

    undefined, needed = symbols_of(program)
    crypto = [name for name in needed if name.startswith("libcrypto")]
    others = [name for name in needed if not re.match(r"libcrypto|libc\.so|libm\.so", name)]
    checks.equal(len(crypto), 1, "it is linked with libcrypto")
    sanitized = any(re.match(r"__(asan|ubsan)", name) for name in undefined)
    if not sanitized:
        checks.equal(others, [], "it is linked with nothing else but the C library")
        strange = {name for name in undefined - defined_by(path_of(program, crypto[0])) if not ALLOWED.match(name)}
        checks.equal(sorted(strange), [], "it asks nothing else of the C library")

    for report_data, status, text in (("11" * 64, 0, ""), ("22" * 64, 1, "policy.report_data\n")):
        result = subprocess.run([program, DOCUMENT % ("00" * 32, report_data), POLICY, "1800000000"], capture_output=True,
                                text=True, check=False)
        checks.equal((result.returncode, result.stdout), (status, text), "the program verifies")

    files = library_files()
    lines = sum(count_lines(path) for path in files)
    own = sum(code_lines(os.path.join(ROOT, path)) for path in files if re.match(r"src/trust/.*\.c$", path))
    code = sum(code_lines(os.path.join(ROOT, path)) for path in files)
    print(f"{own} lines of code in src/trust; with base's files and all headers {code} in {len(files)} files, {lines} lines of all kinds")
    if os.environ.get("BULLA_SHOW_FILES"):
        print("\n".join(f"{count_lines(path):6} {path}" for path in files))
    checks.true(own < MOST_LINES, f"{own} lines of code, below {MOST_LINES}")
    checks.true(lines <= MOST_ALL_LINES, f"{lines} lines, at most {MOST_ALL_LINES}")
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
