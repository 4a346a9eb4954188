#!/usr/bin/env python3
"""The oracle on small random programs of every family: all positions in one pass against a plain executor that
goes position by position, with RANGE where it is raised first; whole answers against one pass a token."""
import dataclasses
import json
import os
import random
import sys
import tempfile

import oracle
import oracle_plain
import oracle_sampling as sampling
import program_random
from checks import Checks

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
SEEDS = 10 if FULL else 1
TIGHT = ("linear", "norm", "attend", "gate", "add")
STUB = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "program_random.py")]


def read_back(checks, model):
    """The model as the oracle reads it from what a program prints."""
    with tempfile.TemporaryDirectory() as folder:
        program_random.write(folder, model)
        read = oracle.Model(STUB, folder)
        checks.equal(read.program, json.loads(json.dumps(model.program)), "the program as printed")
        for name in model.tensors:
            checks.true((read.tensor(name) == model.tensor(name)).all(), f"the tensor {name} as printed")
    return read


def check_pass(checks, model, what, tokens, first):
    """Logits of positions from `first` on, and the RANGE that is reported."""
    run = oracle.Run(model, tokens)
    logits = run.logits(first)
    plain = oracle_plain.Plain(model, tokens)
    expected = [plain.logits(position) for position in range(first, len(tokens))]
    found = run.range and run.range[:2]
    checks.equal(found, plain.range(), f"{what}: RANGE ({run.range})")
    for position, row in enumerate(expected, first):
        if row is not None and (found is None or position < found[0]):
            checks.true(logits[position - first].tolist() == row, f"{what}: logits of position {position}")
    return run.range


def check_answers(checks, model, what, chance):
    """An answer made a token at a time is the one that a single pass finds; a changed token is noticed."""
    vocabulary = model.program["vocabulary"]
    for settings in (sampling.Settings(),
                     sampling.Settings(temperature=900000, seed=chance.getrandbits(64), top_p=900000),
                     sampling.Settings(temperature=1500000, seed=chance.getrandbits(64), top_k=20, min_p=20000,
                                       repetition=1100000, presence=100000, frequency=50000, biases={3: 700000})):
        prompt = [chance.randrange(vocabulary) for _ in range(chance.randint(1, 12))]
        output, found = oracle.answer_alone(model, prompt, settings, 10)
        finish = "range" if found else "length"
        answer = oracle.Answer(model, prompt, output, settings, finish)
        checks.true(answer.agrees_with(output, finish), f"{what}: {settings}: {output} {found} {answer.output}")
        if output:
            changed = list(output)
            place = chance.randrange(len(changed))
            changed[place] = (changed[place] + 1) % vocabulary
            answer = oracle.Answer(model, prompt, changed, settings, finish)
            checks.true(not answer.agrees_with(changed, finish), f"{what}: a changed token is noticed")


def check_sampling(checks, model, chance):
    """Against the plain sampler, on logits with ties and on flat and steep ones."""
    exp24 = model.mantissas[1]
    for number in range(3000 if FULL else 400):
        fraction_bits = chance.choice([8, 12, 16])
        spread = chance.choice([3, 1 << fraction_bits, 20 << fraction_bits, (1 << 31) - 1])
        logits = [chance.randint(-spread, spread) for _ in range(chance.choice([1, 2, 5, 60]))]
        settings = sampling.Settings(
            temperature=chance.choice([1, 500000, 1000000, 2500000, 100000000]), seed=chance.getrandbits(64),
            top_k=chance.choice([0, 0, 1, 3, 1000]), top_p=chance.choice([0, 1, 300000, 999999, 1000000]),
            min_p=chance.choice([0, 1, 100000, 1000000]))
        position = chance.randrange(1 << 20)
        expected = oracle_plain.sample(logits, fraction_bits, settings, position, exp24.tolist(),
                                       sampling.draw_number)
        checks.equal(sampling.sample(logits, fraction_bits, settings, position, exp24), expected,
                     f"sample {number}: {settings}")


def check_penalties(checks, exp24):
    """The order of the adjustments and what each one rounds, by cases worked out on paper."""
    def token(logits, generated=(), prompt=(), **changes):
        return sampling.sample(logits, 0, sampling.Settings(**changes), 9, exp24, prompt, generated)
    checks.equal(token([10, 9], biases={1: 1500000}), 1, "a bias of 1.5 at F = 0 is 2")
    checks.equal(token([10, 9], biases={1: 1499999}), 0, "a bias of 1.499999 is 1, and ties go to the lowest id")
    checks.equal(token([10, 8], biases={0: -1500000}), 0, "a bias of -1.5 is -1")
    checks.equal(token([10, 8], biases={0: -2500001}), 1, "a bias of -2.500001 is -3")
    checks.equal(token([10, 6], prompt=[0, 0, 0], repetition=2000000), 1, "10 / 2 once is 5")
    checks.equal(token([10, 4], prompt=[0], generated=[0], repetition=2000000), 0, "and not 2")
    checks.equal(token([-3, -4], generated=[0], repetition=1500000), 0, "-3 * 1.5 is -4")
    checks.equal(token([-3, -5], generated=[0], repetition=2000000), 1, "-3 * 2 is -6")
    checks.equal(token([10, 5], biases={0: 1000000}, generated=[0], repetition=2000000), 0, "(10 + 1) / 2 is 6")
    checks.equal(token([10, 9], prompt=[0], presence=50000000), 0, "presence does not count the prompt")
    checks.equal(token([10, 8], generated=[0, 0], presence=2000000), 0, "presence counts once: 8")
    checks.equal(token([10, 7], generated=[0, 0], frequency=2000000), 1, "frequency counts twice: 6")
    checks.equal(token([10, 8], generated=[0, 0, 0], frequency=500000), 0, "0.5 * 3 is 2: 8")


def main():
    checks = Checks()
    chance = random.Random(11)
    ranges = {tight: 0 for tight in ("",) + TIGHT}
    for number, (name, shape) in enumerate(program_random.SHAPES.items()):
        for seed in range(SEEDS):
            model = program_random.build(seed, shape)
            if number == 0 and seed == 0:
                model = read_back(checks, model)
            tokens = [chance.randrange(shape.vocabulary) for _ in range(80 if seed == 0 else 60)]
            check_pass(checks, model, f"{name} {seed}", tokens, 0 if seed % 2 else len(tokens) - 3)
            check_answers(checks, model, f"{name} {seed}", chance)
            for tight in TIGHT if FULL else TIGHT[number % 2::2]:
                model = program_random.build(seed + 1000, dataclasses.replace(shape, tight=tight))
                for first in (0, 15, 39):
                    tokens = [chance.randrange(shape.vocabulary) for _ in range(40)]
                    found = check_pass(checks, model, f"{name} {seed} tight {tight}", tokens, first)
                    ranges[tight] += found is not None
                check_answers(checks, model, f"{name} {seed} tight {tight}", chance)
    check_sampling(checks, model, chance)
    check_penalties(checks, model.mantissas[1])
    print(f"passes with RANGE, by what was tight: {ranges}")
    checks.true(sum(count > 0 for count in ranges.values()) >= 3, f"RANGE was raised: {ranges}")
    checks.finish()


if __name__ == "__main__":
    main()
