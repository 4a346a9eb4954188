"""Tokens a second of `bulla run` on ordinary questions, with lossless speculation and without it. Apart from the other
figures: how much speculation gives depends on the text.
"""
import json
import os
import statistics

import corpora
from engines import output_of
from processes import output_times

OFF = "--no-speculation"
QUESTIONS, TOKENS = 4, 128


def prompts(model):
    """Questions in turns as the model knows them; the demo Gemma has no chat template to write them with."""
    start, end, assistant = corpora.TEMPLATES["gemma3" if "gemma" in os.path.basename(model) else "smollm2"]
    turns = corpora.read("bench", "text", "chat.txt").split("\n@")[1:]
    texts = [text.strip() for role, text in (turn.split("\n", 1) for turn in turns) if role == "user"]
    return ["%suser\n%s%s%s%s\n" % (start, text, end, start, assistant) for text in texts[:QUESTIONS]]


def has_speculation(bulla):
    return OFF in output_of(bulla.program, "run", "--help")


def decode_speed(bulla, counts, *options):
    """Of all answers together, each from its first token on: what comes before that is prefill."""
    seconds = 0.0
    for prompt in counts:
        first, last = output_times(bulla.answer(prompt, TOKENS, "--raw", *options))
        seconds += last - first
    return sum(count - 1 for count in counts.values()) / seconds


def measure(bulla, rounds):
    """A row for the report, or None where the program does not speculate."""
    if not has_speculation(bulla):
        return None
    counts = {prompt: len(json.loads(output_of(*bulla.answer(prompt, TOKENS, "--raw", "--ids")))["output"])
              for prompt in prompts(bulla.model)}
    counts = {prompt: count for prompt, count in counts.items() if count > 1}
    found = {"with": [], "without": []}
    for _ in range(rounds):
        found["with"].append(decode_speed(bulla, counts))
        found["without"].append(decode_speed(bulla, counts, OFF))
    row = {"what": "chat, decode", "unit": "tokens/s", "questions": len(counts), "tokens": sum(counts.values())}
    for way, values in found.items():
        row[way] = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    row["ratio"] = row["with"]["median"] / row["without"]["median"]
    return row
