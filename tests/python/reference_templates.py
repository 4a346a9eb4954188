"""Chat templates rendered twice: by jinja2, set up as Hugging Face transformers does, and by Bulla."""
import datetime
import functools
import json
import os
import subprocess

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
TOOL = os.path.join(BUILD, "tests", "tool_chat_template")
NOW = 1753874645  # 2025-07-30 11:24:05 UTC


class Generation(Extension):
    """transformers' {% generation %}: its body is a call block."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_generation"), [], [], body).set_lineno(line)

    def _generation(self, caller):
        return caller()


def reference_environment(now=NOW):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[Generation, loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(form):
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=now)
        return moment.strftime(form)

    environment.filters["tojson"] = tojson
    environment.filters["from_json"] = json.loads  # DeepSeek's templates expect it
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment


@functools.lru_cache(maxsize=4)
def compiled(environment, source):
    return environment.from_string(source)


def reference(environment, source, variables):
    """("ok", text) or ("error", sentence)."""
    try:
        return "ok", compiled(environment, source).render(**variables)
    except Exception as error:  # any: Python raises many kinds
        return "error", f"{type(error).__name__}: {error}"


def rendered(cases, now=NOW):
    """Bulla's answers to (source, variables) pairs: ("ok", text), or (code, sentence)."""
    data = bytearray()
    for source, variables in cases:
        source, variables = source.encode(), json.dumps(variables).encode()
        data += b"%d %d %d\n" % (len(source), len(variables), now) + source + variables
    result = subprocess.run([TOOL], input=bytes(data), capture_output=True)
    answers, at = [], 0
    while at < len(result.stdout):
        end = result.stdout.index(b"\n", at)
        code, length = result.stdout[at:end].split()
        at = end + 1 + int(length)
        answers.append((code.decode(), result.stdout[end + 1:at].decode()))
    if result.returncode or len(answers) != len(cases):
        raise RuntimeError(f"the tool stopped after {len(answers)} of {len(cases)} cases, "
                           f"status {result.returncode}: {result.stderr.decode(errors='replace')}")
    return answers
