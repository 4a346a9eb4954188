#!/usr/bin/env python3
"""The verbs that import, inspect, answer, tokenize and measure, from outside: what they print, the cache of imported
models, and what they say of bad input, full disks and interrupts. On a model of a few hundred KB."""
import hashlib
import json
import math
import os
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time

import demo_models
from checks import Checks
from small_source import CONTEXT, PROGRAM, cleaned, make_model, make_source, render

DONE, FAILED, USAGE, CANCELLED = 0, 1, 2, 130
PATIENCE = 120
TOKENS = ("--max-tokens", "24")
VARIED = ("--presence-penalty", "20")
SAMPLED = ("--temperature", "0.5", "--seed", "7", *VARIED)


def bulla(*arguments, data=b"", **options):
    """Status, standard output as bytes, standard error as text."""
    done = subprocess.run([PROGRAM, *arguments], input=data, stdout=options.pop("stdout", subprocess.PIPE),
                          stderr=subprocess.PIPE, timeout=PATIENCE, **options)
    return done.returncode, done.stdout, done.stderr.decode()


def check_refusal(checks, arguments, parts, what, status=FAILED, **options):
    """The verb fails with a sentence that has all parts and prints nothing."""
    found, output, errors = bulla(*arguments, **options)
    checks.equal((found, output), (status, b""), f"{what}: {errors}")
    for part in parts:
        checks.contains(errors, part, what)
    checks.true(errors.startswith(("bulla ", "importing ", "import:")), f"{what}: {errors!r} says who speaks")


def check_run(checks, model):
    status, output, errors = bulla("run", model, "hello", *TOKENS)
    checks.equal((status, errors), (DONE, "(cut after 24 tokens: --max-tokens)\n"), "run")
    checks.true(len(output) > 1 and output.endswith(b"\n"), f"run prints an answer: {output}")
    checks.equal(bulla("run", model, "-", *TOKENS, data=b"hello")[1], output, "run - reads standard input")
    checks.equal(bulla("run", model, *TOKENS, data=b"hello\n")[1], output, "run without a question too, newline apart")
    checks.equal(bulla("run", model, render([("user", "hello")]), "--raw", *TOKENS)[1], output, "run --raw")
    sampled = bulla("run", model, "hello", *TOKENS, *SAMPLED)[1]
    checks.true(sampled != bulla("run", model, "hello", *TOKENS, *VARIED)[1] != output, "options change the answer")
    checks.true(bulla("run", model, "hello", *TOKENS, "--temperature", "0.5", "--seed", "8", *VARIED)[1] != sampled,
                "a seed too")
    for threads in ("1", "2", "3", "7"):
        checks.equal(bulla("run", model, "hello", *TOKENS, *SAMPLED, "--threads", threads)[1], sampled,
                     f"the same answer with {threads} threads")
    for isa in ("portable", "avx2", "vnni", "amx"):
        status, found, errors = bulla("run", model, "hello", *TOKENS, *SAMPLED, env=dict(os.environ, BULLA_ISA=isa))
        checks.true(found == sampled or (status == FAILED and isa in errors), f"BULLA_ISA={isa}: {found} {errors}")
    checks.equal(bulla("run", model, "hello", "--top-k", "1", "--temperature", "3", *TOKENS)[1], output, "--top-k 1")
    checks.true(bulla("run", model, "hello", *TOKENS, "--system", "Be brief.")[1] != b"", "--system")
    check_ids(checks, model, sampled)


def check_ids(checks, model, sampled):
    status, output, _ = bulla("run", model, "hello", *TOKENS, *SAMPLED, "--ids")
    answer = json.loads(output)
    checks.equal((status, sorted(answer)), (DONE, ["finish", "output", "prompt"]), "run --ids")
    checks.equal((answer["finish"], len(answer["output"])), ("length", 24), "--ids: how it ended")
    prompt = bulla("tokenize", model, "--special", "--json", render([("user", "hello")]))[1]
    checks.equal(answer["prompt"], json.loads(prompt), "--ids: the prompt's tokens")
    text = bulla("detokenize", model, data=json.dumps(answer["output"]).encode())[1]
    checks.equal(text, sampled[:-1], "--ids: the answer's tokens spell the answer")
    short = json.loads(bulla("run", model, "hello", "--max-tokens", "5", *SAMPLED, "--ids")[1])
    checks.equal(short["output"], answer["output"][:5], "a shorter answer is the beginning of a longer one")
    whole = json.loads(bulla("run", model, "hello", "--max-tokens", "0", *SAMPLED, "--ids")[1])
    room = CONTEXT - len(whole["prompt"])
    checks.true(whole["finish"] == "stop" or (whole["finish"], len(whole["output"])) == ("length", room),
                f"an answer of {len(whole['output'])} tokens that ends by {whole['finish']}; there is room for {room}")


