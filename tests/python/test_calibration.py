#!/usr/bin/env python3
"""Checks the built-in calibration text, src/model/calibration.txt.

The text is measured at import, so it must not contain what accuracy is measured on: no eight words in a row, and no
twelve Chinese characters, may also stand in bench/text or in WikiText-2's test part. That file is looked for under
BULLA_SHARED/data (by default ../shared beside the checkout); without it only that one check is skipped, and the
script says so.
"""
import os
import re
from pathlib import Path

from checks import Checks

ROOT = Path(__file__).resolve().parents[2]
CALIBRATION = ROOT / "src" / "model" / "calibration.txt"
SHARED = Path(os.environ.get("BULLA_SHARED") or ROOT.parent / "shared")
WIKITEXT = SHARED / "data" / "wikitext2-test.txt"
BENCH_TEXTS = sorted((ROOT / "bench" / "text").glob("*.txt"))

SEPARATOR = "\n\f\n"
GRAM_WORDS = 8
GRAM_CHARACTERS = 12
TOTAL_BYTES = range(75_000, 95_001)
SECTIONS = range(30, 51)
SECTION_BYTES = range(950, 3_001)
TURNS = range(3, 33)  # SECTION_TURNS in src/model/import_text.c
CONVERSATIONS = range(10, 21)
ALLOWED_CONTROLS = "\n\t\f"


def is_forbidden(character):
    """C0 and C1 controls but the three allowed ones, DEL, a byte order mark, a replacement character."""
    code = ord(character)
    control = code < 0x20 or 0x7F <= code < 0xA0
    return (control and character not in ALLOWED_CONTROLS) or character in "\ufeff\ufffd"


def grams_of(words):
    return {tuple(words[i:i + GRAM_WORDS]) for i in range(len(words) - GRAM_WORDS + 1)}


def grams(text):
    """Every run of eight lower-cased words, once with words as spaces cut them and once without punctuation, and of
    twelve characters of a script without spaces."""
    text = text.lower()
    characters = "".join(re.findall(r"[\u3040-\u30ff\u3400-\u9fff]", text))
    runs = {characters[i:i + GRAM_CHARACTERS] for i in range(len(characters) - GRAM_CHARACTERS + 1)}
    return grams_of(text.split()) | grams_of(re.findall(r"\w+", text)) | runs


def wikitext_grams(text):
    """As the file stands, and with WikiText's ` @-@ ` joiners and `<unk>` marks taken out."""
    return grams(text) | grams(re.sub(r" @(.)@ ", r"\1", text).replace("<unk>", " "))


def check_characters(checks, text):
    forbidden = sorted({f"U+{ord(c):04X}" for c in text if is_forbidden(c)})
    checks.equal(forbidden, [], "control characters other than LF, TAB and FF")
    checks.true(text.endswith("\n"), "the text ends with a line feed")


def check_sections(checks, text):
    checks.equal(text.count("\f"), text.count(SEPARATOR), "form feeds that are alone on their line")
    sections = text.split(SEPARATOR)
    checks.true(len(sections) in SECTIONS, f"{len(sections)} sections lie in {SECTIONS}")
    for number, section in enumerate(sections):
        size = len(section.encode())
        checks.true(size in SECTION_BYTES, f"the {size} bytes of section {number} lie in {SECTION_BYTES}")
    checks.equal(len(set(sections)), len(sections), "sections that differ from each other")


def check_conversations(checks, text):
    """A section that begins with '@' is turns: an optional system turn, then user and assistant in turn."""
    conversations = [section for section in text.split(SEPARATOR) if section.startswith("@")]
    checks.true(len(conversations) in CONVERSATIONS, f"{len(conversations)} conversations lie in {CONVERSATIONS}")
    for section in conversations:
        turns = [turn.partition("\n") for turn in section[1:].split("\n@")]
        roles = [role for role, _, _ in turns]
        expected = ["user", "assistant"] * len(turns)
        expected = (["system"] if roles[0] == "system" else []) + expected
        checks.equal(roles, expected[:len(roles)], f"roles of the conversation {section[:60]!r}")
        checks.equal(roles[-1], "assistant", f"the last role of the conversation {section[:60]!r}")
        checks.true(len(turns) in TURNS, f"{len(turns)} turns lie in {TURNS}")
        checks.true(all(content.strip() == content != "" for _, _, content in turns),
                    f"turns of {section[:60]!r} without space around them")


def check_nothing_shared(checks, text, name, measured, planted):
    checks.true(grams(text + " " + planted) & measured, f"a planted run of {name} is noticed")
    for number, section in enumerate(text.split(SEPARATOR)):
        shared = sorted(gram if isinstance(gram, str) else " ".join(gram) for gram in grams(section) & measured)
        checks.equal(shared, [], f"runs that section {number} shares with {name}")


def check_test_texts(checks, text):
    for path in BENCH_TEXTS:
        content = path.read_text(encoding="utf-8")
        checks.true(grams(content), f"{path.name} has runs to look for")
        check_nothing_shared(checks, text, path.name, grams(content), content[-400:])
    if not WIKITEXT.is_file():
        print(f"skipped: shared runs of {GRAM_WORDS} words, because {WIKITEXT} is absent (set BULLA_SHARED)")
        return
    wikitext = WIKITEXT.read_text(encoding="utf-8")
    planted = " ".join(wikitext.split()[1000:1000 + GRAM_WORDS])
    check_nothing_shared(checks, text, WIKITEXT.name, wikitext_grams(wikitext), planted)


def main():
    checks = Checks()
    data = CALIBRATION.read_bytes()
    checks.true(len(data) in TOTAL_BYTES, f"{len(data)} bytes lie in {TOTAL_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        checks.true(False, f"valid UTF-8: {error}")
    else:
        check_characters(checks, text)
        check_sections(checks, text)
        check_conversations(checks, text)
        check_test_texts(checks, text)
    checks.finish()


if __name__ == "__main__":
    main()
