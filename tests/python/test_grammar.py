#!/usr/bin/env python3
"""Grammars of JSON schemas against PyPI jsonschema, with the schemas of JSON-Schema-Test-Suite (draft 2020-12).

Each schema is refused, naming a keyword, or enforced: then answers drawn at random must satisfy it, and none of the
suite's invalid instances may be an answer. How many of the valid instances are answers, as Python writes them, is
printed. Random schemas follow, with random instances. `tests/tool_grammar.c` is the C side.
"""
import collections
import decimal
import glob
import json
import os
import random
import re
import struct
import subprocess

import jsonschema

import random_schemas
from checks import Checks

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
SUITE = os.path.join(os.environ.get("BULLA_SHARED", "/nowhere"), "data", "json-schema-suite", "draft2020-12")
TOOL = os.path.join(BUILD, "tests", "tool_grammar")
ANSWERS = 200 if os.environ.get("BULLA_TEST_COUNTS") == "full" else 20
RANDOM_SCHEMAS = 20000 if os.environ.get("BULLA_TEST_COUNTS") == "full" else 400
LEAST_ENFORCED = 250
decimal.getcontext().prec = 400  # no remainder may need more digits
ENDLESS = "error: no end after"  # tokens drawn at random may go on and on, as in an array that must contain one rare item
NOTHING = "no value satisfies it"  # a refusal that no one keyword is to blame for