def check_speculation(checks, model):
    """Guessing ahead changes nothing but the time, on prompts and answers that repeat themselves."""
    proposed = 0
    for options in ((), SAMPLED, ("--repetition-penalty", "1.2"), ("-t", "0.2", "--frequency-penalty", "0.1")):
        arguments = ("run", model, "to be or not to be, to be or not to be, to be", "--max-tokens", "0", *options)
        plain = bulla(*arguments, "--ids", "--speculate", "0")
        checks.equal((plain[0], plain[2]), (DONE, ""), "--speculate 0")
        for most in ("1", "3", "15"):
            checks.equal(bulla(*arguments, "--ids", "--speculate", most), plain, f"--speculate {most} {options}")
        status, output, errors = bulla(*arguments, "--timing")
        checks.equal((status, output), (DONE, bulla(*arguments)[1]), "--timing changes nothing")
        found = re.search(r"\(prompt: (\d+) tokens in .* s; answer: (\d+) tokens in .* s; (\d+) of (\d+) ", errors)
        checks.true(found, f"--timing: {errors}")
        answer = json.loads(plain[1])
        checks.equal([int(found[1]), int(found[2])], [len(answer["prompt"]), len(answer["output"])], "--timing: tokens")
        checks.true(int(found[3]) <= int(found[4]), f"--timing: guesses {errors}")
        proposed += int(found[4])
    checks.true(proposed > 0, "something was guessed")
    checks.contains(bulla("run", model, "x", *TOKENS, "--timing", "--speculate", "0")[2], "0 of 0 guesses", "none")
    check_refusal(checks, ("run", model, "x", "--speculate", "16"), ["--speculate", "from 0 to 15"], "too many", USAGE)


def check_questions(checks, model):
    room = (CONTEXT - 1) * 4
    check_refusal(checks, ("run", model, "xy" * room), ["the prompt has ", f"context of {CONTEXT}"], "a long question")
    exact = "<s>" * CONTEXT
    status, output, errors = bulla("run", model, exact, "--raw")
    checks.equal((status, output), (DONE, b"\n"), "a prompt of the context's length")
    checks.contains(errors, "context is full", "is said")
    check_refusal(checks, ("run", model, "<s>" * (CONTEXT + 1), "--raw"),
                  [f"the prompt has {CONTEXT + 1} tokens", f"context of {CONTEXT}"], "one token more")
    check_refusal(checks, ("run", model, b"caf\xe9"), ["not UTF-8", "0xE9 at offset 3 of 4"], "Latin-1")
    check_refusal(checks, ("run", model, "x", "--system", b"\xff"), ["the system's text", "0xFF"], "Latin-1 system")
    checks.equal(bulla("run", model, b"caf\xe9", "--raw", *TOKENS)[0], DONE, "--raw takes any bytes")
    checks.equal(bulla("run", model, "--raw", *TOKENS, data=b"a\0b")[0], DONE, "--raw takes NUL")
    check_refusal(checks, ("run", model, "", "--raw"), ["the prompt is empty"], "an empty prompt", USAGE)
    checks.equal(bulla("run", model, "", *TOKENS)[0], DONE, "an empty question has a template around it")
    check_refusal(checks, ("run", model, "x", "--raw", "--system", "y"), ["--system needs a chat template"],
                  "--system with --raw", USAGE)
    for options, part in ((("--temperature", "100.1"), "from 0 to 100"), (("--top-p", "1.5"), "from 0 to 1"),
                          (("--repetition-penalty", "0"), "from 0.01 to 100"), (("--seed", "x"), "whole number"),
                          (("--min-p", "0.0000001"), "6 decimal places"), (("--threads", "257"), "from 0 to 256")):
        check_refusal(checks, ("run", model, "x", *options), [options[0], part], " ".join(options), USAGE)


