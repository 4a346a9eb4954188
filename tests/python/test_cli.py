#!/usr/bin/env python3
"""The program from outside: help, version, errors, exit status, closed pipes. Of every verb there is."""
import os
import re
import subprocess

from checks import Checks

DONE, FAILED, USAGE = 0, 1, 2
BULLA = os.path.join(os.environ["BULLA_BUILD"], "src", "bulla")


def bulla(*arguments, **options):
    result = subprocess.run([BULLA, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, **options)
    return result.returncode, result.stdout.decode(), result.stderr.decode()


def verbs():
    """Name and summary of each verb, as `bulla --help` lists them."""
    return re.findall(r"^  (\w+) +(\S.*)$", bulla("--help")[1], re.MULTILINE)


def check_program(checks):
    status, help_text, errors = bulla("--help")
    checks.equal((status, errors), (DONE, ""), "bulla --help")
    checks.contains(help_text, "usage: bulla VERB", "bulla --help")
    checks.equal(bulla("-h"), (DONE, help_text, ""), "bulla -h")
    checks.equal(bulla("help"), (DONE, help_text, ""), "bulla help")
    checks.equal(bulla(), (USAGE, "", help_text), "bulla alone shows its help as an error")
    status, version, errors = bulla("--version")
    checks.equal((status, errors), (DONE, ""), "bulla --version")
    checks.true(re.fullmatch(r"bulla \d+\.\d+\.\d+\n", version), f"bulla --version says {version!r}")
    checks.equal(bulla("doctr"), (USAGE, "", 'bulla: there is no verb "doctr"; did you mean doctor?\n'), "a near miss")
    checks.equal(bulla("--doctor")[0], USAGE, "an option is no verb")
    for name in ("", "x" * 100000, "frobnicate", "\x1b[2J", "%s%n"):
        status, output, errors = bulla(name)
        checks.equal((status, output), (USAGE, ""), f"no verb {name[:20]!r}")
        checks.contains(errors, "bulla: there is no verb", f"no verb {name[:20]!r}")
        checks.true("\x1b" not in errors and len(errors) < 2000, f"what is said of {name[:20]!r} is fit for a terminal")


def check_verb(checks, name, summary):
    status, help_text, errors = bulla(name, "--help")
    checks.equal((status, errors), (DONE, ""), f"bulla {name} --help")
    checks.true(help_text.startswith(f"usage: bulla {name}"), f"bulla {name} --help starts with its usage")
    checks.contains(help_text, summary, f"bulla {name} --help")
    for line in help_text.splitlines():
        checks.true(len(line) <= 100, f"bulla {name} --help has a line of {len(line)} characters: {line!r}")
    checks.equal(bulla("help", name), (DONE, help_text, ""), f"bulla help {name}")
    checks.equal(bulla(name, "-h"), (DONE, help_text, ""), f"bulla {name} -h")
    status, output, errors = bulla(name, "--no-such-option")
    checks.equal((status, output), (USAGE, ""), f"bulla {name} --no-such-option")
    checks.contains(errors, f"bulla {name}: there is no option --no-such-option", "an unknown option is named")
    checks.contains(errors, f"bulla {name} --help", "and the way to help is")
    status, output, errors = bulla(name, *["x"] * 20)
    checks.equal((status, output), (USAGE, ""), f"bulla {name} with 20 arguments")
    checks.contains(errors, "one argument too many", f"bulla {name} with 20 arguments")
    for option in re.findall(r"--([\w-]+)(?= [A-Z])", help_text):  # those that take a value
        status, output, errors = bulla(name, f"--{option}")
        checks.equal((status, output), (USAGE, ""), f"bulla {name} --{option} without a value")
        checks.contains(errors, f"--{option} needs a value", f"bulla {name} --{option} without a value")


def check_doctor(checks):
    status, output, errors = bulla("doctor")
    checks.equal((status, errors), (DONE, ""), "bulla doctor")
    facts = dict(re.findall(r"^  (\S[\w ]*?) {2,}(\S.*)$", output, re.MULTILINE))
    for name in ("bulla", "system", "compiler", "libcrypto", "utf8proc", "processor", "features", "cores", "memory",
                 "huge pages"):
        checks.true(facts.get(name), f"bulla doctor says something of {name}: {output}")
    checks.true(facts["cores"].startswith(f"{len(os.sched_getaffinity(0))} usable"), f"cores: {facts['cores']}")
    checks.equal(facts["bulla"], bulla("--version")[1].split()[1], "doctor's version")
    one = min(os.sched_getaffinity(0))
    output = bulla("doctor", preexec_fn=lambda: os.sched_setaffinity(0, {one}))[1]
    checks.contains(output, "1 usable of", "doctor counts the cores that it may use")
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) // 1024
    checks.contains(facts["memory"], f"{total} MiB, ", "memory")


def check_doctor_kernels(checks):
    """Each instruction set of the build either runs when BULLA_ISA names it or is explained."""
    def doctor(isa):
        status, output, errors = bulla("doctor", env=dict(os.environ, BULLA_ISA=isa))
        return status, dict(re.findall(r"^  (\S[\w ]*?) {2,}(\S.*)$", output, re.MULTILINE)), errors
    status, facts, _ = doctor("")
    checks.equal(status, DONE, "doctor with an empty BULLA_ISA")
    runs = facts["BULLA_ISA"].split()[2:]
    checks.true("portable" in runs, f"portable kernels run: {facts}")
    checks.true(facts["kernels"].startswith(runs[0] + " (") and "the best" in facts["kernels"], f"the best: {facts}")
    for isa in runs:
        status, facts, errors = doctor(isa)
        checks.equal((status, errors), (DONE, ""), f"BULLA_ISA={isa}")
        checks.true(facts["kernels"].startswith(isa + " (") and "BULLA_ISA" in facts["kernels"], f"BULLA_ISA={isa}: {facts}")
    for isa, why in [(name[4:], facts[name]) for name in facts if name.startswith("not ")] + [("nonsense", "")]:
        status, facts, errors = doctor(isa)
        checks.equal(status, FAILED, f"BULLA_ISA={isa}")
        checks.true(facts["kernels"].startswith("none"), f"BULLA_ISA={isa}: {facts}")
        checks.contains(errors, f"bulla doctor: instruction set {isa}", f"BULLA_ISA={isa}")
        if why.startswith("lacks "):
            checks.contains(errors, why.split(",")[0], f"why not {isa}")


def check_output_errors(checks):
    with open("/dev/full", "w") as full:
        result = subprocess.run([BULLA, "doctor"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    checks.equal(result.returncode, FAILED, "a full disk under standard output")
    checks.contains(result.stderr.decode(), "standard output could not be written", "a full disk is named")
    with open("/dev/full", "w") as full:
        status = subprocess.run([BULLA, "--help"], stdout=full, stderr=subprocess.DEVNULL, timeout=60).returncode
    checks.equal(status, FAILED, "help onto a full disk")


def main():
    checks = Checks()
    check_program(checks)
    found = verbs()
    checks.true("doctor" in dict(found), f"verbs found: {found}")
    for name, summary in found:
        check_verb(checks, name, summary)
    check_doctor(checks)
    check_doctor_kernels(checks)
    check_output_errors(checks)
    checks.finish()


if __name__ == "__main__":
    main()