class Tool:
    def __init__(self, answers):
        self.answers = answers
        self.process = subprocess.Popen([TOOL, str(answers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _tell(self, record):
        self.process.stdin.write(struct.pack("<I", len(record)) + record)
        self.process.stdin.flush()

    def _ask(self, record):
        self._tell(record)
        return self.process.stdout.readline().decode().rstrip("\n")

    def compile(self, schema, instances):
        """(None, answers) where it is enforced, else (why not, []). Answers have much of the instances."""
        hint = json.dumps({"schema": schema})
        hint += "".join(json.dumps(instance, ensure_ascii=False) for instance in instances)
        self._tell(b"H" + hint.encode())
        line = self._ask(b"S" + json.dumps({"schema": schema}).encode())
        if line != "enforced":
            return line, []
        return None, [self.process.stdout.readline().decode().rstrip("\n") for _ in range(self.answers)]

    def accepts(self, text):
        return self._ask(b"T" + text.encode()) == "accepted"

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def spellings(instance):
    """The usual ways to write a value as JSON."""
    yield json.dumps(instance, ensure_ascii=False)
    yield json.dumps(instance)
    yield json.dumps(instance, separators=(",", ":"), ensure_ascii=False)


def read(text):
    """Numbers as decimals: multipleOf is about values, and binary floating point divides them otherwise."""
    return json.loads(text, parse_float=decimal.Decimal)


def keywords_of(schema, found=None):
    found = set() if found is None else found
    if isinstance(schema, dict):
        for key, value in schema.items():
            found.add(key)
            keywords_of(value, found)
    elif isinstance(schema, list):
        for value in schema:
            keywords_of(value, found)
    return found


def check_refusal(checks, why, schema, name):
    code = why.split()[1] if why.startswith("refused ") else ""
    checks.true(code in ("unsupported", "limit"), f"{name}: {why}")
    if NOTHING not in why:
        named = re.findall(r'"([^"]*)"', why)
        checks.true(named and named[0] in keywords_of(schema), f"{name}: the refusal names no keyword of it: {why}")


def check_answers(checks, answers, schema, name, uses_decimals):
    schema = read(json.dumps(schema)) if uses_decimals else schema
    checker = jsonschema.FormatChecker(set(jsonschema.FormatChecker.checkers) - {"time"})  # which knows no time zones
    validator = jsonschema.Draft202012Validator(schema, format_checker=checker)
    texts = set()
    for answer in answers:
        if not checks.true(not answer.startswith("error"), f"{name}: {answer}"):
            continue
        text = bytes.fromhex(answer).decode()
        texts.add(text)
        value = read(text) if uses_decimals else json.loads(text, object_pairs_hook=without_duplicates)
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
        checks.true(error is None, f"{name}: {text!r} does not satisfy {json.dumps(schema, default=str)}: "
                                   f"{error.message if error else ''}")
    return len(texts)


def without_duplicates(pairs):
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), f"a key is there twice: {keys}"
    return dict(pairs)


def check_group(checks, tool, group, name, counts):
    schema = group["schema"]
    why, answers = tool.compile(schema, [test["data"] for test in group["tests"]])
    if why:
        counts["refused"] += 1
        counts["refused", re.findall(r'"([^"]*)"', why)[0] if NOTHING not in why else NOTHING] += 1
        check_refusal(checks, why, schema, name)
        return
    counts["enforced"] += 1
    factors = "multipleOf" in keywords_of(schema)
    counts["different answers"] += check_answers(checks, answers, schema, name, factors)
    for test in group["tests"]:
        accepted = [text for text in spellings(test["data"]) if tool.accepts(text)]
        if test["valid"]:
            counts["valid"] += 1
            counts["valid and answers"] += bool(accepted)
        else:
            counts["invalid"] += 1
            checks.true(not accepted, f"{name}: {test['description']}: {accepted} is an answer")


def check_random(checks, tool, number, counts):
    source = random.Random(number)
    schema = random_schemas.document(source)
    instances = [random_schemas.instance(source) for _ in range(40)]
    why, answers = tool.compile(schema, instances)
    if why:
        counts["refused"] += 1
        if NOTHING not in why:
            check_refusal(checks, why, schema, f"random schema {number}")
        return
    counts["enforced"] += 1
    exact = read(json.dumps(schema))
    whole = [answer for answer in answers if not answer.startswith(ENDLESS)]
    counts["endless"] += len(answers) - len(whole)
    check_answers(checks, whole, schema, f"random schema {number}", True)
    validator = jsonschema.Draft202012Validator(exact)
    for instance in instances:
        accepted = [text for text in spellings(instance) if tool.accepts(text)]
        try:
            is_valid = validator.is_valid(read(json.dumps(instance)))
        except RecursionError:  # a schema that refers to itself without end, for this instance: undefined (core, 9.4.1)
            counts["without end"] += 1
            continue
        if is_valid:
            counts["valid"] += 1
            counts["valid and answers"] += bool(accepted)
        else:
            checks.true(not accepted, f"random schema {number}, {json.dumps(schema)}: {accepted} is an answer")


def check_all_random(checks):
    tool = Tool(5)
    counts = collections.Counter()
    for number in range(RANDOM_SCHEMAS):
        check_random(checks, tool, number, counts)
    checks.equal(tool.close(), 0, "tool_grammar's status")
    checks.true(counts["enforced"] > RANDOM_SCHEMAS // 4, f"{counts['enforced']} random schemas are enforced")
    checks.true(counts["endless"] < RANDOM_SCHEMAS // 100, f"{counts['endless']} answers came to no end")
    checks.true(counts["without end"] < RANDOM_SCHEMAS // 100, f"{counts['without end']} instances have no verdict")
    print(f"random: {counts['enforced']} schemas enforced, {counts['refused']} refused; "
          f"{counts['valid and answers']} of {counts['valid']} valid instances are answers")


def check_doubles(checks):
    """No answer is a number whose nearest double is whole where a whole one is forbidden."""
    tool = Tool(ANSWERS)
    for schema in ({"not": {"type": "integer"}}, {"oneOf": [{"type": "integer"}, {"minimum": 2}]}):
        why, answers = tool.compile(schema, [])
        checks.equal(why, None, f"{json.dumps(schema)} is enforced")
        check_answers(checks, answers, schema, "doubles", False)
        for text, expected in (("600010021000900.00022", False), ("6000100210009000.5", False), ("12345678901234.5", True),
                               ("2.25", True), ("3.00000000000001", True)):
            checks.equal(bool(tool.accepts(text)), expected, f"{text} is an answer to {json.dumps(schema)}")
    checks.equal(tool.close(), 0, "tool_grammar's status")


def main():
    checks = Checks()
    files = sorted(glob.glob(os.path.join(SUITE, "**", "*.json"), recursive=True))
    if not files:
        checks.skip("BULLA_SHARED has no data/json-schema-suite")
    tool = Tool(ANSWERS)
    counts = collections.Counter()
    for path in files:
        with open(path, encoding="utf-8") as file:
            groups = json.load(file)
        for group in groups:
            check_group(checks, tool, group, f"{os.path.relpath(path, SUITE)}: {group['description']}", counts)
    checks.equal(tool.close(), 0, "tool_grammar's status")
    checks.true(counts["enforced"] >= LEAST_ENFORCED, f"{counts['enforced']} schemas are enforced")
    print(f"{counts['enforced']} schemas enforced, {counts['refused']} refused; "
          f"{counts['different answers']} different answers; {counts['valid and answers']} of {counts['valid']} valid "
          f"instances are answers, none of {counts['invalid']} invalid ones may be")
    print("refused for:", ", ".join(f"{key[1]} {count}" for key, count in sorted(
        ((key, count) for key, count in counts.items() if isinstance(key, tuple)), key=lambda item: -item[1])))
    check_doubles(checks)
    check_all_random(checks)
    checks.finish()


if __name__ == "__main__":
    main()