def check_start_token(checks, folder):
    """A tokenizer that wants <s> in front and </s> at the end: the first once, the second never in a prompt."""
    model = make_model(folder, "framed", tokenizer_class="LlamaTokenizer", add_bos_token=True, add_eos_token=True)
    checks.equal(bulla("tokenize", model, "--start", "--json", "x")[1], b"[1,90,2]\n", "tokenize --start")

    def prompt(*arguments):
        return json.loads(bulla("run", model, *arguments, "--ids", *TOKENS)[1])["prompt"]

    checks.equal(prompt("x", "--raw"), [1, 90], "--raw: a start token, no end token")
    checks.equal(prompt("<s>x", "--raw"), [1, 90], "one that is written counts")
    checks.equal(prompt("", "--raw"), [1], "an empty text with a start token is a prompt")
    rendered = json.loads(bulla("tokenize", model, "--special", "--json", render([("user", "x")]))[1])
    checks.equal(prompt("x"), rendered, "a template that writes it")


def check_no_template(checks, folder):
    model = make_model(folder, "plain", template=None)
    status, output, errors = bulla("run", model, "hello", *TOKENS)
    checks.equal(status, DONE, "a model without a template")
    checks.contains(errors, "no chat template", "is said")
    checks.equal(output, bulla("run", model, "hello", "--raw", *TOKENS)[1], "it goes on as with --raw")
    checks.contains(bulla("inspect", model)[1], b"chat template   none", "inspect says it")


