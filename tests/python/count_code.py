"""Lines of C that are code: neither blank nor comment alone."""
import re


def code_lines(path):
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
    return sum(1 for line in text.split("\n") if line.strip())
