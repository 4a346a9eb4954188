"""A model of a few hundred KB as its publisher would ship it, from tests/goldens, for tests of the program: a
folder with safetensors, a byte-level tokenizer of 320 tokens and a chat template. Its answers mean nothing."""
import json
import os
import shutil
import struct
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDENS = os.path.join(ROOT, "tests", "goldens")
PROGRAM = os.path.join(os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release")), "src", "bulla")
CONTEXT = 512
TEMPLATE = ("{% for message in messages %}<s>{{ message.role }}: {{ message.content }}</s>{% endfor %}"
            "{% if add_generation_prompt %}<s>assistant:{% endif %}")


def render(messages):
    """What the template makes of [(role, content)]."""
    return "".join(f"<s>{role}: {content}</s>" for role, content in messages) + "<s>assistant:"


def silence(path, tokenizer):
    """Zeroes the embedding of tokens that are not printable ASCII: as the head is tied, they hardly ever come."""
    with open(tokenizer, encoding="utf-8") as file:
        vocabulary = json.load(file)["model"]["vocab"]
    with open(path, "rb") as file:
        data = bytearray(file.read())
    length = struct.unpack_from("<Q", data)[0]
    entry = json.loads(data[8:8 + length])["model.embed_tokens.weight"]
    start, end = (8 + length + offset for offset in entry["data_offsets"])
    row = (end - start) // entry["shape"][0]
    for token, number in vocabulary.items():
        if not all(c == "\u0120" or "!" <= c <= "~" for c in token) or token.startswith("<"):
            data[start + number * row:start + (number + 1) * row] = bytes(row)
    with open(path, "wb") as file:
        file.write(data)


def make_source(folder, context=CONTEXT, template=TEMPLATE, **more):
    """`more` goes to tokenizer_config.json."""
    os.makedirs(folder)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(os.path.join(GOLDENS, "llama3", name), os.path.join(folder, name))
    shutil.copy(os.path.join(GOLDENS, "tokenizer.json"), folder)
    silence(os.path.join(folder, "model.safetensors"), os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    config["max_position_embeddings"] = context
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    settings = {"bos_token": "<s>", "eos_token": "</s>", **more}
    if template:
        settings["chat_template"] = template
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump(settings, file)
    return folder


def make_model(folder, name, **arguments):
    """Imports such a source; the model file's path."""
    source = make_source(os.path.join(folder, name), **arguments)
    path = source + ".bulla"
    subprocess.run([PROGRAM, "import", source, "--fast", "-o", path], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return path


def cleaned(text):
    """Text as Bulla shows it on a terminal: no control characters but newline and tab."""
    return "".join(c if c in "\n\t" or (ord(c) >= 32 and not 127 <= ord(c) <= 159) else "\ufffd" for c in text)
