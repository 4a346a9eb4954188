#!/usr/bin/env python3
"""The second referee (trace_referee.py, from docs/dispute-trace.md) against the steps of tests/vectors/trace/steps.json. What
decides in C is no more code than stated here."""
import base64
import collections
import glob
import json
import os

import trace_layout as layout
from checks import Checks
from count_code import code_lines
from trace_referee import verdict

ROOT = os.environ.get("BULLA_SOURCE_ROOT", os.path.join(os.path.dirname(__file__), "..", ".."))

MOST_LINES = 1500  # of step_*.c and dispute_path.c, without comments and blank lines


def deciding_lines():
    names = [*glob.glob(os.path.join(ROOT, "src", "check", "step_*.c")),
             os.path.join(ROOT, "src", "check", "dispute_path.c")]
    return sum(code_lines(name) for name in names if os.path.basename(name) != "step_text.c")  # that is names for people


def main():
    checks = Checks()
    lines = deciding_lines()
    checks.true(1000 < lines < MOST_LINES, f"{lines} lines of code decide, expected below {MOST_LINES}")
    with open(os.path.join(ROOT, "tests", "vectors", "trace", "steps.json")) as file:
        vectors = json.load(file)
    bytes_of = base64.b64decode
    answers, cells, verdicts, kinds = [], [], collections.Counter(), set()
    for a in vectors["answers"]:
        program = layout.Program(bytes_of(a["part"]), bytes_of(a["proof"]), bytes_of(a["model_root"]))
        allowed = layout.hashes_in(bytes_of(a["allowed"])) if "allowed" in a else None
        answers.append(layout.Answer(program, a["tokens"], a["prompt"], a["sampling"], a.get("range"), allowed,
                                      bytes_of(a["trace_root"])))
    for c in vectors["cells"]:
        cell = layout.Cell(answers[c["answer"]], c["group"], c["position"], bytes_of(c["arrays"]), c.get("range"))
        checks.true(cell.is_right(bytes_of(c["leaf"])), f"the arrays of cell {len(cells)} give its leaf")
        checks.true(not cell.is_right(bytes_of(c["leaf"])[::-1]), f"the arrays of cell {len(cells)} give no other leaf")
        cells.append(cell)
    for number, s in enumerate(vectors["steps"]):
        cell = cells[s["cell"]]
        found = verdict(cell, s["operation"], s["array"], s["index"], s["value"], bytes_of(s["opening"]))
        expected = "unproved" if s["verdict"] == "no operand" else s["verdict"]
        operations = cell.answer.program.operations
        kind = operations[s["operation"]].kind_name if s["operation"] < len(operations) else "sampling"
        checks.equal(found, expected, f"step {number}: {kind}, array {s['array']}, element {s['index']}")
        verdicts[expected] += 1
        kinds.add(kind)
    checks.equal(sorted(kinds), sorted(layout.KINDS), "every kind of operation has steps")
    for expected in ("holds", "differs", "range", "fails", "unproved"):
        checks.true(verdicts[expected], f"some step {expected}")
    print(f"{lines} lines of code decide;", dict(verdicts))
    checks.finish()


if __name__ == "__main__":
    main()
