"""The demo models as model files, imported once into the cache.

    from demo_models import model, sources
    for name, gguf in sources(): ...     # those of $BULLA_MODELS that are there
    path = model("smollm2")              # imported with error feedback, or None where its GGUF is not there
    path = tool_model()                  # SmolLM2 with a chat template that takes tools, imported with --fast, or None

The cache's key covers the GGUF's bytes and the sources that decide what import gives, so that a change to the
importer is never tested with a model made before it.
"""
import fcntl
import glob
import hashlib
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
PROGRAM = os.path.join(BUILD, "src", "bulla")
TOOL_TEMPLATE = os.path.join(ROOT, "tests", "clients", "tools_template.jinja")
PATTERNS = {"smollm2": "SmolLM2-135M-Instruct*.gguf", "gemma3": "gemma-3-270m*.gguf"}
DECIDING = ["src/model/*", "src/base/json.c", "src/base/decimal.c", "src/base/merkle*.c", "src/base/hash.c",
            "src/base/threads.c", "src/exec/ref/import_run.c", "src/exec/ref/operations.c", "src/exec/cpu/import_run.c",
            "src/exec/cpu/kernels*", "src/exec/cpu/pack.*"]


def cache():
    base = os.environ.get("BULLA_CACHE")
    return base or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "bulla")


def source(name):
    """The path of a demo model's GGUF, or None."""
    found = sorted(glob.glob(os.path.join(os.environ.get("BULLA_MODELS", "/nowhere"), PATTERNS[name])))
    return found[0] if found else None


def sources():
    return [(name, source(name)) for name in PATTERNS if source(name)]


def digest(paths):
    total = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def deciding_files():
    return [path for pattern in DECIDING for path in sorted(glob.glob(os.path.join(ROOT, pattern)))]


def model(name):
    """The model file, imported where the cache has none; the import's failure is an exception."""
    gguf = source(name)
    return gguf and imported(name, gguf, [])


def tool_model():
    gguf = source("smollm2")
    return gguf and imported("tools-smollm2", gguf, ["--fast"], TOOL_TEMPLATE)


def imported(name, gguf, options, template=None):
    folder = os.path.join(cache(), "test-models")
    os.makedirs(folder, exist_ok=True)
    inputs = [gguf, template] if template else [gguf]
    path = os.path.join(folder, f"{name}-{digest(inputs + deciding_files())[:24]}.bulla")
    options = options + (["--template", template] if template else [])
    with open(os.path.join(folder, f"{name}.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            for old in glob.glob(os.path.join(folder, f"{name}-*.bulla*")):
                os.remove(old)
            subprocess.run([PROGRAM, "import", gguf, "-o", path, *options], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    return path
