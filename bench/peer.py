#!/usr/bin/env python3
"""The peer: llama.cpp as the PyPI source package llama-cpp-python carries it, built outside the tree.

usage: bench/peer.py [PROGRAM...]   prints the folder of its programs, building those named (all that measure without
                                    serving) first where needed

BULLA_LLAMA names a folder that has them already. Built once into the cache (~/.cache/bulla/peers), Release, native, by
BULLA_JOBS compilers at a time (one a core).
gcc 12's _tile_loadconfig declares too little of its operand as read, so that the compiler may drop the writes to it:
a compiler barrier goes before its one use.
"""
import hashlib
import os
import subprocess
import sys

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
PROGRAMS = ["llama-bench", "llama-batched-bench", "llama-quantize", "llama-completion"]
SERVER = "llama-server"
OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
           "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_OPENSSL=OFF",
           "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"]  # its server without a page: that would be downloaded


def cache_folder():
    base = os.environ.get("BULLA_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "bulla")
    folder = os.path.join(base, "peers", PACKAGE + "-" + VERSION)
    os.makedirs(folder, exist_ok=True)
    return folder


def run(*command):
    subprocess.run(command, check=True, stdout=sys.stderr)


def unpack(folder):
    source = os.path.join(folder, "source")
    if not os.path.isdir(source):
        run(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE, "-q",
            "-d", folder, PACKAGE + "==" + VERSION)
        archive = next(name for name in os.listdir(folder) if name.endswith(".tar.gz"))
        os.makedirs(source + ".partial", exist_ok=True)
        run("tar", "-xzf", os.path.join(folder, archive), "-C", source + ".partial")
        os.rename(source + ".partial", source)
    return os.path.join(source, os.listdir(source)[0], "vendor", "llama.cpp")


def add_barrier(root):
    path = os.path.join(root, "ggml", "src", "ggml-cpu", "amx", "mmq.cpp")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    barrier = 'asm volatile("" ::: "memory"); '
    if barrier not in text:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("_tile_loadconfig(", barrier + "_tile_loadconfig("))


def programs(wanted=PROGRAMS):
    given = os.environ.get("BULLA_LLAMA")
    if given:
        return given
    folder = cache_folder()
    build = os.path.join(folder, "build")
    binaries = os.path.join(build, "bin")
    if not all(os.path.exists(os.path.join(binaries, name)) for name in wanted):
        root = unpack(folder)
        add_barrier(root)
        run("cmake", "-S", root, "-B", build, "-G", "Ninja", *OPTIONS)
        run("ninja", "-C", build, "-j", os.environ.get("BULLA_JOBS") or str(os.cpu_count()), *wanted)
    return binaries


def quantised(binaries, model, kind):
    """The GGUF in another of the peer's formats, made once."""
    target = os.path.join(cache_folder(), os.path.basename(model)[:-len(".gguf")] + "." + kind + ".gguf")
    if not os.path.exists(target):
        done = subprocess.run([os.path.join(binaries, "llama-quantize"), "--allow-requantize", model,
                               target + ".partial", kind], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit("llama-quantize could not make %s:\n%s" % (target, done.stdout[-2000:]))
        os.rename(target + ".partial", target)
    return target


def describe(binaries):
    library = os.path.realpath(os.path.join(binaries, "libggml-cpu.so"))
    digest = hashlib.sha256(open(library, "rb").read()).hexdigest()[:16] if os.path.exists(library) else "?"
    return {"package": PACKAGE, "version": VERSION, "options": OPTIONS, "libggml_cpu_sha256": digest}


if __name__ == "__main__":
    print(programs(sys.argv[1:] or PROGRAMS))
