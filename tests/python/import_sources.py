"""Small models to import, whole and damaged: the goldens with their tokenizer as folders, tiny GGUF files, and
edits of safetensors files, config.json and GGUF metadata."""
import json
import os
import shutil
import struct

import gguf

import tiny_gguf

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDENS = os.path.join(ROOT, "tests", "goldens")


def golden_names():
    return sorted(name for name in os.listdir(GOLDENS) if os.path.exists(os.path.join(GOLDENS, name, "config.json")))


def copy_golden(name, folder):
    """A golden as a folder that imports."""
    os.makedirs(folder, exist_ok=True)
    for file_name in ("config.json", "model.safetensors"):
        shutil.copyfile(os.path.join(GOLDENS, name, file_name), os.path.join(folder, file_name))
    shutil.copyfile(os.path.join(GOLDENS, "tokenizer.json"), os.path.join(folder, "tokenizer.json"))
    return folder


def golden_config(name):
    with open(os.path.join(GOLDENS, name, "config.json"), encoding="utf-8") as file:
        return json.load(file)


def write_config(folder, config):
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)


class Safetensors:
    """A safetensors file in memory: {name: (dtype, shape, bytes)}."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        length = struct.unpack_from("<Q", data)[0]
        header = json.loads(data[8:8 + length])
        header.pop("__metadata__", None)
        self.tensors = {name: (entry["dtype"], entry["shape"], data[8 + length + entry["data_offsets"][0]:
                                                                    8 + length + entry["data_offsets"][1]])
                        for name, entry in header.items()}

    def copy(self):
        other = object.__new__(Safetensors)
        other.tensors = dict(self.tensors)
        return other

    def write(self, path):
        header, body, at = {}, [], 0
        for name, (dtype, shape, data) in self.tensors.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
            body.append(data)
            at += len(data)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + b"".join(body))


# What a number that is NaN or infinite looks like.
BROKEN_NUMBERS = {
    "F32": {"NaN": b"\0\0\xc0\x7f", "infinite": b"\0\0\x80\x7f"},
    "F16": {"NaN": b"\0\x7e", "infinite": b"\0\xfc"},
    "BF16": {"NaN": b"\xc0\x7f", "infinite": b"\x80\xff"},
}


def write_gguf(path, family, changes=None):
    """A tiny GGUF of this family; `changes`: {key: (value, gguf type) or None to leave the key out}."""
    writer = tiny_gguf.Writer(path, family, 3)
    fill = writer.metadata

    def metadata():
        fill()
        for key, change in (changes or {}).items():
            if change is None:
                writer.file.kv_data[0].pop(key, None)
            elif isinstance(change[0], list):
                writer.file.kv_data[0][key] = gguf.GGUFValue(change[0], gguf.GGUFValueType.ARRAY)
            else:
                writer.file.kv_data[0][key] = gguf.GGUFValue(*change)

    writer.metadata = metadata
    writer.write()
    return path
