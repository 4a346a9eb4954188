#!/usr/bin/env python3
"""The build for aarch64 (build/aarch64, scripts/build-tree), run by qemu-user: the right kernels are chosen on
processors with i8mm, with the dot product alone and with neither; the tests of kernels pass; SmolLM2 answers and
goldens import as the native build does, with each instruction set.

With BULLA_TEST_COUNTS full: every unit test, every golden, SmolLM2's own import.
"""
import os
import re
import shutil
import subprocess
import tempfile

import demo_models
import import_sources as sources
import importing
from checks import Checks

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
TREE = os.path.join(importing.ROOT, "build", "aarch64")
PROGRAM = os.path.join(TREE, "src", "bulla")
ISAS = ["i8mm", "neon"]
UNIT_TESTS = ["test_cpu_features", "test_cpu_operations", "test_row_kernels"]
SECONDS = 3600  # the machine may be busy; scripts/run-tests has the limit that counts


def emulated(program=PROGRAM, processor="max"):
    """The start of a command that runs a program on one of qemu's processors."""
    return ["qemu-aarch64", "-cpu", processor, "-L", "/usr/aarch64-linux-gnu", program]


def run(command, isa=None):
    environment = importing.environment(isa)
    if not FULL:
        environment["BULLA_TEST_EMULATED"] = "1"  # some of the many shapes
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def check_choice(checks):
    """What runs by itself on each processor, and what BULLA_ISA can name there."""
    for processor, runs in (("max", ["i8mm", "neon", "portable"]), ("neoverse-n1", ["neon", "portable"]),
                            ("cortex-a72", ["portable"])):
        doctor = emulated(processor=processor) + ["doctor"]
        status, output, errors = run(doctor)
        checks.equal((status, errors), (0, ""), f"doctor on {processor}")
        checks.true(re.search(rf"^  kernels +{runs[0]} \(", output, re.MULTILINE), f"{processor} runs {runs[0]}: {output}")
        checks.contains(output, f"can be {' '.join(runs)}\n", f"BULLA_ISA on {processor}")
        for isa in ISAS:
            status, output, errors = run(doctor, isa)
            checks.equal(status, 0 if isa in runs else 1, f"BULLA_ISA={isa} on {processor}: {errors}")
            if isa not in runs:
                checks.contains(errors, f"instruction set {isa}: this processor", f"{isa} on {processor}")
    checks.contains(run(emulated() + ["doctor"], "avx2")[2], "avx2 is unknown here; known are portable, neon, i8mm",
                    "another architecture's instruction set")


def check_unit_tests(checks):
    names = sorted(name for name in os.listdir(os.path.join(TREE, "tests"))
                   if re.fullmatch(r"test_\w+", name)) if FULL else UNIT_TESTS
    checks.true(set(UNIT_TESTS) <= set(names), f"unit tests found: {names}")
    for name in names:
        status, output, errors = run(emulated(os.path.join(TREE, "tests", name)))
        checks.equal(status, 0, f"{name}: {(output + errors)[-1500:]}")
        if name == "test_cpu_operations":
            checks.contains(output + errors, "kernels that ran: i8mm neon portable", name)


def check_answers(checks):
    model = demo_models.model("smollm2")
    if not model:
        print("no demo model: no answer is compared", flush=True)
        return
    question, words = ["Tell me the capital of France."], ["--raw", "The capital of France is"]
    for isa, prompt in [(isa, prompt) for isa in ISAS for prompt in (question, words)] if FULL else \
            [("i8mm", question), ("neon", words)]:
        arguments = ["run", model, *prompt, "--ids", "-n", "8"]
        expected = run([importing.RELEASE, *arguments])
        checks.equal(expected[0], 0, f"the native answer: {expected[2]}")
        found = run(emulated() + arguments, isa)
        checks.equal(found[:2], expected[:2], f"SmolLM2, {isa}, {prompt}: {found[2]}")
        print(f"smollm2 {isa}: {found[1].strip()}", flush=True)


def check_root(checks, what, source, folder, options, isas):
    target = os.path.join(folder, "model.bulla")
    native = importing.run(importing.RELEASE, source, target, *options, timeout=SECONDS)
    checks.true(native.root, f"{what}, native: {native}")
    for isa in isas:
        outcome = importing.run(emulated(), source, target, *options, isa=isa, timeout=SECONDS)
        checks.equal(outcome.root, native.root, f"{what} {options}, {isa}: {outcome}")
        print(f"{what} {' '.join(options)} {isa}: {outcome.seconds:.1f} s, {outcome.root}", flush=True)


def check_roots(checks, folder):
    for name in sources.golden_names() if FULL else ["llama2"]:
        source = sources.copy_golden(name, os.path.join(folder, name))
        check_root(checks, name, source, folder, ["--fast"], ISAS)
        if FULL:
            check_root(checks, name, source, folder, [], ISAS)
    demo = demo_models.source("smollm2")
    if FULL and demo:
        check_root(checks, "smollm2", demo, folder, ["--fast"], ISAS[:1])


def main():
    if not shutil.which("qemu-aarch64"):
        Checks.skip("qemu-aarch64 is missing (scripts/install-packages cross)")
    if not os.path.exists(PROGRAM):
        Checks.skip("build/aarch64 is missing (scripts/build-tree aarch64)")
    checks = Checks()
    check_choice(checks)
    check_unit_tests(checks)
    check_answers(checks)
    with tempfile.TemporaryDirectory() as folder:
        check_roots(checks, folder)
    checks.finish()


if __name__ == "__main__":
    main()