def check_files(checks, model, folder):
    data = open(model, "rb").read()
    bad = os.path.join(folder, "bad.bulla")
    for verb in (("run", bad, "x"), ("inspect", bad), ("chat", bad), ("bench", bad), ("tokenize", bad, "x")):
        check_refusal(checks, verb, [bad, "no such file"], f"{verb[0]} without a file")
    for length in (0, 1, 16, 4095, 4096, 100000, len(data) - 1):
        with open(bad, "wb") as file:
            file.write(data[:length])
        check_refusal(checks, ("inspect", bad), [bad], f"{length} of {len(data)} bytes")
    for position in (20, 5000, len(data) // 2, len(data) - 2):
        with open(bad, "wb") as file:
            file.write(data[:position] + bytes([data[position] ^ 4]) + data[position + 1:])
        check_refusal(checks, ("run", bad, "x"), [bad], f"byte {position} changed")
    check_refusal(checks, ("run", folder, "x"), [folder], "a folder that holds no model")
    check_refusal(checks, ("run", "/dev/null", "x"), ["/dev/null"], "a device")
    os.mkfifo(os.path.join(folder, "pipe"))
    check_refusal(checks, ("run", os.path.join(folder, "pipe"), "x"), ["pipe"], "a named pipe")
    with open(bad, "w") as file:
        file.write("not a model\n")
    check_refusal(checks, ("run", bad, "x"), ["not a model"], "a text file")
    with open(bad, "wb") as file:
        file.write(b"GGUF" + bytes(3))
    check_refusal(checks, ("import", bad, "-o", bad + ".out"), [bad], "a cut GGUF")
    checks.true(not os.path.exists(bad + ".out"), "leaves nothing")


def check_inspect(checks, model):
    status, output, errors = bulla("inspect", model)
    checks.equal((status, errors), (DONE, ""), "inspect")
    for part in (b"architecture    llama", b"layers          3", b"context         512 positions", b"model root",
                 b"source digest", b"vocabulary      320", b"3 attend", b"chat template   "):
        checks.contains(output, part, "inspect")
    status, output, _ = bulla("inspect", model, "--program")
    program = json.loads(output)
    checks.equal((status, program["vocabulary"], program["context"]), (DONE, 320, CONTEXT), "inspect --program")
    sizes = {"i8": 1, "u8": 1, "i16": 2, "u16": 2, "i32": 4, "u32": 4, "u64": 8}
    for tensor in program["tensors"][:12]:
        status, output, _ = bulla("inspect", model, "--tensor", tensor["name"])
        count = 1
        for length in tensor["shape"]:
            count *= length
        checks.equal((status, len(output)), (DONE, count * sizes[tensor["dtype"]]), f"--tensor {tensor['name']}")
    names = [tensor["name"] for tensor in program["tensors"]]
    parts = [bulla("inspect", model, "--tensor", name)[1] for name in names[:5]]
    checks.equal(bulla("inspect", model, "--tensor", ",".join(names[:5]))[1], b"".join(parts), "several tensors")
    checks.equal(len(bulla("inspect", model, "--tensor", ",".join(names))[1]),
                 sum(tensor["bytes"] for tensor in program["tensors"]), "all tensors")
    check_refusal(checks, ("inspect", model, "--tensor", names[0] + ",x"), ['"x"'], "one that is not there", USAGE)
    check_refusal(checks, ("inspect", model, "--tensor", names[0] + ","), ['""'], "an empty name", USAGE)
    check_refusal(checks, ("inspect", model, "--tensor", "nothing"), ['"nothing"', "--program"], "no tensor", USAGE)
    check_refusal(checks, ("inspect", model, "--tensor", "x", "--program"), ["exclude"], "both", USAGE)
    with open("/dev/full", "w") as full:
        status = bulla("inspect", model, "--program", stdout=full)[0]
    checks.equal(status, FAILED, "inspect onto a full disk")


def root_of(output):
    return output.split()[2].decode()


def check_import(checks, folder):
    source, path = make_source(os.path.join(folder, "import")), os.path.join(folder, "imported.bulla")
    status, output, errors = bulla("import", source, "-o", path)
    checks.equal(status, DONE, f"import: {errors}")
    checks.contains(errors, "import: ", "progress in lines")
    for part in (b"model root  ", path.encode(), b"time "):
        checks.contains(output, part, "what import prints")
    root = root_of(output)
    checks.contains(bulla("inspect", path)[1].decode(), f"model root      {root}", "inspect says the same root")
    first = open(path, "rb").read()
    checks.equal(root_of(bulla("import", source, "-o", path, "--threads", "3")[1]), root, "threads change nothing")
    checks.equal(open(path, "rb").read(), first, "the same bytes")
    checks.true(root_of(bulla("import", source, "-o", path, "--fast")[1]) != root, "--fast is another program")
    checks.equal(root_of(bulla("import", source, "-o", path, "--context", "100")[1]) != root, True, "--context too")
    checks.contains(bulla("inspect", path)[1], b"100 positions", "the context asked for")
    check_import_template(checks, folder, source)
    check_refusal(checks, ("import", source), ["-o FILE"], "import to nowhere", USAGE)
    check_refusal(checks, ("import", source + "x", "-o", path), [source + "x"], "a source that is not there")
    check_refusal(checks, ("import", source, "-o", os.path.join(folder, "no", "file")), ["no/file"], "no such folder")
    check_refusal(checks, ("import", source, "-o", folder), [folder], "a folder as output", USAGE)


def check_import_template(checks, folder, source):
    path, own = os.path.join(folder, "template.bulla"), os.path.join(folder, "own.jinja")
    check_refusal(checks, ("import", source, "-o", path, "--template", own), [own, "No such file"], "no template file")
    with open(own, "w") as file:
        file.write("{% for m in messages %}\n{{ m.content | frobnicate }}{% endfor %}")
    check_refusal(checks, ("import", source, "-o", path, "--fast", "--template", own), ["line 2", "frobnicate"],
                  "a template with a filter that there is not")
    checks.true(not os.path.exists(path), "and no file")
    with open(own, "w") as file:
        file.write("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    checks.equal(bulla("import", source, "-o", path, "--fast", "--template", own)[0], DONE, "--template")
    checks.equal(bulla("run", path, "hi", *TOKENS)[1], bulla("run", path, "[hi]", "--raw", *TOKENS)[1], "is used")


def leftovers(folder):
    return [name for name in os.listdir(folder) if "partial" in name]


def check_import_cut(checks, folder):
    """Full disks and interrupts leave neither a model nor a part of one."""
    source, path = make_source(os.path.join(folder, "cut")), os.path.join(folder, "cut.bulla")
    for limit in (1000, 100000, 371000):
        check_refusal(checks, ("import", source, "--fast", "-o", path), ["File too large"], f"{limit} bytes of disk",
                      preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        checks.equal((os.path.exists(path), leftovers(folder)), (False, []), "nothing is left")
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen([PROGRAM, "import", source, "-o", path], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stderr.readline()
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
        checks.equal((process.returncode, output), (CANCELLED, b""), f"import and {number.name}: {errors}")
        checks.equal((os.path.exists(path), leftovers(folder)), (False, []), "nothing is left")


def check_progress_bar(checks, folder):
    source = make_source(os.path.join(folder, "bar"))
    leader, follower = pty.openpty()
    process = subprocess.Popen([PROGRAM, "import", source, "-o", source + ".bulla"], stdout=subprocess.PIPE,
                               stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            data = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        shown += data
    checks.equal(process.wait(PATIENCE), DONE, "import on a terminal")
    checks.contains(shown, b"import [", "a bar")
    checks.contains(shown, b"%", "with a percentage")
    checks.true(shown.endswith(b"\r\x1b[K"), f"which is gone at the end: {shown[-80:]}")
    os.close(leader)


def check_cache(checks, folder):
    cache = os.path.join(folder, "cache", "deep")
    source = make_source(os.path.join(folder, "cached"))
    environment = dict(os.environ, BULLA_CACHE=cache)

    def run(**changes):
        return bulla("run", source, "hello", *TOKENS, env=dict(environment, **changes))

    def models():
        return sorted(name for name in os.listdir(os.path.join(cache, "models")) if name.endswith(".bulla"))

    first = run()
    checks.equal(first[0], DONE, f"run on a source: {first[2]}")
    checks.contains(first[2], "importing ", "it is imported")
    second = run()
    checks.equal((second[0], second[1]), (DONE, first[1]), "again")
    checks.equal(second[2], "(cut after 24 tokens: --max-tokens)\n", "and not imported again")
    os.utime(os.path.join(source, "config.json"))
    checks.equal(run()[1:], second[1:], "the same files at another time: nothing is imported")
    checks.equal(len(models()), 1, "one model is kept")
    kept = os.path.join(cache, "models", models()[0])
    with open(kept, "r+b") as file:
        file.seek(10000)
        file.write(b"damage")
    repaired = run()
    checks.equal(repaired[:2], first[:2], "a damaged import is replaced")
    checks.contains(repaired[2], "it is imported again", "and that is said")
    with open(os.path.join(source, "tokenizer_config.json"), "a") as file:
        file.write(" ")
    checks.contains(run()[2], "importing ", "a changed source is another model")
    checks.equal(len(models()), 2, "two models are kept")
    check_cache_at_once(checks, source, environment, models)
    check_cache_places(checks, folder, source, run)


def signature(path):
    """What a file is remembered by (src/cli/model_cache.h)."""
    status = os.stat(path)
    times = ["%d.%09d" % divmod(time_ns, 10**9) for time_ns in (status.st_mtime_ns, status.st_ctime_ns)]
    text = "%s\n%d %d %d %s %s\n" % (os.path.realpath(path), status.st_dev, status.st_ino, status.st_size, *times)
    return hashlib.sha256(text.encode()).hexdigest()


def check_known_root(checks, model, folder):
    """The root is computed once for a file as it is, and always where more than an answer depends on it."""
    file, known = os.path.join(folder, "known.bulla"), os.path.join(folder, "roots", "models", "known")
    shutil.copyfile(model, file)
    environment = dict(os.environ, BULLA_CACHE=os.path.join(folder, "roots"))
    first = bulla("run", file, "hello", *TOKENS, env=environment)
    remembered = os.path.exists(known)
    checks.equal(first[0], DONE, f"a copy: {first[2]}")
    checks.true(not remembered or time.time() - os.stat(file).st_ctime > 2, "a file that was just written is not remembered")
    time.sleep(3.5)
    checks.equal(bulla("inspect", file, env=environment)[0], DONE, "inspect")
    checks.equal(os.path.exists(known), remembered, "inspect remembers nothing")
    checks.equal(bulla("run", file, "hello", *TOKENS, env=environment), first, "later")
    root = open(os.path.join(known, signature(file))).read()
    checks.contains(bulla("inspect", file)[1].decode(), root.strip(), "the root is remembered")
    checks.equal(bulla("run", file, "hello", *TOKENS, env=environment), first, "and the answer is the same")
    with open(file, "r+b") as opened:
        opened.seek(os.path.getsize(file) // 2)
        byte = opened.read(1)[0]
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes([byte ^ 1]))
    check_refusal(checks, ("run", file, "x"), ["the model root is"], "a changed file", env=environment)
    time.sleep(3.5)
    check_refusal(checks, ("run", file, "x"), ["the model root is"], "a changed file later", env=environment)
    checks.equal(len(os.listdir(known)), 1, "it is not remembered")
    with open(os.path.join(known, signature(file)), "w") as opened:
        opened.write(root)
    checks.equal(bulla("run", file, "hello", *TOKENS, env=environment)[0], DONE, "what is remembered is not computed again")
    for verb in (("inspect", file), ("serve", file, "--listen", "127.0.0.1:0", "--insecure-http")):
        status, _, errors = bulla(*verb, env=environment)
        checks.equal(status, FAILED, f"{verb[0]}: {errors}")
        checks.contains(errors, "the model root is", f"{verb[0]} computes it")
    with open(os.path.join(known, signature(file)), "w") as opened:
        opened.write("0" * 64 + "\n")
    check_refusal(checks, ("run", file, "x"), ["the model root is"], "another root than the header's", env=environment)


def check_cache_at_once(checks, source, environment, models):
    with open(os.path.join(source, "tokenizer_config.json"), "a") as file:
        file.write(" ")
    command = [PROGRAM, "run", source, "hello", *TOKENS]
    stale = os.path.join(environment["BULLA_CACHE"], "models")
    runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(4)]
    results = [process.communicate(timeout=PATIENCE) for process in runs]
    checks.equal([process.returncode for process in runs], [DONE] * 4, "four processes at once")
    checks.equal(len({output for output, _ in results}), 1, "give one answer")
    checks.equal(sum(b"importing " in errors for _, errors in results), 1, "after one import")
    checks.equal((len(models()), leftovers(stale)), (3, []), "of which one file is left")
    with open(os.path.join(source, "tokenizer_config.json"), "a") as file:
        file.write(" ")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stderr.readline()
    end = time.monotonic() + 20
    while not leftovers(stale) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    checks.equal(len(leftovers(stale)), 1, "a killed import leaves its part")
    checks.equal(subprocess.run(command, env=environment, capture_output=True).returncode, DONE, "the next one succeeds")
    checks.equal(leftovers(stale), [], "and takes the part away")


def check_cache_places(checks, folder, source, run):
    home = os.path.join(folder, "home")
    os.mkdir(home)
    status, _, errors = run(BULLA_CACHE="", XDG_CACHE_HOME="", HOME=home)
    checks.equal(status, DONE, f"HOME: {errors}")
    checks.true(os.path.isdir(os.path.join(home, ".cache", "bulla", "models")), "the cache in HOME")
    status, _, errors = run(BULLA_CACHE="", XDG_CACHE_HOME="", HOME="")
    checks.equal(status, USAGE, "no place for a cache")
    checks.contains(errors, "BULLA_CACHE", "is said")
    status, _, errors = run(BULLA_CACHE=os.path.join(source, "config.json"))
    checks.equal(status, FAILED, "a file where the cache should be")
    checks.contains(errors, "config.json", "is named")
    full = os.path.join(folder, "full")
    check_refusal(checks, ("run", source, "x"), ["File too large"], "a full disk under the cache",
                  env=dict(os.environ, BULLA_CACHE=full),
                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)))
    checks.equal(leftovers(os.path.join(full, "models")), [], "leaves no part")


def check_tokenize(checks, model):
    text = "Hello, 世界! \x00\n <s>".encode() + bytes(range(256))
    ids = bulla("tokenize", model, data=text)[1]
    checks.true(all(line.isdigit() for line in ids.decode().split("\n")[:-1]), "one id a line")
    checks.equal(json.loads(bulla("tokenize", model, "--json", data=text)[1]), [int(i) for i in ids.split()], "--json")
    checks.equal(bulla("detokenize", model, data=b"1 2,3")[0], DONE, "detokenize")
    text = "Hello, 世界! \n and so on".encode()
    ids = bulla("tokenize", model, data=text)[1]
    checks.equal(bulla("detokenize", model, data=ids), (DONE, text, ""), "there and back")
    checks.equal(bulla("tokenize", model, "<s>", "--special"), (DONE, b"1\n", ""), "--special")
    checks.true(bulla("tokenize", model, "<s>")[1] != b"1\n", "without it a control token's spelling is text")
    checks.equal(bulla("detokenize", model, "--control", data=b"1")[1], b"<s>", "--control")
    checks.equal(bulla("detokenize", model, data=b"1")[1], b"", "without it control tokens are left out")
    checks.equal(bulla("detokenize", model)[:2], (DONE, b""), "no ids")
    for data in (b"320", b"1 x", b"-1", b"99999999999999999999999", b"1\0"):
        check_refusal(checks, ("detokenize", model), ["token id below 320"], f"ids {data}", data=data)


def check_terminal_output(checks, model):
    """What a model says must not steer a terminal; a pipe gets it as it is."""
    text = "a\x1b[31m\u009b2J\x07\x7f\tb\u00e9\n"
    ids = bulla("tokenize", model, data=text.encode())[1]
    checks.equal(bulla("detokenize", model, data=ids)[1].decode(), text, "through a pipe")
    leader, follower = pty.openpty()
    status = bulla("detokenize", model, data=ids, stdout=follower)[0]
    os.close(follower)
    shown = os.read(leader, 4096).decode().replace("\r\n", "\n")
    os.close(leader)
    checks.equal((status, shown), (DONE, cleaned(text)), "on a terminal")


def check_bench(checks, model):
    status, output, errors = bulla("bench", model, "--threads", "2", "--prefill", "64", "--decode", "8", "--json",
                                   "--repetitions", "3", "--depth", "5", "--streams", "3")
    checks.equal((status, errors), (DONE, ""), "bench")
    found = json.loads(output)
    checks.equal([found[key] for key in ("threads", "prefill", "decode", "depth", "streams", "repetitions")],
                 [2, 64, 8, 5, 3, 3], "what bench measured")
    checks.true(found["prefill_tokens_per_second"] > 0 and found["decode_tokens_per_second"] > 0, f"speeds: {found}")
    checks.true(found["load_seconds"] > 0 and found["isa"], "load and kernels")
    found = json.loads(bulla("bench", model, "--prefill", "0", "--decode", "4", "--json", "-r", "1")[1])
    checks.equal(found["prefill_tokens_per_second"], None, "what is not measured is null")
    checks.contains(bulla("bench", model, "-p", "16", "-n", "4", "-r", "2")[1], b"tokens/s", "bench for people")
    check_refusal(checks, ("bench", model, "--prefill", "513"), ["513 tokens", "context of 512"], "too long a prompt")
    check_refusal(checks, ("bench", model, "--depth", "500", "--decode", "13"), ["513 tokens"], "too deep")


def check_profile_phase(checks, program, phase, speeds, tokens, heads):
    """One phase of a profile: its parts make up the whole, and its counts follow from the program's shapes. `heads` is
    how many positions had logits."""
    names = [stage["name"] for stage in phase["stages"]]
    checks.equal((phase["tokens"], len(set(names))), (tokens, len(names)), f"tokens, and each stage once: {names}")
    parts = [stage["seconds"] for stage in phase["stages"]] + [phase["between_seconds"]]
    checks.true(min(parts) >= 0 and abs(sum(parts) - phase["seconds"]) < 1e-6, f"{parts} make {phase['seconds']}")
    checks.true(speeds[0] - 0.01 <= tokens / phase["seconds"] <= speeds[1] + 0.01,
                f"{tokens} in {phase['seconds']} s are in {speeds}")
    elements = {tensor["name"]: math.prod(tensor["shape"]) for tensor in program["tensors"]}
    everywhere = set()  # operations that later positions attend to; others are needed at those with logits alone
    expected = 0
    for index, operation in reversed(list(enumerate(program["operations"]))):
        if index in everywhere:
            everywhere.update(operation["inputs"])
        elif operation["kind"] == "attend":
            everywhere.update(operation["inputs"][1:])
        if operation["kind"] == "linear":
            expected += elements[operation["tensors"]["W"]] * (tokens if index in everywhere else heads)
    checks.equal(sum(stage["multiply_adds"] for stage in phase["stages"] if stage["name"] != "attend()"), expected,
                 "multiply-adds of linear operations")
    for stage in phase["stages"]:
        reads = stage["weight_bytes"] + stage["cache_bytes"]
        checks.equal(stage["bound_by"] is None, reads + stage["multiply_adds"] == 0, f"a bound where is work: {stage}")
        checks.equal(stage["seconds_at_best"] > 0, stage["calls"] > 0 and stage["bound_by"] is not None, f"{stage}")
    attend = phase["stages"][names.index("attend()")]
    checks.true(attend["cache_bytes"] > 0 == attend["weight_bytes"], f"attention reads the cache: {attend}")
    checks.true(phase["multiply_adds_per_second_at_best"] > 0, "a bound for multiplying")


def check_bench_profile(checks, model):
    status, output, errors = bulla("bench", model, "--profile", "--json", "-p", "64", "-n", "8", "-r", "3", "--threads",
                                   "2", "--depth", "5", "--streams", "2")
    checks.equal((status, errors), (DONE, ""), "bench --profile")
    found, program = json.loads(output), json.loads(bulla("inspect", model, "--program")[1])
    profile = found["profile"]
    check_profile_phase(checks, program, profile["prefill"], found["prefill_range"], 3 * 64, 3)
    check_profile_phase(checks, program, profile["decode"], found["decode_range"], 3 * 2 * 8, 3 * 2 * 8)
    checks.true(profile["large_bytes"] >= 1 << 30 and profile["large_bytes_per_second"] > 0 and
                profile["weights_bytes_per_second"] > 0 and 0 < profile["weight_bytes"] < os.path.getsize(model),
                "what reading gives")
    lines = bulla("bench", model, "--profile", "-p", "0", "-n", "4", "-r", "1")[1].decode()
    for part in ("tokens/s", "decode,", "attend()", "between stages"):
        checks.contains(lines, part, "a profile for people")
    checks.true("prefill" not in lines, f"what is not measured is left out: {lines}")
    check_refusal(checks, ("bench", model, "--profile", "-p", "0", "-n", "0"), ["--profile", "both 0"],
                  "nothing to profile", status=USAGE)
    check_refusal(checks, ("bench", model, "--profile=1"), ["--profile takes no value"], "a value", status=USAGE)


def check_closed_pipe(checks, model):
    process = subprocess.Popen([PROGRAM, "run", model, "hello", "--max-tokens", "0"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    process.stdout.close()
    checks.equal(process.wait(PATIENCE), -signal.SIGPIPE, "a reader that goes away ends the answer")
    with open("/dev/full", "w") as full:
        status, _, errors = bulla("run", model, "hello", *TOKENS, stdout=full)
    checks.equal(status, FAILED, "an answer onto a full disk")
    checks.contains(errors, "could not be written", "is said")


def check_real_model(checks, model):
    """A real model answers a real question, in one turn and in two, with any threads."""
    if not model:
        print("no BULLA_MODELS: no real model is asked")
        return
    question = "Tell me the capital of France."
    status, output, errors = bulla("run", model, question)
    checks.equal((status, errors), (DONE, ""), "a real model")
    checks.contains(output, b"Paris", question)
    ids = json.loads(bulla("run", model, question, "--ids", "--threads", "1")[1])
    checks.equal(ids["finish"], "stop", "its answer ends by itself")
    checks.equal(bulla("detokenize", model, data=json.dumps(ids["output"]).encode())[1] + b"\n", output,
                 "its tokens with one thread")
    repeating = ("run", model, "Repeat this three times: the quick brown fox", "--ids", "--max-tokens", "60")
    checks.equal(bulla(*repeating), bulla(*repeating, "--speculate", "0"), "an answer that repeats itself")
    turns = bulla("chat", model, "--max-tokens", "40", data=f"{question}\nAnd what is it known for?\n".encode())
    checks.equal(turns[0], DONE, f"two turns: {turns[2]}")
    checks.true(turns[1].startswith(output) and len(turns[1]) > len(output) + 10, f"two turns: {turns[1]}")


def check_streaming(checks, model):
    """The answer comes as it is made."""
    process = subprocess.Popen([PROGRAM, "run", model, "hello", "--max-tokens", "0"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    ready = select.select([process.stdout], [], [], PATIENCE)[0]
    first = os.read(process.stdout.fileno(), 64) if ready else b""
    checks.true(first and process.poll() is None, "text comes before the answer ends")
    process.kill()
    process.communicate()


def main():
    checks = Checks()
    real_model = demo_models.model("smollm2")  # from the cache that tests share
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BULLA_CACHE"] = os.path.join(folder, "cache")
        model = make_model(folder, "model")
        check_run(checks, model)
        check_speculation(checks, model)
        check_questions(checks, model)
        check_start_token(checks, folder)
        check_no_template(checks, folder)
        check_files(checks, model, folder)
        check_inspect(checks, model)
        check_import(checks, folder)
        check_import_cut(checks, folder)
        check_progress_bar(checks, folder)
        check_cache(checks, folder)
        check_known_root(checks, model, folder)
        check_tokenize(checks, model)
        check_terminal_output(checks, model)
        check_bench(checks, model)
        check_bench_profile(checks, model)
        check_closed_pipe(checks, model)
        check_real_model(checks, real_model)
        check_streaming(checks, make_model(folder, "long", context=100000))
    checks.finish()


if __name__ == "__main__":
    main()
