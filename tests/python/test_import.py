#!/usr/bin/env python3
"""Import: the same source gives the same model root with every instruction set, number of threads, compiler and
optimisation; a cut import leaves nothing that loads and the old file as it was; anonymous memory stays bounded; bad
weights, tensors and settings end in a sentence that names them; a changed byte is refused.

With BULLA_TEST_COUNTS full: every golden, builds of their own with gcc -O0, clang -O0 and clang -O3 (in the cache), the
demo models with every instruction set, every field with every value, more kills and flips.

usage: test_import.py [PART]...     roots cut memory weights settings flips
"""
import ctypes
import glob
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import gguf

import demo_models
import import_sources as sources
import importing
from checks import Checks

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
RELEASE, SANITIZE = importing.RELEASE, importing.SANITIZE
# What two goldens import to, with error feedback and without. They change with the goldens themselves
# (tests/goldens/make_goldens.py) and with a wanted change of import's arithmetic, formats or file layout, which raises
# IMPORT_REVISION (src/model/import.h); any other difference is a bug. They must be the same on every machine.
ROOTS = {
    ("llama2", ""): "b25c42e5f9c3dd94ee02091f23046f16d9ef0542b67d7391eeceadd767c609d8",
    ("llama2", "--fast"): "aef705049638088f6af2be6ea2504aebc59f8fa8bdec900217009667ce61d1df",
    ("gemma3", ""): "eb71684a87fa23482f1cc130f01aee7f2adde51da1d48fe215fd60048b2b75a8",
    ("gemma3", "--fast"): "48021e3af7042be6adeb01936fe6876a59202d5fa80cd9c771b13f5cafd4b18b",
}


# --- roots ---

