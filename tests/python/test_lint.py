#!/usr/bin/env python3
"""The tree passes its own lint, and lint notices each kind of violation when one is planted."""
import os
import shutil
import tempfile

import lint
from checks import Checks

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

CLEAN = {
    "src/base/memory.c": '#include "base/memory.h"\nvoid f(void) { free(calloc(1, 1)); }\n',
    "src/model/gguf.c": '#include <stdio.h>\n#include "base/memory.h"\n#include "bulla/error.h"\n'
                        '/* free(x), never printf("…") */ const char *text = "exit(1)"; int g(void) { return fake_free(); }\n',
    "src/cli/main.c": '#include "model/gguf.h"\n#include "bulla/tokenizer.h"\nint main(void) { printf("x"); }\n',
    "include/bulla/error.h": "#include <stdarg.h>\n",
    "include/bulla/tokenizer.h": '#include "bulla/error.h"\n',
    "scripts/hello": "#!/usr/bin/env bash\nset -eu\necho hello\n",
    "docs/page.md": "Words.\n",
    ".git": "gitdir: /work/tree\n",
}

# (a file, its content, what the finding must say)
PLANTED = [
    ("src/model/bad.c", '#include "exec/cpu/engine.h"\n', "layer model includes exec/cpu/engine.h of the later layer exec"),
    ("src/base/bad.h", '#  include "bulla/tokenizer.h"\n', "layer base includes bulla/tokenizer.h of the later layer model"),
    ("src/exec/ref/bad.c", '#include <serve/http.h>\n', "layer exec includes serve/http.h of the later layer serve"),
    ("include/bulla/error.h", '#include "bulla/tokenizer.h"\n', "layer base includes bulla/tokenizer.h"),
    ("include/bulla/novel.h", "", "include/bulla/novel.h: belongs to no layer"),
    ("src/cli/bad.c", '#include "bulla/novel.h"\n', "includes bulla/novel.h, which PUBLIC_HEADERS"),
    ("src/extra/bad.c", "", "src/extra/bad.c: belongs to no layer"),
    ("src/model/bad.c", "void f(void) {\n    free(0);\n}\n", "src/model/bad.c:2: calls free"),
    ("src/model/bad.c", 'void f(void) { fprintf(stderr, "x"); }\n', "calls fprintf"),
    ("src/exec/bad.c", "void f(void) { exit (1); }\n", "calls exit"),
    ("src/base/memory.c", "void f(void) { abort(); }\n", "calls abort"),
    ("src/base/bad.c", "/* TODO */\n", '"TODO" is an unfinished mark'),
    ("docs/bad.md", "See /work/x.\n", '"/work/" is a path of one machine'),
    ("docs/bad.md", "From pypi.org.\n", "is a registry's host name"),
    ("README.md", "FIXME\n", "README.md:1:"),
    ("scripts/bad", "#!/usr/bin/env bash\nif true; then\n", "scripts/bad: bash:"),
    ("scripts/bad", "#!/usr/bin/env python3\ndef f(:\n", "scripts/bad:2:"),
    ("scripts/bad", "echo\n", "expected #! of sh, bash or python3"),
    ("tests/python/bad.py", "x = (\n", "tests/python/bad.py:"),
]


def write(root, path, content):
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w") as file:
        file.write(content)
    if path.startswith("scripts/"):
        os.chmod(full, 0o755)


def findings_with(planted):
    root = tempfile.mkdtemp()
    try:
        for path, content in CLEAN.items():
            write(root, path, content)
        for path, content in planted:
            write(root, path, content)
        return lint.problems(root), list(lint.long_files(root))
    finally:
        shutil.rmtree(root)


def main():
    checks = Checks()
    checks.equal(findings_with([]), ([], []), "a clean tree has no finding")
    for path, content, expected in PLANTED:
        found, _ = findings_with([(path, content)])
        checks.equal([line for line in found if not line.startswith(path)], [], f"{path} {content!r}: no other file")
        checks.contains("\n".join(found), expected, f"{path} {content!r}")
    found, warnings = findings_with([("src/base/long.c", "\n" * 801)])
    checks.equal(found, [], "length is no finding")
    checks.equal(len(warnings), 1, "length is a warning")
    checks.equal(lint.problems(ROOT), [], "this tree has no finding")
    checks.finish()


if __name__ == "__main__":
    main()
