#!/usr/bin/env python3
"""`make lint`: rules of the house that a compiler does not know. Standard library only.

usage: tests/python/lint.py [ROOT]

  layers    a file includes only headers of its own layer and of those before it
  library   what library code must not call: it neither prints nor ends the program, and memory comes
            from base/memory.h
  words     what no file holds: unfinished marks, paths and hosts of one machine
  scripts   shell scripts parse, and pass shellcheck where it is installed; Python compiles
  length    files of more than 800 lines: a warning
"""
import os
import re
import shutil
import subprocess
import sys

# Earlier ones know nothing of later ones; see README.md.
LAYERS = ["base", "model", "exec", "trust", "check", "serve", "ops", "cli"]
# The layer that implements each public header.
PUBLIC_HEADERS = {
    "chat_template.h": "model",
    "engine.h": "exec",
    "error.h": "base",
    "model.h": "model",
    "program.h": "model",
    "sampler.h": "exec",
    "tokenizer.h": "model",
    "verify.h": "trust",
}
LONG_FILE = 800

# What library code must not call, and what to do instead; files where it is right.
FORBIDDEN_CALLS = {
    "printf": "report through bulla_error", "fprintf": "report through bulla_error",
    "puts": "report through bulla_error", "perror": "report through bulla_error",
    "exit": "return a code", "_exit": "return a code", "abort": "return a code", "assert": "return a code",
    "malloc": "use base/memory.h", "calloc": "use base/memory.h", "realloc": "use base/memory.h",
    "free": "use base/memory.h", "strdup": "use memory_copy_text", "aligned_alloc": "use base/memory.h",
    "posix_memalign": "use base/memory.h",
    "sprintf": "use snprintf or a buffer", "strcpy": "use a buffer", "strcat": "use a buffer",
    "strtok": "it keeps hidden state", "atoi": "it hides errors", "atof": "it hides errors",
    "setlocale": "it changes the whole process",
}
ALLOWED_CALLS = {"src/base/memory.c": {"calloc", "realloc", "free", "posix_memalign"}}

WORDS = [
    (r"\b(TODO|FIXME|XXX|HACK)\b", "an unfinished mark"),
    (r"(?<![\w.])/work/", "a path of one machine"),
    (r"(?<![\w.])/home/\w", "a path of one machine"),
    (r"\bpypi\.org|pythonhosted\.org|deb\.debian\.org|archive\.ubuntu\.com", "a registry's host name"),
    (r"(?i)co-authored-by|generated with|as an ai\b", "a word on who wrote it"),
]
WORDS_NOT_IN = {"tests/python/lint.py", "tests/python/test_lint.py", "LICENSE", "src/model/calibration.txt"}
TEXT_FOLDERS = ["src", "include", "web", "tests", "fuzz", "bench", "scripts", "docs", ".ci"]
NO_TEXT = (".bin", ".json", ".gguf", ".png", ".svg", ".npy", ".npz", ".safetensors")

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def files_below(root, folder):
    for parent, folders, names in os.walk(os.path.join(root, folder)):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "corpus", "goldens", "build"))
        for name in sorted(names):
            yield os.path.relpath(os.path.join(parent, name), root)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def layer_of(path):
    """The layer of a file below src/ or include/bulla/, by its path from the root; None for none."""
    parts = path.split("/")
    if path.startswith("include/bulla/"):
        return PUBLIC_HEADERS.get(parts[-1])
    return parts[1] if len(parts) > 2 and parts[0] == "src" and parts[1] in LAYERS else None


def check_layers(root):
    for folder in ("src", "include"):
        for path in files_below(root, folder):
            if not path.endswith((".c", ".h")):
                continue
            own = layer_of(path)
            if own is None:
                yield f"{path}: belongs to no layer; name it in LAYERS or PUBLIC_HEADERS of tests/python/lint.py"
                continue
            for included in INCLUDE.findall(read(root, path)):
                target = ("include/" if included.startswith("bulla/") else "src/") + included
                other = layer_of(target)
                if other is None and included.startswith("bulla/"):
                    yield f"{path}: includes {included}, which PUBLIC_HEADERS of tests/python/lint.py does not name"
                elif other is not None and LAYERS.index(other) > LAYERS.index(own):
                    yield f"{path}: layer {own} includes {included} of the later layer {other}"


def without_comments_and_texts(code):
    """The same lines with comments and what stands in quotes blanked."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match.group()), code, flags=re.DOTALL)


def check_library(root):
    call = re.compile(r"(?<![\w>.])(" + "|".join(FORBIDDEN_CALLS) + r")\s*\(")
    for path in files_below(root, "src"):
        if not path.endswith((".c", ".h")) or layer_of(path) == "cli":
            continue
        allowed = ALLOWED_CALLS.get(path, set())
        for number, line in enumerate(without_comments_and_texts(read(root, path)).splitlines(), 1):
            for name in call.findall(line):
                if name not in allowed:
                    yield f"{path}:{number}: calls {name}: {FORBIDDEN_CALLS[name]}"


def text_files(root):
    for folder in TEXT_FOLDERS:
        yield from (path for path in files_below(root, folder) if not path.endswith(NO_TEXT))
    for name in sorted(os.listdir(root)):
        # .git is a file with a path of this machine in a worktree that git made beside another
        if os.path.isfile(os.path.join(root, name)) and not name.endswith(NO_TEXT) and name != ".git":
            yield name


def check_words(root):
    for path in text_files(root):
        if path in WORDS_NOT_IN:
            continue
        for number, line in enumerate(read(root, path).splitlines(), 1):
            for pattern, what in WORDS:
                match = re.search(pattern, line)
                if match:
                    yield f"{path}:{number}: \"{match.group()}\" is {what}"


def check_scripts(root):
    for path in list(files_below(root, "scripts")) + list(files_below(root, ".ci")):
        full = os.path.join(root, path)
        first = read(root, path).split("\n", 1)[0]
        if not os.access(full, os.X_OK):
            yield f"{path}: cannot be executed (chmod +x)"
        shell = re.match(r"#!.*\b(sh|bash)$", first)
        if shell:
            yield from run_checker([shell.group(1), "-n", full], path)
            if shutil.which("shellcheck"):
                yield from run_checker(["shellcheck", full], path)
        elif "python3" in first:
            yield from check_python(root, path)
        else:
            yield f"{path}: starts with \"{first}\", expected #! of sh, bash or python3"
    for path in files_below(root, "tests/python"):
        if path.endswith(".py"):
            yield from check_python(root, path)


def run_checker(command, path):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        yield f"{path}: {command[0]}: {result.stdout.strip()}"


def check_python(root, path):
    try:
        compile(read(root, path), path, "exec")
    except SyntaxError as problem:
        yield f"{path}:{problem.lineno}: {problem.msg}"


def long_files(root):
    for path in text_files(root):
        if path.endswith((".c", ".h", ".py")) or path.startswith("scripts/"):
            lines = read(root, path).count("\n")
            if lines > LONG_FILE:
                yield f"{path}: {lines} lines, more than {LONG_FILE}: is it about one subject?"


CHECKS = [check_layers, check_library, check_words, check_scripts]


def problems(root):
    return [problem for check in CHECKS for problem in check(root)]


def main(arguments):
    root = arguments[0] if arguments else os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for warning in long_files(root):
        print(f"warning: {warning}")
    found = problems(root)
    print("\n".join(found) if found else "lint: nothing found")
    if not shutil.which("shellcheck"):
        print("shellcheck is not installed: scripts were only parsed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