def own_build(compiler, level):
    """The program built with this compiler and optimisation, in the cache, brought up to date."""
    folder = os.path.join(demo_models.cache(), "builds", f"{compiler}-O{level}")
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        environment = dict(os.environ, CC=compiler)
        subprocess.run(["meson", "setup", folder, sources.ROOT, "--buildtype=plain", f"-Doptimization={level}"], check=True,
                       env=environment, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", folder, "src/bulla"], check=True, stdout=subprocess.DEVNULL)
    return os.path.join(folder, "src", "bulla")


def programs():
    """(name, path) of the builds to compare."""
    found = [("release", RELEASE)]
    if os.path.exists(SANITIZE):
        found.append(("sanitize", SANITIZE))
    for compiler, level in (("gcc", 0), ("clang", 0), ("clang", 3)) if FULL else ():
        if shutil.which(compiler):
            found.append((f"{compiler} -O{level}", own_build(compiler, level)))
    return found


def check_root(checks, expected, outcome, what):
    if expected[0] is None:
        expected[0] = outcome.root
    checks.true(outcome.root is not None and outcome.root == expected[0], f"{what}: {outcome}, expected {expected[0]}")


def check_golden_roots(checks, name, folder, builds, isas):
    target = os.path.join(folder, "model.bulla")
    source = sources.copy_golden(name, os.path.join(folder, name))
    for option in ("", "--fast"):
        options = [option] if option else []
        expected = [ROOTS.get((name, option))]
        for label, program in builds:
            check_root(checks, expected, importing.run(program, source, target, *options), f"{name} {option}, {label}")
        for isa in isas:
            for threads in (1, 2, 4):
                outcome = importing.run(RELEASE, source, target, *options, "--threads", str(threads), isa=isa)
                check_root(checks, expected, outcome, f"{name} {option}, {isa}, {threads} threads")


def check_demo_roots(checks, folder, isas):
    source = demo_models.source("smollm2")
    if not source:
        return
    target = os.path.join(folder, "model.bulla")
    for options, combinations in ((["--fast"], [(isa, threads) for isa in isas for threads in (1, 2, 4)]),
                                  ([], [(isas[0], 1), (isas[-1], 2), (isas[-1], 4)])):
        expected = [None]
        for isa, threads in combinations:
            outcome = importing.run(RELEASE, source, target, *options, "--threads", str(threads), isa=isa, timeout=3600)
            check_root(checks, expected, outcome, f"smollm2 {options}, {isa}, {threads} threads")
            print(f"smollm2 {' '.join(options)} {isa} {threads} threads: {outcome.seconds:.1f} s, {outcome.root}", flush=True)


def part_roots(checks, folder):
    isas, builds = importing.available_isas(), programs()
    print(f"instruction sets: {', '.join(isas)}; builds: {', '.join(name for name, _ in builds)}", flush=True)
    checks.true("portable" in isas, "the portable kernels run")
    names = sources.golden_names() if FULL else ["llama2", "gemma3", "llama_gptq", "qwen2_awq"]
    for name in names:
        check_golden_roots(checks, name, folder, builds, isas if FULL or name in ("llama2", "gemma3") else isas[:1])
    if FULL:
        check_demo_roots(checks, folder, isas)


# --- cut ---

def read(path):
    with open(path, "rb") as file:
        return file.read()


def check_leftovers(checks, target, what, whole=None):
    """No leftover beside the target loads, but one that is the `whole` model, killed before it got its name; they are
    removed."""
    for path in glob.glob(target + ".partial-*"):
        good, text = importing.loads(path)
        checks.true(not good or read(path) == whole, f"{what}: the leftover {os.path.basename(path)} loads: {text[:200]}")
        os.remove(path)


def check_kills(checks, source, other, folder, options, times, whole):
    """SIGKILL at random moments over a target that held another model."""
    target = os.path.join(folder, "target.bulla")
    process = importing.start(RELEASE, source, target, *options)
    process.stdout.read()
    process.stdout.close()
    checks.equal(process.wait(), 0, f"the import of {os.path.basename(source)} that nothing cuts")
    old, new = read(other), read(target)
    shutil.copyfile(other, target)
    random_source, partials, done = random.Random(3), 0, 0
    for i in range(times):
        process = importing.start(RELEASE, source, target, *options)
        time.sleep(random_source.random() * 1.1 * whole)
        process.kill()
        process.wait()
        process.stdout.close()
        partials += len(glob.glob(target + ".partial-*"))
        check_leftovers(checks, target, f"kill {i}", new)
        now = read(target)
        if now != old:
            good, text = importing.loads(target)
            checks.true(good, f"kill {i}: what is at the target is neither the old file nor whole: {text[:200]}")
            checks.true(now == new, f"kill {i}: the new files differ")
            shutil.copyfile(other, target)
            done += 1
        else:
            checks.true(True, "the old file is as it was")
    print(f"{times} kills of {os.path.basename(source)}: {partials} leftovers; {done} imports were done before", flush=True)


def check_interrupt(checks, source, other, folder, whole):
    """SIGINT and SIGTERM: ends by itself, leaves nothing."""
    target = os.path.join(folder, "target.bulla")
    for number in (signal.SIGINT, signal.SIGTERM):
        shutil.copyfile(other, target)
        process = importing.start(RELEASE, source, target)
        time.sleep(0.4 * whole)
        process.send_signal(number)
        outcome = importing.finish(process, time.monotonic())
        checks.true(outcome.status != 0 or outcome.root, f"{number.name}: {outcome}")
        if outcome.status != 0:
            checks.true(read(target) == read(other), f"{number.name}: the old file was changed")
        if outcome.status == 1 or number == signal.SIGINT:
            checks.equal(glob.glob(target + ".partial-*"), [], f"{number.name}: leftovers")
        check_leftovers(checks, target, number.name)


def check_full_disk(checks, source, other, folder, size):
    target = os.path.join(folder, "target.bulla")
    shutil.copyfile(other, target)
    old = read(other)
    for limit in [0, 1, 16, 4096, 65536, size // 2, size - 1]:
        outcome = importing.run(RELEASE, source, target, limit_file=limit)
        checks.true(outcome.refused() and "target.bulla" in outcome.sentence, f"files of at most {limit} bytes: {outcome}")
        checks.true(read(target) == old, f"files of at most {limit} bytes: the old file was changed")
        checks.equal(glob.glob(target + ".partial-*"), [], f"files of at most {limit} bytes: leftovers")
    outcome = importing.run(RELEASE, source, target, limit_file=size)
    checks.true(outcome.root is not None, f"files of at most its {size} bytes: {outcome}")
    tmpfs = os.path.join(folder, "tmpfs")
    os.makedirs(tmpfs, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.mount(b"tmpfs", tmpfs.encode(), b"tmpfs", 0, f"size={size // 2 // 4096 * 4096}".encode()) != 0:
        print("no tmpfs could be mounted: a full file system is not tried", flush=True)
        return
    try:
        outcome = importing.run(RELEASE, source, os.path.join(tmpfs, "target.bulla"))
        checks.true(outcome.refused() and "No space left" in outcome.sentence, f"a full file system: {outcome}")
        checks.equal(os.listdir(tmpfs), [], "a full file system: leftovers")
    finally:
        libc.umount(tmpfs.encode())


def part_cut(checks, folder):
    source = sources.copy_golden("llama2", os.path.join(folder, "llama2"))
    other = os.path.join(folder, "other.bulla")
    target = os.path.join(folder, "target.bulla")
    importing.run(RELEASE, sources.copy_golden("gemma3", os.path.join(folder, "gemma3")), other)
    own = sources.write_gguf(os.path.join(folder, "own.gguf"), "llama")
    before = read(own)
    outcome = importing.run(RELEASE, own, own)
    checks.true(outcome.status != 0 and "source" in (outcome.sentence or ""), f"import onto the source: {outcome}")
    checks.true(read(own) == before, "import onto the source: it was changed")
    whole = min(importing.run(RELEASE, source, target).seconds for _ in range(3))
    size = os.path.getsize(target)
    check_kills(checks, source, other, folder, [], 400 if FULL else 30, whole)
    check_interrupt(checks, source, other, folder, whole)
    check_full_disk(checks, source, other, folder, size)
    demo = demo_models.source("smollm2")
    if demo:
        whole = importing.run(RELEASE, demo, target, "--fast", timeout=600).seconds
        check_kills(checks, demo, other, folder, ["--fast"], 15 if FULL else 1, whole)


# --- memory ---

def largest_tensor(path):
    """(bytes of the largest tensor as int8, elements of the widest matrix's input) of a GGUF."""
    largest, widest = 0, 0
    for tensor in gguf.GGUFReader(path).tensors:
        largest = max(largest, int(tensor.n_elements))
        if len(tensor.shape) == 2:
            widest = max(widest, int(tensor.shape[0]))
    return largest, widest


def part_memory(checks, folder):
    target = os.path.join(folder, "model.bulla")
    for name, path in demo_models.sources():
        largest, widest = largest_tensor(path)
        for options in (["--fast"], []) if FULL else (["--fast"],):
            outcome, anonymous = importing.run_watched(RELEASE, path, target, *options)
            # Error feedback: the moments or their factor, and the copies of a block of columns.
            feedback = 0 if options else 8 * widest * widest + 8 * 128 * widest + 2 * 512 * widest
            bound = (1 << 30) + largest + feedback
            checks.true(outcome.root is not None, f"{name} {options}: {outcome}")
            checks.true(0 < anonymous <= bound, f"{name} {options}: {anonymous} bytes of anonymous memory, expected <= {bound}")
            print(f"{name} {' '.join(options) or 'with error feedback'}: {anonymous / 2**20:.0f} MiB anonymous (bound "
                  f"{bound / 2**20:.0f}), {outcome.peak / 2**20:.0f} MiB with mapped files, {outcome.seconds:.1f} s, {outcome.root}",
                  flush=True)


# --- weights ---

def refuses(checks, program, source, folder, parts, what, options=("--fast",)):
    """Ends with a sentence that holds all parts, within bounds; no file appears."""
    target = os.path.join(folder, "refused.bulla")
    outcome = importing.run(program, source, target, *options)
    good = checks.true(outcome.refused() and outcome.peak < 2 << 30, f"{what}: {outcome}, {outcome.peak >> 20} MiB")
    for part in parts if good else ():
        checks.true(part in outcome.sentence, f"{what}: {outcome.sentence!r} without {part!r}")
    checks.equal(glob.glob(target + "*"), [], f"{what}: files")
    return outcome


def damaged(checks, folder, name, seed):
    """Every tensor (reduced: some) broken in every way."""
    source = sources.copy_golden(name, os.path.join(folder, name))
    path = os.path.join(source, "model.safetensors")
    whole = sources.Safetensors(path)
    names = sorted(whole.tensors)
    random_source = random.Random(seed)
    chosen = names if FULL else random_source.sample(names, min(len(names), 3))
    for tensor in chosen:
        dtype, shape, data = whole.tensors[tensor]
        for word, pattern in sources.BROKEN_NUMBERS.get(dtype, {}).items():
            changed = whole.copy()
            at = random_source.randrange(len(data) // len(pattern)) * len(pattern)
            changed.tensors[tensor] = (dtype, shape, data[:at] + pattern + data[at + len(pattern):])
            changed.write(path)
            # An infinite scale times a zero is NaN.
            parts = [source, tensor, word] if weight_name(tensor) == tensor else [source, weight_name(tensor), "finite"]
            refuses(checks, SANITIZE, source, folder, parts, f"{name}: {word} in {tensor}")
        changed = whole.copy()
        del changed.tensors[tensor]
        changed.write(path)
        if tensor != "lm_head.weight" or not sources.golden_config(name).get("tie_word_embeddings", True):
            refuses_missing(checks, source, folder, tensor, name)
        for label, other in other_shapes(shape).items():
            changed = whole.copy()
            changed.tensors[tensor] = (dtype, other, resized(data, shape, other))
            changed.write(path)
            refuses(checks, SANITIZE, source, folder, [source], f"{name}: {tensor} {label}")
    whole.write(path)


def weight_name(tensor):
    """The matrix that a tensor of a 4-bit group is a part of; other tensors are themselves."""
    stem, last = tensor.rsplit(".", 1)
    return f"{stem}.weight" if last in ("qweight", "qzeros", "scales", "g_idx") else tensor


def refuses_missing(checks, source, folder, tensor, name):
    target = os.path.join(folder, "missing.bulla")
    outcome = importing.run(SANITIZE, source, target, "--fast")
    if tensor.endswith(".bias") and outcome.root:
        return  # a bias that is not there is none
    whole_name = weight_name(tensor).replace("model.", "", 1).rsplit(".", 1)[0]
    named = outcome.refused() and source in outcome.sentence and whole_name in outcome.sentence
    checks.true(named, f"{name}: without {tensor}: {outcome}")


def other_shapes(shape):
    shapes = {"one row less": [max(shape[0] - 1, 0)] + shape[1:], "one more dimension": [1] + shape + [1], "empty": [0] + shape[1:]}
    if len(shape) == 2:
        shapes["one column more"] = [shape[0], shape[1] + 1]
        if shape[0] != shape[1]:
            shapes["transposed"] = [shape[1], shape[0]]
    return shapes


def resized(data, shape, other):
    count, wanted = 1, 1
    for size in shape:
        count *= size
    for size in other:
        wanted *= size
    size = len(data) // count * wanted
    return (data * (size // max(len(data), 1) + 1))[:size]


def check_extremes(checks, folder, program):
    """Weights of extreme size: a sentence or a model that loads, never a crash."""
    for name in ("llama2", "gemma3", "qwen2", "phi3_partial"):
        source = sources.copy_golden(name, os.path.join(folder, "extreme"))
        path = os.path.join(source, "model.safetensors")
        whole = sources.Safetensors(path)
        for pattern in ("norm", "proj", "embed", "layernorm", "."):
            for value in (0.0, 1e-45, 1e-30, 1e-10, 1e10, 3e38, -3e38):
                changed = whole.copy()
                for tensor, (dtype, shape, data) in whole.tensors.items():
                    if pattern in tensor and dtype in ("F32", "BF16"):
                        one = struct.pack("<f", value)
                        one = one if dtype == "F32" else one[2:]
                        changed.tensors[tensor] = (dtype, shape, one * (len(data) // len(one)))
                changed.write(path)
                check_survives(checks, program, source, folder, f"{name}: all of *{pattern}* {value}")
        whole.write(path)


def part_weights(checks, folder):
    if not os.path.exists(SANITIZE):
        print("the sanitize build is not there: bad weights are not tried", flush=True)
        return
    for seed, name in enumerate(("llama2", "gemma2", "llama_bias", "phi3", "llama_gptq", "qwen2_awq", "qwen3")
                                if FULL else ("gemma2", "llama_bias", "phi3")):
        damaged(checks, folder, name, seed)
    check_extremes(checks, folder, SANITIZE if FULL else RELEASE)


# --- settings ---

VALUES = [0, -1, 1, 3, 2**31, 2**32 + 4, 1e308, -1e308, 5e-324, 0.5, "text", [], {}, True, None, [1, 2]]
GGUF_VALUES = [(0, gguf.GGUFValueType.UINT32), (1, gguf.GGUFValueType.UINT32), (3, gguf.GGUFValueType.INT8),
               (-1, gguf.GGUFValueType.INT32), (2**31, gguf.GGUFValueType.UINT32), (2**63, gguf.GGUFValueType.UINT64),
               (3e38, gguf.GGUFValueType.FLOAT32), (1e308, gguf.GGUFValueType.FLOAT64), (-1e308, gguf.GGUFValueType.FLOAT64),
               (float("nan"), gguf.GGUFValueType.FLOAT64), (float("inf"), gguf.GGUFValueType.FLOAT32),
               ("text", gguf.GGUFValueType.STRING), (True, gguf.GGUFValueType.BOOL), ([1, 2],), None]
# Every setting of config.json that import reads, with a golden that has it.
CONFIG_KEYS = {
    "llama3": ["model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
               "intermediate_size", "max_position_embeddings", "head_dim", "rms_norm_eps", "partial_rotary_factor",
               "rope_theta", "hidden_act", "sliding_window", "num_local_experts", "num_experts", "tie_word_embeddings",
               "use_bidirectional_attention", "layer_types", "text_config", "rope_parameters", "rope_scaling",
               "rope_scaling.rope_type", "rope_scaling.factor", "rope_scaling.low_freq_factor",
               "rope_scaling.high_freq_factor", "rope_scaling.original_max_position_embeddings", "quantization_config",
               "vocab_size"],
    "llama_yarn": ["rope_scaling.rope_type", "rope_scaling.factor", "rope_scaling.beta_fast", "rope_scaling.beta_slow",
                   "rope_scaling.attention_factor", "rope_scaling.original_max_position_embeddings", "rope_scaling.truncate",
                   "rope_scaling.mscale", "max_position_embeddings"],
    "phi3_longrope": ["rope_scaling.type", "rope_scaling.long_factor", "rope_scaling.short_factor",
                      "original_max_position_embeddings", "max_position_embeddings", "sliding_window", "rope_scaling"],
    "gemma2": ["query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping", "sliding_window",
               "sliding_window_pattern", "layer_types", "hidden_activation"],
    "gemma3": ["rope_local_base_freq", "rope_theta", "sliding_window", "sliding_window_pattern", "rope_scaling.factor",
               "query_pre_attn_scalar", "layer_types"],
    "qwen2": ["use_sliding_window", "sliding_window", "max_window_layers"],
    "llama_gptq": ["quantization_config", "quantization_config.bits", "quantization_config.group_size",
                   "quantization_config.sym", "quantization_config.desc_act", "quantization_config.quant_method"],
}
GGUF_KEYS = {
    "llama": ["embedding_length", "block_count", "attention.head_count", "attention.head_count_kv", "feed_forward_length",
              "context_length", "attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon",
              "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor",
              "rope.scaling.original_context_length", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
              "rope.scaling.attn_factor", "expert_count"],
    "gemma2": ["attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping"],
    "gemma3": ["attention.sliding_window", "rope.freq_base_swa", "rope.freq_base"],
    "phi3": ["attention.sliding_window", "rope.dimension_count"],
}
# (golden, changes of config.json, what the sentence holds)
UNSUPPORTED = [
    ("llama2", {"model_type": "gpt2"}, ["model_type", "gpt2", "qwen3"]),
    ("llama2", {"model_type": "mixtral"}, ["mixtral", "supported"]),
    ("llama2", {"model_type": None}, ["model_type"]),
    ("llama2", {"hidden_act": "relu"}, ["hidden_act", "relu", "silu"]),
    ("llama2", {"hidden_act": "gelu_pytorch_tanh"}, ["hidden_act", "gelu_pytorch_tanh", "silu"]),
    ("gemma3", {"hidden_activation": "silu"}, ["hidden_activation", "silu", "gelu_pytorch_tanh"]),
    ("llama2", {"num_local_experts": 8}, ["mixture of 8 experts"]),
    ("qwen3", {"num_experts": 128}, ["mixture of 128 experts"]),
    ("llama2", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, ["dynamic", "longrope"]),
    ("llama2", {"rope_scaling": {"rope_type": "linear", "factor": -2.0}}, ["linear", "factor"]),
    ("gemma3", {"use_bidirectional_attention": True}, ["use_bidirectional_attention"]),
    ("llama2", {"num_hidden_layers": 1}, ["layers.1.", "no place"]),
    ("qwen3", {"model_type": "qwen2"}, ["_norm", "no place"]),
    ("gemma2", {"layer_types": ["chunked_attention"] * 64}, ["layer_types[0]", "chunked_attention"]),
    ("gemma2", {"layer_types": ["full_attention"]}, ["layer_types"]),
    ("llama2", {"head_dim": 7}, ["head"]),
    ("llama2", {"num_key_value_heads": 3}, ["3"]),
]


def check_survives(checks, program, source, folder, what, refused_with=None):
    """Ends by itself: with a sentence, or with a model that loads; in bounded memory."""
    target = os.path.join(folder, "survived.bulla")
    outcome = importing.run(program, source, target, "--fast")
    good = outcome.refused() or (outcome.status == 0 and outcome.root is not None)
    checks.true(good and outcome.peak < 2 << 30, f"{what}: {outcome}, {outcome.peak >> 20} MiB, {outcome.seconds:.1f} s")
    if good and outcome.root:
        loaded, text = importing.loads(target)
        checks.true(loaded, f"{what}: imported to a file that is refused: {text[-300:]}")
        os.remove(target)
    if good and refused_with is not None:
        checks.true(outcome.refused() and refused_with in outcome.sentence, f"{what}: {outcome}, expected refused for {refused_with}")
    return outcome


def set_member(config, place, value):
    *parents, last = place.split(".")
    for parent in parents:
        config = config.setdefault(parent, {}) if isinstance(config, dict) else {}
        if not isinstance(config, dict):
            return
    config[last] = value


def config_cases():
    for name, keys in CONFIG_KEYS.items():
        for key in keys:
            for value in VALUES:
                yield name, key, value


def part_settings(checks, folder):
    if not os.path.exists(SANITIZE):
        print("the sanitize build is not there: settings are not tried", flush=True)
        return
    random_source = random.Random(5)
    for name, changes, parts in UNSUPPORTED:
        source = sources.copy_golden(name, os.path.join(folder, "settings"))
        config = sources.golden_config(name)
        config.update(changes)
        sources.write_config(source, config)
        refuses(checks, SANITIZE, source, folder, parts, f"{name} with {changes}")
    cases = list(config_cases())
    accepted = 0
    for name, key, value in cases if FULL else random_source.sample(cases, 25):
        source = sources.copy_golden(name, os.path.join(folder, "settings"))
        config = sources.golden_config(name)
        set_member(config, key, value)
        sources.write_config(source, config)
        accepted += check_survives(checks, SANITIZE, source, folder, f"{name}: {key} = {value!r}").root is not None
    cases = [(family, f"{family}.{key}", value) for family, keys in GGUF_KEYS.items() for key in keys for value in GGUF_VALUES]
    cases += [("llama", "general.architecture", value) for value in GGUF_VALUES]
    for family, key, value in cases if FULL else random_source.sample(cases, 25):
        source = os.path.join(folder, "settings.gguf")
        value = (value[0],) if isinstance(value, tuple) and len(value) == 1 else value
        sources.write_gguf(source, family, {key: value})
        accepted += check_survives(checks, SANITIZE, source, folder, f"{family}.gguf: {key} = {value}").root is not None
    print(f"settings: {accepted} changed ones import to a model that loads", flush=True)


# --- flips ---

def part_flips(checks, folder):
    """A changed byte anywhere is refused (tests/test_model_file.c has every byte of a smaller file)."""
    target = os.path.join(folder, "model.bulla")
    importing.run(RELEASE, sources.copy_golden("gemma3", os.path.join(folder, "gemma3")), target)
    data = bytearray(read(target))
    checks.true(importing.loads(target)[0], "the model loads")
    random_source = random.Random(1)
    for _ in range(3000 if FULL else 60):
        at, mask = random_source.randrange(len(data)), random_source.randrange(1, 256)
        with open(target, "r+b") as file:
            file.seek(at)
            file.write(bytes([data[at] ^ mask]))
        good, text = importing.loads(target)
        checks.true(not good, f"byte {at} changed by {mask:#x} is not noticed: {text[:200]}")
        with open(target, "r+b") as file:
            file.seek(at)
            file.write(data[at:at + 1])
    checks.true(importing.loads(target)[0], "the model loads again")


PARTS = {"roots": part_roots, "cut": part_cut, "memory": part_memory, "weights": part_weights, "settings": part_settings,
         "flips": part_flips}


def main(names):
    if not os.path.exists(RELEASE):
        Checks.skip(f"{RELEASE} is not built")
    checks = Checks()
    for name in names or PARTS:
        began, made = time.monotonic(), checks.made
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](checks, folder)
        print(f"{name}: {checks.made - made} checks in {time.monotonic() - began:.0f} s", flush=True)
    checks.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
