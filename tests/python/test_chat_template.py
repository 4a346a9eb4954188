#!/usr/bin/env python3
"""Chat templates against jinja2, set up as Hugging Face transformers sets it up: the same text, or an error from both.

Templates of our own always; those of the demo models where BULLA_MODELS has them; those of the llama-cpp-python source
package where BULLA_PEERS has it, each with every conversation of conversations.py; and random ones.
"""
import collections
import copy
import glob
import os
import random
import re
import unicodedata

from checks import Checks
from conversations import all_variables
from random_templates import random_format, random_template
from reference_templates import NOW, reference, reference_environment, rendered
from template_cases import CASES, REFUSED

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
RANDOM_TEMPLATES = int(os.environ.get("BULLA_RANDOM_TEMPLATES", "20000" if FULL else "1500"))
# Python prints addresses of some objects: no two runs agree. A template may have reversed the text.
ADDRESS = re.compile(r"0x[0-9a-f]{6,}|[0-9a-f]{6}x0|<class|LoopContext| object|tcejbo ", re.IGNORECASE)


def compare(checks, environment, cases, what):
    """Same text or both an error. Returns how many gave text."""
    texts = 0
    for (source, variables), (code, text) in zip(cases, rendered(cases)):
        expected, wanted = reference(environment, source, copy.deepcopy(variables))
        texts += expected == "ok"
        if expected == "ok":
            checks.equal((code, text), ("ok", wanted), f"{what}: {source[:300]!r}")
        else:
            checks.true(code != "ok", f"{what}: {source[:300]!r}: gave {text[:300]!r}, jinja2 has {wanted}")
    return texts


def check_own(checks, environment):
    for source, variables in CASES:
        checks.equal(reference(environment, source, copy.deepcopy(variables))[0], "ok", f"jinja2 renders {source!r}")
    print(f"own templates: {compare(checks, environment, CASES, 'own')}")


def check_refused(checks):
    """Unknown names are found when the template is compiled, with line and name."""
    for (source, line, name), (code, text) in zip(REFUSED, rendered([(source, {}) for source, _, _ in REFUSED])):
        checks.equal(code, "compile-unsupported", f"{source!r}")
        checks.contains(text, f"line {line}: ", f"the line in the error of {source!r}")
        checks.contains(text, name, f"the name in the error of {source!r}")


def check_model_templates(checks, environment, templates):
    conversations = list(all_variables())
    for name, source in templates:
        cases = [(source, variables) for _, variables in conversations]
        texts = compare(checks, environment, cases, name)
        print(f"{name}: {len(cases)} renderings, {texts} of them texts")


def check_characters(checks, environment, step):
    """What Python says of every character that it knows, and of its case."""
    methods = ["upper", "lower", "title", "capitalize", "casefold", "isupper", "islower", "isalpha", "isdigit",
               "isnumeric", "isdecimal", "isalnum", "isspace", "isprintable", "strip", "split", "splitlines"]
    source = "{% for c in cs %}{{ [c" + "".join(f", c.{method}()" for method in methods) + "] }}\n{% endfor %}"
    characters = [chr(code) for code in range(1, 0x110000, step)
                  if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")]
    for start in range(0, len(characters), 2000):
        variables = {"cs": characters[start:start + 2000]}
        (code, text), = rendered([(source, variables)])
        _, wanted = reference(environment, source, variables)
        rows = zip(text.split("\n"), wanted.split("\n"))
        checks.equal([pair for pair in rows if pair[0] != pair[1]][:3], [], "characters and their case")
        checks.equal((code, len(text)), ("ok", len(wanted)), "characters and their case: length")
    print(f"{len(characters)} characters")


def peer_templates():
    if not os.environ.get("BULLA_PEERS"):
        return
    pattern = os.path.join(os.environ["BULLA_PEERS"], "**", "models", "templates", "*.jinja")
    paths = {os.path.basename(path): path for path in glob.glob(pattern, recursive=True)}
    for name, path in sorted(paths.items()):
        with open(path, encoding="utf-8") as file:
            yield name, file.read()


def demo_templates():
    if not os.environ.get("BULLA_MODELS"):
        return
    from gguf import GGUFReader
    for path in sorted(glob.glob(os.path.join(os.environ["BULLA_MODELS"], "*.gguf"))):
        field = GGUFReader(path).get_field("tokenizer.chat_template")
        if field:
            yield os.path.basename(path), field.contents()


def check_times(checks, count):
    """strftime_now at random times of the years 1 to 9999, and at the ends of years."""
    generator = random.Random(8)
    source = "{{ strftime_now('" + " ".join("%" + letter for letter in "YyCmdeHIMSfjUWVGgwuAaBbhpDFTRcxXr") + "') }}"
    source += "{{ strftime_now('%-d %-m %-H %-I %_d %-j %% %Z|%z|%n%t') }}"
    times = [generator.randrange(-30610224000, 253402300800) for _ in range(count)]
    times += [seconds + generator.randrange(-400000, 400000) for seconds in range(0, 4102444800, 31556952)]
    for now in times:
        wanted = reference(reference_environment(now), source, {})
        checks.equal(rendered([(source, {})], now), [wanted], f"strftime_now at {now}")


def check_random(checks, environment, make, count):
    generator, results = random.Random(7), collections.Counter()
    for start in range(0, count, 500):
        cases = [make(generator) for _ in range(min(500, count - start))]
        for (source, variables), (code, text) in zip(cases, rendered(cases)):
            expected, wanted = reference(environment, source, copy.deepcopy(variables))
            if expected == "ok" and ADDRESS.search(wanted):
                results["with addresses, not compared"] += 1
            elif expected == "ok" and code.endswith(("limit", "unsupported")):
                results["beyond 64 bits or not supported"] += 1
            elif expected == "ok":
                results["same text"] += checks.equal((code, text), ("ok", wanted), f"random: {source!r}")
            else:
                results["both an error"] += checks.true(code != "ok", f"random: {source!r}: {text!r}, not {wanted}")
    print(f"{count} of {make.__name__}:", ", ".join(f"{number} {name}" for name, number in results.most_common()))
    checks.true(results["same text"] > count // 3, "a third of the random templates give text")
    return results


def main():
    checks = Checks()
    environment = reference_environment(NOW)
    check_own(checks, environment)
    check_refused(checks)
    check_characters(checks, environment, 1 if FULL else 13)
    check_model_templates(checks, environment, [*demo_templates(), *peer_templates()])
    check_times(checks, 1000 if FULL else 100)
    check_random(checks, environment, random_format, 2 * RANDOM_TEMPLATES)
    refused = check_random(checks, environment, random_template, RANDOM_TEMPLATES)["beyond 64 bits or not supported"]
    checks.true(refused <= RANDOM_TEMPLATES // 100, "few random templates are refused")
    checks.finish()


if __name__ == "__main__":
    main()
