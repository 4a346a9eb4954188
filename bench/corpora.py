"""The texts that bench/accuracy.py measures on, as one string each.

  wikitext2  ../shared/data/wikitext2-test.txt (BULLA_SHARED), with `<unk>` left out and its spacing undone
  chinese    bench/text/chinese.txt, then the sentences of the Chinese gettext catalogues of this machine
  code       C sources of this project
  chat       bench/text/chat.txt, turns in the model's own template
"""
import glob
import gettext
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAMES = ["wikitext2", "chinese", "code", "chat"]
ENOUGH = 400000  # characters

# (start of a turn, end of a turn, the assistant's name) as the models' templates write them.
TEMPLATES = {"smollm2": ("<|im_start|>", "<|im_end|>\n", "assistant"),
             "gemma3": ("<start_of_turn>", "<end_of_turn>\n", "model")}


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def wikitext2():
    folder = os.environ.get("BULLA_SHARED", os.path.join(os.path.dirname(ROOT), "shared"))
    text = read(folder, "data", "wikitext2-test.txt")[:ENOUGH]
    text = text.replace("<unk> ", "").replace(" <unk>", "")
    for spaced, plain in ((" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" 's", "'s"), (" n't", "n't")):
        text = text.replace(spaced, plain)
    text = re.sub(r" ([,.;:!?%)\]])", r"\1", text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    return re.sub(r'" ([^"\n]*) "', r'"\1"', text)


def chinese():
    parts = [read("bench", "text", "chinese.txt")]
    for path in sorted(glob.glob("/usr/share/locale/zh_*/LC_MESSAGES/*.mo")):
        try:
            with open(path, "rb") as file:
                catalogue = gettext.GNUTranslations(file)
        except (OSError, UnicodeDecodeError):
            continue
        # Whole sentences only: labels of one word say little about language.
        parts.extend(text for key, text in catalogue._catalog.items()
                     if key and isinstance(text, str) and "\u3002" in text)
        if sum(map(len, parts)) > ENOUGH:
            break
    return "\n".join(parts)


def code():
    paths = sorted(glob.glob(os.path.join(ROOT, "src", "*", "*.c")))
    return "\n".join(read(path) for path in paths)[:ENOUGH]


def chat(model):
    start, end, assistant = TEMPLATES[model]
    turns = []
    for turn in read("bench", "text", "chat.txt").split("\n@")[1:]:
        role, text = turn.split("\n", 1)
        turns.append(f"{start}{assistant if role == 'assistant' else role}\n{text.strip()}{end}")
    return "".join(turns)


def text_of(name, model):
    return {"wikitext2": wikitext2, "chinese": chinese, "code": code}[name]() if name != "chat" else chat(model)
