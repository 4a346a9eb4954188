#!/usr/bin/env python3
"""Models as their publishers ship them: what the C readers give, against PyPI gguf and safetensors, against
integers packed here by the formats' descriptions, and on files that lie.

`tests/tool_source.c` is the C side. Tensors are compared as float32 bit patterns.
"""
import hashlib
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import tempfile

import gguf
import numpy as np
import safetensors.numpy
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from checks import Checks

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
TOOL = os.path.join(BUILD, "tests", "tool_source")
SANITIZED = os.path.join(ROOT, "build", "sanitize", "tests", "tool_source")
HOSTILE_TOOL = SANITIZED if os.path.exists(SANITIZED) else TOOL
FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


def tool(*arguments):
    """(status, standard output, standard error) of the C side."""
    result = subprocess.run([TOOL, *arguments], capture_output=True)
    return result.returncode, result.stdout, result.stderr.decode()


def tensor_bits(path, name):
    status, values, words = tool("tensor", path, name)
    return np.frombuffer(values, np.uint32) if status == 0 else words


def same_bits(found, expected):
    """Equal bit patterns; `found` is a sentence where the tensor could not be read."""
    return isinstance(found, np.ndarray) and found.shape == expected.shape and bool((found == expected).all())


def setting(path, kind, key):
    status, value, words = tool("get", path, kind, key)
    return value.decode().removesuffix("\n") if status == 0 else None if status == 3 else "error " + words


# GGUF: every number format

