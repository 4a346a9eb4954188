"""Answers of `bulla run --ids`, recomputed by the oracle; for the tests that do so."""
import json
import os
import subprocess
import time

import oracle
import oracle_sampling as sampling
import oracle_tables as tables

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BULLA = os.path.join(os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release")), "src", "bulla")
DECIMALS = {"temperature": "temperature", "top-p": "top_p", "min-p": "min_p", "repetition-penalty": "repetition",
            "presence-penalty": "presence", "frequency-penalty": "frequency"}
INTEGERS = {"seed": "seed", "top-k": "top_k"}


def bulla(*arguments):
    result = subprocess.run([BULLA, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, timeout=600)
    if result.returncode != 0:
        raise RuntimeError(f"bulla {' '.join(arguments)}: exit status {result.returncode}: {result.stderr.decode()}")
    return result.stdout


def import_model(source, folder):
    """The oracle's view of what an import of the GGUF makes."""
    path = os.path.join(folder, os.path.basename(source) + ".bulla")
    bulla("import", source, "-o", path, "--fast")
    return oracle.Model(BULLA, path)


def check_tables(checks, model):
    """The tables that come with the program are those of the page, by the oracle's own computation."""
    for bits, mantissas in zip((15, 24, 31), model.mantissas):
        checks.equal(mantissas.tolist(), tables.exponential_mantissas(bits).tolist(), f"{model.path}: EXP{bits}")
    checks.equal(tables.digest(model.cosines), tables.digest(tables.cosines()), f"{model.path}: COS")
    known = {tables.digest(tables.activation(function)) for function in (tables.silu, tables.gelu_tanh)}
    for operation in model.operations:
        if operation["kind"] == "gate":
            checks.true(tables.digest(model.of(operation, "A").ravel()) in known,
                        f"{model.path}: A of operation {operation['index']} is an activation")


def settings_of(options):
    """The request's numbers as the command line gives them; what it leaves out changes nothing."""
    settings = sampling.Settings()
    for name, text in zip(options, options[1:]):
        if name[2:] in DECIMALS:
            setattr(settings, DECIMALS[name[2:]], oracle.millionths(text))
        elif name[2:] in INTEGERS:
            setattr(settings, INTEGERS[name[2:]], int(text))
    return settings


def check_answer(checks, model, question, options):
    """Runs the question and recomputes the answer; returns what `run` printed."""
    printed = json.loads(bulla("run", model.path, question, "--ids", *options))
    prompt, output, finish = printed["prompt"], printed["output"], printed["finish"]
    most = int(options[options.index("--max-tokens") + 1])
    what = f"{os.path.basename(model.path)} {question[:30]!r} {' '.join(options)}"
    start = time.monotonic()
    answer = oracle.Answer(model, prompt, output, settings_of(options), finish)
    checks.true(answer.agrees_with(output, finish), f"{what}\n  found    {output} {finish} {printed.get('range')}\n"
                                                    f"  expected {answer.output} RANGE {answer.range}")
    for place, (found, expected) in enumerate(zip(output, answer.output)):
        checks.equal(found, expected, f"{what}: token {place}")
    if finish == "range":
        found = printed["range"]
        checks.equal((found["position"], found["operation"]), (answer.range or [])[:2], f"{what}: RANGE")
    checks.true(len(output) == most if finish == "length" else len(output) <= most, f"{what}: its length")
    print(f"{what}: {len(prompt)} + {len(output)} tokens, {finish}, {time.monotonic() - start:.1f} s", flush=True)
    return printed
