#!/usr/bin/env python3
"""Writes src/model/unicode_tables.c: the character classes and the NFC data that tokenizers need.

Usage: unicode_tables.py > src/model/unicode_tables.c   (needs PyPI unicodedata2 == 16.0.0)

Two Unicode versions, because the originals use two: PyPI `tokenizers` splits words with Oniguruma's classes
(Unicode 16.0) and normalises with the crate unicode-normalization-alignments (Unicode 9.0). Both were compared
with these tables code point by code point (docs/tokenizer.md).
"""
import sys
import textwrap

import unicodedata2 as unicode

assert unicode.unidata_version == "16.0.0", unicode.unidata_version

OTHER, UPPER, LOWER, LETTER, MARK, NUMBER, SPACE, WORD, OTHER_NUMBER = range(9)
SPACES = {0x9, 0xA, 0xB, 0xC, 0xD, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F,
          0x3000}
# Other_Alphabetic outside L, M and N, and Join_Control (PropList.txt): word characters of a regular expression's \w.
WORD_EXTRA = {0x200C, 0x200D, *range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A),
              *range(0x1F170, 0x1F18A)}
# Code points with a combining class or a canonical decomposition that came after Unicode 9.0 (DerivedAge.txt).
AFTER_UNICODE_9 = [
    (0x07FD, 0x07FD), (0x0897, 0x089F), (0x08CA, 0x08D3), (0x09FE, 0x09FE), (0x0C3C, 0x0C3C), (0x0D3B, 0x0D3C),
    (0x0EBA, 0x0EBA), (0x1715, 0x1715), (0x1ABF, 0x1ACE), (0x1DF6, 0x1DFA), (0xA82C, 0xA82C), (0x105C9, 0x105C9),
    (0x105E4, 0x105E4), (0x10D24, 0x10D27), (0x10D69, 0x10D6D), (0x10EAB, 0x10EAC), (0x10EFD, 0x10EFF),
    (0x10F46, 0x10F50), (0x10F82, 0x10F85), (0x11070, 0x11070), (0x1133B, 0x1133B), (0x11383, 0x11383),
    (0x11385, 0x11385), (0x1138E, 0x1138E), (0x11391, 0x11391), (0x113C5, 0x113C5), (0x113C7, 0x113C8),
    (0x113CE, 0x113D0), (0x1145E, 0x1145E), (0x11839, 0x1183A), (0x11938, 0x11938), (0x1193D, 0x1193E),
    (0x11943, 0x11943), (0x119E0, 0x119E0), (0x11A34, 0x11A34), (0x11A47, 0x11A47), (0x11A99, 0x11A99),
    (0x11D42, 0x11D42), (0x11D44, 0x11D45), (0x11D97, 0x11D97), (0x11F41, 0x11F42), (0x16121, 0x16128),
    (0x1612F, 0x1612F), (0x16D68, 0x16D6A), (0x16FF0, 0x16FF1), (0x1E08F, 0x1E08F), (0x1E130, 0x1E136),
    (0x1E2AE, 0x1E2AE), (0x1E2EC, 0x1E2EF), (0x1E4EC, 0x1E4EF), (0x1E5EE, 0x1E5EF),
]
LAST = 0x110000


def code_points():
    return (c for c in range(LAST) if not 0xD800 <= c <= 0xDFFF)


def word_class(code):
    category = unicode.category(chr(code))
    if code in SPACES:
        return SPACE
    if category in ("Lu", "Lt"):
        return UPPER
    if category == "Ll":
        return LOWER
    if category in ("Lm", "Lo"):
        return LETTER
    if category.startswith("M"):
        return MARK
    if category.startswith("N"):
        return OTHER_NUMBER if category == "No" else NUMBER
    return WORD if category == "Pc" or code in WORD_EXTRA else OTHER


def emit(declaration, values):
    print(f"{declaration} = {{")
    print(textwrap.fill(" ".join(value.replace(" ", "~") + "," for value in values), 119, initial_indent="    ",
                        subsequent_indent="    ", break_long_words=False, break_on_hyphens=False).replace("~", " "))
    print("};\n")


def main():
    late = {c for low, high in AFTER_UNICODE_9 for c in range(low, high + 1)}
    classes, previous = [], None
    for code in range(LAST):
        now = OTHER if 0xD800 <= code <= 0xDFFF else word_class(code)
        if now != previous:
            classes.append((code, now))
            previous = now
    combining, run = [], None
    for code in range(LAST):
        value = 0 if 0xD800 <= code <= 0xDFFF or code in late else unicode.combining(chr(code))
        if run and run[1] == code - 1 and run[2] == value:
            run[1] = code
        elif value:
            run = [code, code, value]
            combining.append(run)
        else:
            run = None
    decompositions, compositions = [], []
    for code in code_points():
        text = unicode.decomposition(chr(code))
        if not text or text.startswith("<") or code in late:
            continue
        parts = [int(part, 16) for part in text.split()] + [0]
        decompositions.append((code, parts[0], parts[1]))
        if unicode.normalize("NFC", chr(code)) == chr(code) and parts[1]:
            compositions.append((parts[0], parts[1], code))
    print("/* Written by scripts/unicode_tables.py; do not edit. Classes: Unicode 16.0. NFC: Unicode 9.0. */")
    print('#include "model/unicode.h"\n')
    emit("const uint32_t unicode_class_starts[UNICODE_CLASS_STARTS]", [str(c * 16 + k) for c, k in classes])
    emit("const struct unicode_combining unicode_combining[UNICODE_COMBINING]",
         [f"{{{a}, {b}, {v}}}" for a, b, v in combining])
    emit("const struct unicode_pair unicode_decompositions[UNICODE_DECOMPOSITIONS]",
         [f"{{{c}, {a}, {b}}}" for c, a, b in decompositions])
    places = {code: index for index, (code, _, _) in enumerate(decompositions)}
    emit("const uint16_t unicode_compositions[UNICODE_COMPOSITIONS]",
         [str(places[code]) for _, _, code in sorted(compositions)])
    print(len(classes), len(combining), len(decompositions), len(compositions), file=sys.stderr)


main()