def half_positions(name):
    """Where in a block the binary16 scales are."""
    return {"F16": [0], "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82],
            "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}.get(name, [])


def write_raw(path, name, data):
    writer = gguf.GGUFWriter(path, "test")
    writer.add_tensor("t", data, raw_dtype=GGMLQuantizationType[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def expected_bits(data, name):
    if name == "F32":
        return data.view(np.uint32).ravel()
    with np.errstate(all="ignore"):
        values = gguf.quants.dequantize(data, GGMLQuantizationType[name])
    return np.ascontiguousarray(values).view(np.uint32).ravel()


def check_number_formats(checks, folder):
    generator = np.random.default_rng(20240501)
    path = os.path.join(folder, "types.gguf")
    specials = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7C01, 0xFD55,
                         0x7E00, 0xFFFF, 0x3C00, 0x1400], np.uint16)
    for name in TYPES:
        values, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        rows, blocks = 33, (5 if values > 1 else 768)
        for kind in ("any bits", "usual scales", "extreme scales", "one NaN"):
            data = generator.integers(0, 256, (rows, blocks, size), np.uint8)
            for place, at in enumerate(half_positions(name)):
                if kind == "usual scales":
                    scales = (generator.standard_normal((rows, blocks)) * 0.01).astype(np.float16).view(np.uint16)
                elif kind == "extreme scales":
                    scales = generator.choice(specials[:10], (rows, blocks))
                elif kind == "one NaN":
                    scales = np.full((rows, blocks), 0x3555, np.uint16)
                    if place == len(half_positions(name)) - 1:
                        scales = generator.choice(specials, (rows, blocks))
                else:
                    continue
                data[:, :, at:at + 2] = scales[..., None].view(np.uint8).reshape(rows, blocks, 2)
            data = data.reshape(rows, blocks * size)
            if name == "F32":
                data = data.view(np.float32)
            elif name == "F16":
                data = data.view(np.float16)
            write_raw(path, name, data)
            found, expected = tensor_bits(path, "t"), expected_bits(data, name)
            if kind == "any bits" and name in ("Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K") and isinstance(found, np.ndarray):
                # Two NaNs may meet in one sum: either may survive.
                nan = ((expected & 0x7FFFFFFF) > 0x7F800000) & ((found & 0x7FFFFFFF) > 0x7F800000)
                found, expected = np.where(nan, 0, found), np.where(nan, 0, expected)
            checks.true(same_bits(found, expected), f"{name} with {kind} differs: {found if isinstance(found, str) else ''}")
    every_half = np.arange(65536, dtype=np.uint16).reshape(64, 1024)
    write_raw(path, "F16", every_half.view(np.float16))
    checks.true(same_bits(tensor_bits(path, "t"), expected_bits(every_half.view(np.float16), "F16")), "every binary16")


def check_refused_formats(checks, folder):
    path = os.path.join(folder, "refused.gguf")
    for kind in GGMLQuantizationType:
        if kind.name in TYPES:
            continue
        values, size = GGML_QUANT_SIZES[kind]
        write_raw(path, kind.name, np.zeros((2, size), np.uint8) if kind.name[0] not in "IF" or kind.name[:2] == "IQ"
                  else np.zeros((2, 4), {"F64": np.float64, "I8": np.int8, "I16": np.int16, "I32": np.int32,
                                         "I64": np.int64}[kind.name]))
        status, _, words = tool("list", path)
        checks.true(status == 1 and "unsupported" in words and f"tensor t: number format {kind.name} " in words,
                    f"{kind.name} is refused by name: {words}")


def check_demo_models(checks):
    folder = os.environ.get("BULLA_MODELS")
    if not folder:
        return
    for file_name in sorted(os.listdir(folder)):
        if not file_name.endswith(".gguf"):
            continue
        path = os.path.join(folder, file_name)
        reader = gguf.GGUFReader(path)
        for number, tensor in enumerate(reader.tensors):
            if not FULL and number % 7 and number > 3:
                continue
            expected = expected_bits(tensor.data, tensor.tensor_type.name)
            checks.true(same_bits(tensor_bits(path, tensor.name), expected), f"{file_name} {tensor.name}")
        tokens = reader.fields["tokenizer.ggml.tokens"].contents()
        found = tool("get", path, "array_text", "tokenizer.ggml.tokens")[1].decode()
        checks.true(found == "".join(token + "\n" for token in tokens), f"{file_name} tokens")
        with open(path, "rb") as file:
            checks.equal(tool("digest", path)[1].decode().strip(), hashlib.file_digest(file, "sha256").hexdigest(),
                         f"{file_name} digest")


# GGUF: settings

def check_settings(checks, folder):
    path = os.path.join(folder, "settings.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    for name, low, high in (("uint8", 0, 2**8 - 1), ("int8", -2**7, 2**7 - 1), ("uint16", 0, 2**16 - 1),
                            ("int16", -2**15, 2**15 - 1), ("uint32", 0, 2**32 - 1), ("int32", -2**31, 2**31 - 1),
                            ("uint64", 0, 2**63 - 1), ("int64", -2**63, 2**63 - 1)):
        getattr(writer, f"add_{name}")(f"{name}.low", low)
        getattr(writer, f"add_{name}")(f"{name}.high", high)
    writer.add_uint64("huge", 2**64 - 1)
    writer.add_float32("single", 1.1)
    writer.add_float64("double", 1.1)
    writer.add_float64("nan", float("nan"))
    writer.add_bool("yes", True)
    writer.add_bool("no", False)
    writer.add_string("text", "naïve ☃ text")
    writer.add_key_value("empty", "", GGUFValueType.STRING)
    writer.add_array("integers", [3, -1, 2**31 - 1])
    writer.add_array("reals", [0.5, -1.25])
    writer.add_array("texts", ["", "a", "", "∀x", "long " * 50])
    writer.add_array("bools", [True, False, True])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    for name, low, high in (("uint8", 0, 2**8 - 1), ("int8", -2**7, 2**7 - 1), ("uint32", 0, 2**32 - 1),
                            ("uint64", 0, 2**63 - 1), ("int64", -2**63, 2**63 - 1), ("int16", -2**15, 2**15 - 1)):
        checks.equal(setting(path, "integer", f"{name}.low"), str(low), name)
        checks.equal(setting(path, "integer", f"{name}.high"), str(high), name)
        checks.equal(float.fromhex(setting(path, "real", f"{name}.high")), float(high), name)
    checks.contains(setting(path, "integer", "huge"), "huge is a u64 above 2^63 - 1; an integer was expected", "huge")
    checks.equal(float.fromhex(setting(path, "real", "single")), float(np.float32(1.1)), "f32")
    checks.equal(float.fromhex(setting(path, "real", "double")), 1.1, "f64")
    checks.contains(setting(path, "real", "nan"), "nan is NaN; a finite number was expected", "NaN")
    checks.equal((setting(path, "bool", "yes"), setting(path, "bool", "no")), ("1", "0"), "bools")
    checks.equal(setting(path, "text", "text"), "naïve ☃ text", "text")
    checks.equal(setting(path, "text", "empty"), "", "empty text")
    checks.equal(setting(path, "text", "absent"), None, "an absent key")
    checks.equal(setting(path, "array", "texts"), "5", "array length")
    checks.equal(setting(path, "array_text", "texts").split("\n"), ["", "a", "", "∀x", "long " * 50], "array of text")
    checks.equal(setting(path, "array_integer", "integers"), "3\n-1\n2147483647", "array of integers")
    checks.equal([float.fromhex(line) for line in setting(path, "array_real", "reals").split()], [0.5, -1.25], "reals")
    checks.equal(setting(path, "array_integer", "bools"), "1\n0\n1", "bools as integers")
    for kind, key, words in (("integer", "text", "text is a string; an integer was expected"),
                             ("text", "yes", "yes is a bool; a string was expected"),
                             ("bool", "integers", "integers is an array of i32; a bool was expected"),
                             ("array", "single", "single is an f32; an array was expected"),
                             ("array_text", "reals", "reals[0] is an f32; a string was expected")):
        checks.contains(setting(path, kind, key), words, f"{kind} {key}")


# safetensors

def write_safetensors(path, tensors, metadata=None):
    """tensors: name → (dtype, shape, bytes). The format's few lines, written independently of the library."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def check_safetensors(checks, folder):
    model = os.path.join(folder, "plain")
    os.makedirs(model)
    generator = np.random.default_rng(7)
    single = generator.integers(0, 2**32, (5, 3, 7), np.uint32).view(np.float32)
    half = np.arange(65536, dtype=np.uint16).reshape(256, 256).view(np.float16)
    safetensors.numpy.save_file({"b.single": single, "a.half": half, "c.index": np.arange(4, dtype=np.int64)},
                                os.path.join(model, "model.safetensors"), metadata={"format": "np"})
    config = {"hidden_size": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "tie_word_embeddings": True, "name": "naïve",
              "rope_scaling": {"rope_type": "llama3", "factor": 8.0}, "text_config": {"deep": {"er": [1, 2.5, None, "x"]}},
              "sliding_window": None, "fraction": 2.5, "with.dot": 3}
    with open(os.path.join(model, "config.json"), "w") as file:
        json.dump(config, file)
    checks.equal(tool("list", model)[1].decode(), "a.half\tF16\t256,256\nb.single\tF32\t5,3,7\nc.index\tI64\t4\n", "list")
    checks.true(same_bits(tensor_bits(model, "b.single"), single.view(np.uint32).ravel()), "F32 as it is")
    checks.true(same_bits(tensor_bits(model, "a.half"), half.astype(np.float32).view(np.uint32).ravel()), "F16")
    checks.contains(tensor_bits(model, "c.index"), "tensor c.index: numbers of type I64 are not read", "I64")
    checks.equal(setting(model, "integer", "hidden_size"), "64", "integer")
    checks.equal(setting(model, "integer", "rope_theta"), "1000000", "1e6 is an integer")
    checks.equal(float.fromhex(setting(model, "real", "rope_theta")), 1e6, "1e6 is a real")
    checks.equal(float.fromhex(setting(model, "real", "rms_norm_eps")), 1e-5, "real")
    checks.equal(setting(model, "bool", "tie_word_embeddings"), "1", "bool")
    checks.equal(setting(model, "text", "rope_scaling.rope_type"), "llama3", "nested")
    checks.equal(setting(model, "integer", "with.dot"), "3", "a member with a dot")
    checks.equal(setting(model, "integer", "sliding_window"), None, "null is absent")
    checks.equal(setting(model, "integer", "hidden_size.x"), None, "no member of a number")
    checks.equal(setting(model, "array", "text_config.deep.er"), "4", "nested array")
    checks.contains(setting(model, "array_integer", "text_config.deep.er"), "er[1] is a number that is no", "2.5")
    checks.contains(setting(model, "integer", "fraction"), "an integer was expected", "a fraction is no integer")
    raw = np.arange(65536, dtype=np.uint16)
    only = os.path.join(folder, "only.safetensors")
    write_safetensors(only, {"t": ("BF16", (64, 1024), raw.tobytes()), "scalar": ("F32", (), struct.pack("<f", 1.5)),
                             "empty": ("F32", (3, 0), b"")})
    checks.true(same_bits(tensor_bits(only, "t"), raw.astype(np.uint32) << 16), "every BF16")
    checks.equal(tool("list", only)[1].decode(), "empty\tF32\t3,0\nscalar\tF32\t1\nt\tBF16\t64,1024\n", "scalar and empty")
    checks.true(same_bits(tensor_bits(only, "scalar"), np.array([1.5], np.float32).view(np.uint32)), "scalar")
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        with open(os.path.join(model, name), "rb") as file:
            content = file.read()
        digest.update(name.encode() + b"\0" + struct.pack("<Q", len(content)) + content)
    checks.equal(tool("digest", model)[1].decode().strip(), digest.hexdigest(), "digest of a folder")


def check_shards(checks, folder):
    model = os.path.join(folder, "sharded")
    os.makedirs(model)
    arrays = {f"layer.{i}": np.full((3, i + 1), i, np.float32) for i in range(20)}
    places = {}
    for shard in range(3):
        name = f"model-{shard + 1:05}-of-00003.safetensors"
        own = {key: array for i, (key, array) in enumerate(arrays.items()) if i % 3 == shard}
        safetensors.numpy.save_file(own, os.path.join(model, name))
        places.update({key: name for key in own})
    index = os.path.join(model, "model.safetensors.index.json")

    def write_index(weight_map):
        with open(index, "w") as file:
            json.dump({"metadata": {"total_size": 1}, "weight_map": weight_map}, file)

    write_index(places)
    for path in (model, index):
        for key, array in arrays.items():
            checks.true(same_bits(tensor_bits(path, key), array.view(np.uint32).ravel()), f"{key} from its shard")
    checks.equal(len(tool("list", model)[1].splitlines()), 20, "all tensors")
    write_index({**places, "layer.3": "model-00002-of-00003.safetensors"})
    checks.contains(tool("list", model)[2], "tensor layer.3: the index says that it is in model-00002-of-00003", "wrong shard")
    write_index({**places, "ghost": "model-00001-of-00003.safetensors"})
    checks.contains(tool("list", model)[2], "tensor ghost: the index says", "no such tensor")
    write_index({**places, "ghost": "model-00009-of-00003.safetensors"})
    checks.contains(tool("list", model)[2], "model-00009-of-00003.safetensors: cannot open it", "no such shard")
    for bad in ("../x.safetensors", "/etc/x.safetensors", "x.bin", "", ".safetensors", ".x.safetensors", 5,
                "a\0b.safetensors"):
        write_index({**places, "ghost": bad})
        checks.contains(tool("list", model)[2], "weight_map ", f"shard name {bad!r}")
    for bad in ("[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "{", ""):
        with open(index, "w") as file:
            file.write(bad)
        checks.contains(tool("list", model)[2], "index.json: ", f"index {bad}")


# 4-bit matrices: known integers, packed here

def pack_rows(numbers):
    """Eight consecutive rows in one word, the first lowest: {rows, columns} → {rows / 8, columns} i32."""
    words = np.zeros((numbers.shape[0] // 8, numbers.shape[1]), np.uint32)
    for i in range(8):
        words |= numbers[i::8].astype(np.uint32) << np.uint32(4 * i)
    return words


def pack_columns(numbers, order):
    """Eight consecutive columns in one word, nibble i holding column order[i]."""
    words = np.zeros((numbers.shape[0], numbers.shape[1] // 8), np.uint32)
    for i in range(8):
        words |= numbers[:, order[i]::8].astype(np.uint32) << np.uint32(4 * i)
    return words


def check_packed(checks, folder):
    generator = np.random.default_rng(11)
    plain, awq = range(8), (0, 2, 4, 6, 1, 3, 5, 7)
    scale_types = {"F16": np.float16, "F32": np.float32}
    cases = [(method, group_size, act_order, symmetric, scale, inputs, outputs)
             for method in ("gptq", "gptq_v2", "awq") for group_size in (32, 128, -1) for act_order in (False, True)
             for symmetric in (False, True) for scale, inputs, outputs in (("F16", 256, 40), ("F32", 128, 8))
             if not (method == "awq" and act_order) and not (group_size == 128 and inputs == 128 and act_order)]
    cases += [("gptq", 128, True, False, "F16", 200, 24), ("gptq_v2", 64, None, False, "F16", 264, 16)]
    for number, (method, group_size, act_order, symmetric, scale, inputs, outputs) in enumerate(cases):
        model = os.path.join(folder, f"packed{number}")
        os.makedirs(model)
        size = inputs if group_size == -1 else group_size
        groups = -(-inputs // size)
        q = generator.integers(0, 16, (inputs, outputs))
        zeros = np.full((groups, outputs), 8) if symmetric else generator.integers(0, 16, (groups, outputs))
        scales = (generator.standard_normal((groups, outputs)) * 0.02).astype(scale_types[scale])
        index = np.arange(inputs) // size
        if act_order:
            generator.shuffle(index)
        with np.errstate(all="ignore"):
            weight = ((q - zeros[index]).astype(np.float32) * scales[index].astype(np.float32)).T
        stored_zeros = (zeros - 1) % 16 if method == "gptq" else zeros
        order = awq if method == "awq" else plain
        qweight = pack_columns(q, awq) if method == "awq" else pack_rows(q)
        tensors = {"layer.qweight": ("I32", qweight.shape, qweight.tobytes()),
                   "layer.qzeros": ("I32", (groups, outputs // 8), pack_columns(stored_zeros, order).tobytes()),
                   "layer.scales": (scale, scales.shape, scales.tobytes()),
                   "layer.bias": ("F16", (outputs,), np.zeros(outputs, np.float16).tobytes())}
        if method != "awq" and act_order is not None:
            tensors["layer.g_idx"] = ("I32", (inputs,), index.astype(np.int32).tobytes())
        write_safetensors(os.path.join(model, "model.safetensors"), tensors)
        quantization = {"quant_method": "awq" if method == "awq" else "gptq", "bits": 4, "group_size": group_size}
        if method == "awq":
            quantization.update(zero_point=True, version="gemm")
        else:
            quantization.update(desc_act=bool(act_order), sym=symmetric)
        if method == "gptq_v2":
            quantization["checkpoint_format"] = "gptq_v2"
        with open(os.path.join(model, "config.json"), "w") as file:
            json.dump({"quantization_config": quantization}, file)
        what = f"{method}, group size {group_size}, act-order {act_order}, symmetric {symmetric}, {inputs} by {outputs}"
        name = "AWQ 4-bit" if method == "awq" else "GPTQ 4-bit"
        checks.equal(tool("list", model)[1].decode(), f"layer.bias\tF16\t{outputs}\nlayer.weight\t{name}\t{outputs},{inputs}\n",
                     what)
        checks.true(same_bits(tensor_bits(model, "layer.weight"), np.ascontiguousarray(weight).view(np.uint32).ravel()), what)
    check_packed_refusals(checks, os.path.join(folder, "packed0"))


def check_packed_refusals(checks, model):
    config_path, tensor_path = os.path.join(model, "config.json"), os.path.join(model, "model.safetensors")
    with open(config_path) as file:
        good = json.load(file)["quantization_config"]
    for change, words in (({"bits": 8}, "bits is 8; read is: 4"), ({"bits": "4"}, "bits is 4"),
                          ({"quant_method": "bitsandbytes"}, "quant_method is bitsandbytes; read is: gptq and awq"),
                          ({"quant_method": None}, "quant_method is absent"), ({"group_size": 0}, "group_size is 0"),
                          ({"group_size": 64}, "scales has 2 dimensions (8, 40); 4 by 40 was expected"),
                          ({"checkpoint_format": "marlin"}, "checkpoint_format is marlin"),
                          ({"dynamic": {"+:x": {"bits": 8}}}, "dynamic gives +:x settings of its own"),
                          ({"quant_method": "awq", "version": "gemv"}, "version is gemv; read is: gemm"),
                          ({"quant_method": "awq", "zero_point": False}, "zero_point is false")):
        with open(config_path, "w") as file:
            json.dump({"quantization_config": {**good, **change}}, file)
        checks.contains(tool("list", model)[2], words, f"{change}")
    with open(config_path, "w") as file:
        file.write("{}")
    checks.contains(tool("list", model)[2], "config.json has no quantization_config", "packed without description")
    with open(config_path, "w") as file:
        json.dump({"quantization_config": good}, file)
    tensors = safetensors.numpy.load_file(tensor_path)
    for name in ("qzeros", "scales"):
        safetensors.numpy.save_file({key: value for key, value in tensors.items() if key != f"layer.{name}"}, tensor_path)
        checks.contains(tool("list", model)[2], f"tensor layer.weight: {name} is missing", name)
    for bad in (8, -1, 2**31 - 1):
        changed = tensors.get("layer.g_idx", np.zeros(256, np.int32)).copy()
        changed[77] = bad
        safetensors.numpy.save_file({**tensors, "layer.g_idx": changed}, tensor_path)
        checks.contains(tool("list", model)[2], f"g_idx[77] is {bad}; groups are 0 to 7", "group index")
    safetensors.numpy.save_file({**tensors, "layer.weight": np.zeros(2, np.float32)}, tensor_path)
    checks.contains(tool("list", model)[2], "tensor layer.weight is there twice", "packed and plain")


# Files that lie

def probe(checks, paths, what):
    """Every file gives "ok" or a sentence; no run of the C side crashes or writes to standard error."""
    lines = []
    for start in range(0, len(paths), 500):
        result = subprocess.run([HOSTILE_TOOL, "probe", *paths[start:start + 500]], capture_output=True, timeout=300)
        if not checks.true(result.returncode == 0, f"{what}: {result.stderr.decode()[:2000]}"):
            return ["crash"] * len(paths)
        lines += result.stdout.decode("utf-8", "replace").splitlines()
    checks.equal(len(lines), len(paths), what)
    for path, line in zip(paths, lines):
        checks.true(line == "ok" or (line.split(":")[0] in ("input", "unsupported", "limit") and path in line),
                    f"{what}: {path}: {line}")
    return lines


def small_gguf(path, rows=2, tensors=3):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", "def"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_custom_alignment(64)
    for i in range(tensors):
        writer.add_tensor(f"t{i}", np.zeros((rows, 34), np.uint8), raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open(path, "rb") as file:
        return file.read()


def write_all(folder, contents, suffix):
    os.makedirs(folder)
    paths = []
    for number, content in enumerate(contents):
        paths.append(os.path.join(folder, f"{number}{suffix}"))
        with open(paths[-1], "wb") as file:
            file.write(content)
    return paths


def gguf_fields(content):
    """(offset, bytes, name) of every number of the header, walked independently of any library."""
    fields, at = [], 4

    def take(size, name):
        nonlocal at
        fields.append((at, size, name))
        at += size
        return int.from_bytes(content[at - size:at], "little")

    def string(name):
        nonlocal at
        length = take(8, name + " length")
        at += length

    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    take(4, "version")
    tensor_count, key_count = take(8, "tensor_count"), take(8, "metadata_kv_count")
    for i in range(key_count):
        string(f"key {i}")
        kind = take(4, f"type {i}")
        if kind == 9:
            kind, count = take(4, f"element type {i}"), take(8, f"count {i}")
        else:
            count = 1
        for j in range(count):
            string(f"value {i}.{j}") if kind == 8 else take(sizes[kind], f"value {i}.{j}")
    for i in range(tensor_count):
        string(f"tensor {i}")
        for j in range(take(4, f"dimensions {i}")):
            take(8, f"dimension {i}.{j}")
        take(4, f"type of tensor {i}")
        take(8, f"offset {i}")
    return fields


def check_hostile_gguf(checks, folder):
    content = small_gguf(os.path.join(folder, "small.gguf"))
    fields = gguf_fields(content)
    checks.true(len(fields) > 40, "the header's fields were found")
    mutants, names = [], []
    for offset, size, name in fields:
        value = int.from_bytes(content[offset:offset + size], "little")
        top = 1 << 8 * size
        for new in {0, 1, value - 1, value + 1, value * 2, 0x7F, 9, 31, top // 2 - 1, top // 2, top - 1, top - 8, top // 8,
                    len(content), 1 << 20, 1 << 40}:
            if 0 <= new < top and new != value:
                mutants.append(content[:offset] + new.to_bytes(size, "little") + content[offset + size:])
                names.append(f"{name} = {new}")
    generator = random.Random(5)
    for _ in range(3000 if FULL else 500):
        changed = bytearray(content)
        for _ in range(generator.randrange(1, 5)):
            changed[generator.randrange(len(changed))] = generator.choice((0, 1, 127, 128, 255, generator.randrange(256)))
        mutants.append(bytes(changed))
        names.append("random bytes")
    lines = probe(checks, write_all(os.path.join(folder, "mutants"), mutants, ".gguf"), "changed fields")
    for name, line in zip(names, lines):
        for must in ("tensor_count", "metadata_kv_count", "count 2", "dimension 0"):
            if name.startswith(must) and int(name.split("= ")[1]) > 1 << 30:
                checks.true(line != "ok", f"{name}: {line}")
    data_end = len(content) - (-68 % 64)  # the last tensor's padding may be missing
    cuts = probe(checks, write_all(os.path.join(folder, "cuts"), [content[:i] for i in range(data_end)], ".gguf"),
                 "cut at every byte")
    checks.equal([line for line in cuts if line == "ok"], [], "no cut file loads")
    check_gguf_sentences(checks, folder, content, {name: (offset, size) for offset, size, name in fields})


def check_gguf_sentences(checks, folder, content, fields):
    path = os.path.join(folder, "one.gguf")

    def sentence(changes, words):
        changed = bytearray(content)
        for name, value in changes.items():
            offset, size = fields[name]
            changed[offset:offset + size] = value.to_bytes(size, "little")
        with open(path, "wb") as file:
            file.write(changed)
        checks.contains(tool("list", path)[2], words, f"{changes}")

    sentence({"version": 1}, "GGUF version 1; versions 2 and 3 are read")
    sentence({"version": 0x03000000}, "a big-endian GGUF file; only little-endian ones are read")
    sentence({"version": 4}, "GGUF version 4; versions 2 and 3 are read")
    sentence({"version": 2}, "")
    sentence({"tensor_count": 1 << 60}, "tensor_count is 1152921504606846976, more than the file's")
    sentence({"metadata_kv_count": 1 << 60}, "metadata_kv_count is 1152921504606846976, more than the file's")
    sentence({"count 2": 1 << 61}, "key tokenizer.ggml.tokens: an array of string with 2305843009213693952 elements")
    sentence({"element type 2": 9}, "an array of arrays")
    sentence({"type 1": 13}, "a value of type 13: types are 0 to 12")
    sentence({"value 4.0": 48}, "general.alignment is 48; it must be a power of two")
    sentence({"dimensions 1": 5}, "tensor t1: 5 dimensions; tensors have 1 to 4")
    sentence({"dimension 1.0": 33}, "tensor t1: rows of 33 values are no whole number of Q8_0 blocks of 32")
    sentence({"dimension 1.0": 1 << 62}, "tensor t1: its dimensions multiply to more than any file can hold")
    sentence({"dimension 1.1": 0}, "tensor t1: dimension 1 is 0")
    sentence({"type of tensor 1": 4}, "tensor t1: number format 4 is not known; formats that are read: F32")
    sentence({"offset 2": 64}, "")
    sentence({"offset 2": 1}, "tensor t2: its offset 1 is no multiple of the alignment 64")
    sentence({"offset 2": 1 << 63}, "tensor t2: its 68 bytes at offset 9223372036854775808 go beyond the")
    sentence({"offset 1": 0}, "tensors t0 and t1 overlap")
    with open(path, "wb") as file:
        file.write(content.replace(b"numbers", b"llama.x", 1).replace(b"llama.block_count", b"llama.x" + b"." * 10, 1))
    checks.equal(tool("list", path)[0], 0, "other names")
    with open(path, "wb") as file:
        file.write(content.replace(b"tokenizer.ggml.tokens", b"general.architecture\x01", 1))
    checks.contains(tool("list", path)[2], "a key has a control character (0x01) at byte 20", "a control character")
    with open(path, "wb") as file:
        file.write(content.replace(b"llama.block_count", b"general.alignment", 1))
    checks.contains(tool("list", path)[2], "key general.alignment is there twice", "two keys of one name")
    twice = content.replace(b"t1", b"t0", 1)
    with open(path, "wb") as file:
        file.write(twice)
    checks.contains(tool("list", path)[2], "tensor t0 is there twice", "two tensors of one name")
    checks.contains(tool("list", os.path.join(folder, "nothing"))[2], "nothing: no such file or folder", "no file")
    checks.contains(tool("list", folder)[2], "neither model.safetensors nor", "a folder of something else")
    checks.contains(tool("list", "/dev/null")[2], "neither a file nor a folder", "a device")


def check_cuts_of_larger_file(checks, folder):
    path = os.path.join(folder, "larger.gguf")
    content = small_gguf(path, rows=2000, tensors=4)
    cuts = [content[:end] for end in range(0, len(content), 4096)]
    lines = probe(checks, write_all(os.path.join(folder, "larger"), cuts, ".gguf"), "cut at every 4 KiB")
    checks.equal([line for line in lines if line == "ok"], [], "no cut file loads")
    models = os.environ.get("BULLA_MODELS")
    for file_name in sorted(os.listdir(models)) if models else []:
        if file_name.endswith(".gguf"):
            check_cut_model(checks, folder, os.path.join(models, file_name))


def check_cut_model(checks, folder, model):
    """Full counts: opened in memory, cut at every 4 KiB. Always: a copy that gets shorter, cut at 60 of them."""
    ends = range(0, os.path.getsize(model), 4096)
    if FULL:
        checks.equal(tool("cuts", model, "4096")[1].decode(), f"{len(ends)} 0\n", f"{model} cut at every 4 KiB")
    path = os.path.join(folder, "cut.gguf")
    shutil.copyfile(model, path)
    ends = sorted(random.Random(3).sample(ends, 60))
    loaded = []
    for end in reversed(ends):
        os.truncate(path, end)
        result = subprocess.run([TOOL, "list", path], capture_output=True)
        if not (result.returncode == 1 and b"cut.gguf: " in result.stderr):
            loaded.append(end)
    checks.equal(loaded, [], f"{os.path.basename(model)} cut at {len(ends)} places gives a sentence each time")
    os.remove(path)


def check_hostile_safetensors(checks, folder):
    data = bytes(range(64)) * 2
    good = {"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]},
            "b": {"dtype": "F16", "shape": [32], "data_offsets": [64, 128]}}
    path = os.path.join(folder, "one.safetensors")

    def build(header, length=None, tail=data):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + tail

    def with_a(**changes):
        return {**good, "a": {**good["a"], **changes}}

    cases = [
        (build(good)[:5], "the file has 5 bytes; safetensors start with 8"),
        (build(good, 1 << 62), "its header's length is 4611686018427387904 bytes; up to 100000000 are read"),
        (build(good, 99999999), "its header's length is 99999999 bytes, the file has"),
        (build(good, 0), "its header does not start with {"),
        (build(b"[]"), "its header does not start with {"),
        (build(b"{" * 200), "header"),
        (build(json.dumps(good).encode() + b"   "), None),
        (build(b'{"a": 1, "a": 2}'), "header"),
        (build({**good, "__metadata__": {"x": "y"}}), None),
        (build(good, tail=data[:-1]), "tensor b: data_offsets 64 to 128, where the file has 127 bytes"),
        (build(good, tail=data + b"x"), "its tensors end after 128 bytes of data, the file after 129"),
        (build(with_a(data_offsets=[0, 1 << 62])), "tensor a: data_offsets 0 to 4611686018427387904"),
        (build(with_a(data_offsets=[64, 0])), "tensor a: data_offsets 64 to 0"),
        (build(with_a(data_offsets=[-1, 64])), "tensor a: its data_offsets hold something else"),
        (build(with_a(data_offsets=[0.5, 64])), "tensor a: its data_offsets hold something else"),
        (build(with_a(data_offsets=[0])), "tensor a: its data_offsets are no array of two"),
        (build(with_a(data_offsets=[0, 32], shape=[2, 4])), "tensor b starts at byte 64 of the data, where byte 32 is the "
         "next: tensors leave a gap"),
        (build({**good, "c": {"dtype": "F32", "shape": [1], "data_offsets": [60, 64]}}), "tensors overlap"),
        (build({**good, "c": good["a"]}), "tensors overlap"),
        (build(with_a(shape=[4, 5])), "tensor a: 20 values of F32 do not fill its 64 bytes"),
        (build(with_a(shape=[1 << 62, 1 << 62])), "tensor a: its dimensions multiply to more"),
        (build(with_a(shape=[1 << 61])), "tensor a: 2305843009213693952 values of F32 do not fill"),
        (build(with_a(shape=[-4, -4])), "tensor a: its shape holds something else"),
        (build(with_a(shape="4")), "tensor a: its shape is no array"),
        (build(with_a(shape=[1, 1, 1, 4, 4])), "tensor a: 5 dimensions; up to 4 are read"),
        (build(with_a(dtype="F128")), "tensor a: dtype F128 is not known"),
        (build(with_a(dtype=7)), "tensor a: its dtype is no string"),
        (build(with_a(dtype="F64")), "tensor a: 16 values of F64 do not fill its 64 bytes"),
        (build({**good, "a": 5}), "tensor a: its entry is no object"),
        (build({**good, "x\u0000y": good["a"]}), "a tensor's name has a control character (0x00)"),
        (build({**good, "": good["a"]}), "a tensor's name of 0 bytes"),
    ]
    for content, words in cases:
        with open(path, "wb") as file:
            file.write(content)
        status, _, found = tool("list", path)
        if words is None:
            checks.equal(status, 0, found)
        else:
            checks.contains(found, words, words)
    content = build(good)
    cuts = probe(checks, write_all(os.path.join(folder, "st-cuts"), [content[:i] for i in range(len(content))],
                                   ".safetensors"), "safetensors cut at every byte")
    checks.equal([line for line in cuts if line == "ok"], [], "no cut file loads")
    mutants = []
    for at in range(len(content) - len(data)):
        mutants += [content[:at] + bytes([byte]) + content[at + 1:] for byte in (0, 0x22, 0x2D, 0x39, 0x7D, 0xFF)]
    probe(checks, write_all(os.path.join(folder, "st-mutants"), mutants, ".safetensors"), "changed bytes")


# Memory

def check_bounded_memory(checks, folder):
    """Headers whose numbers the file's size justifies, but that would take more memory than a model's header may."""
    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

    def sentence(path, words):
        result = subprocess.run([TOOL, "list", path], capture_output=True, preexec_fn=limited)
        checks.equal(result.returncode, 1, words)
        checks.contains(result.stderr.decode(), words, words)

    def start(key, kind):
        return b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key)) + key + struct.pack("<I", kind)

    path = os.path.join(folder, "sparse.gguf")
    for head, words in ((start(b"k", 8) + struct.pack("<Q", 1 << 29), "the header goes on beyond 134217728 bytes"),
                        (start(b"k", 9) + struct.pack("<IQ", 8, 1 << 26), "the header goes on beyond 134217728 bytes"),
                        (start(b"k", 9) + struct.pack("<IQ", 4, 1 << 27), "the header goes on beyond 134217728 bytes"),
                        (b"GGUF" + struct.pack("<IQQ", 3, 0, 70000), "up to 65536 keys are read"),
                        (b"GGUF" + struct.pack("<IQQ", 3, 2000000, 0), "up to 1048576 tensors are read")):
        with open(path, "wb") as file:
            file.write(head)
            file.truncate(1 << 30)
        sentence(path, words)
    with open(path, "wb") as file:  # 16 million empty strings, as many as fit
        file.write(start(b"k", 9) + struct.pack("<IQ", 8, (1 << 24) - 16))
        file.truncate(1 << 27)
    result = subprocess.run([TOOL, "get", path, "array", "k"], capture_output=True, preexec_fn=limited)
    checks.equal(result.stdout, b"16777200\n", f"16 million strings: {result.stderr.decode()}")
    os.remove(path)
    path = os.path.join(folder, "large.safetensors")
    for text in (b'{"a":[' + b"0," * 40000000 + b"0]}", b"{" + b",".join(b'"%x":0' % i for i in range(4000000)) + b"}"):
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
        sentence(path, "268435456 bytes would be needed")
    os.remove(path)


def main():
    checks = Checks()
    if not os.path.exists(TOOL):
        checks.skip(f"{TOOL} is not built")
    folder = tempfile.mkdtemp()
    try:
        check_number_formats(checks, folder)
        check_refused_formats(checks, folder)
        check_demo_models(checks)
        check_settings(checks, folder)
        check_safetensors(checks, folder)
        check_shards(checks, folder)
        check_packed(checks, folder)
        check_hostile_gguf(checks, folder)
        check_cuts_of_larger_file(checks, folder)
        check_hostile_safetensors(checks, folder)
        check_bounded_memory(checks, folder)
    finally:
        shutil.rmtree(folder)
    checks.finish()


if __name__ == "__main__":
    main()
