#!/usr/bin/env python3
"""The clients that people use against a `bulla serve` started here, over TLS and in the clear: the official openai
packages for Python and for Node, LangChain's ChatOpenAI, LlamaIndex's OpenAILike (tests/clients/). Their packages are
pinned (tests/clients/requirements.txt, package-lock.json) and live in environments of their own in the cache, made here
where they are not there.
"""
import json
import os
import subprocess
import sys

from checks import Checks
from demo_models import PROGRAM, tool_model
from serving import ROOT, Server, can_serve

CLIENTS = os.path.join(ROOT, "tests", "clients")
NAME = "tester"
FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"


def output_of(checks, *command):
    """The lines that a script prints; what it needs from outside may be missing."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode:
        checks.skip(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return done.stdout.split("\n")


def become_client_python(checks):
    """Runs this script again with the interpreter that has the clients."""
    script = os.path.join(ROOT, "scripts", "python-env")
    python = output_of(checks, script, os.path.join(CLIENTS, "requirements.txt"))[0]
    if os.path.realpath(sys.prefix) != os.path.realpath(os.path.dirname(os.path.dirname(python))):
        os.execv(python, [python, *sys.argv])


def check_node(checks, target, node, modules):
    environment = {**os.environ, "NODE_PATH": modules, "BASE_URL": target.base, "MODEL": target.model,
                   "API_KEY": target.key}
    if target.certificate:
        environment["NODE_EXTRA_CA_CERTS"] = target.certificate
    done = subprocess.run([node, os.path.join(CLIENTS, "with_node.cjs")], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, timeout=300,
                          check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        checks.true(line["holds"], f"{line['what']}: {line['found']}")
    is_whole = done.returncode == 0 and lines and lines[-1]["what"].endswith("end")
    checks.true(is_whole, f"Node's script: {done.stderr[-1000:]}")


def configuration(model, **more):
    """One thread: tests run beside others, and threads that wait for each other suffer most from that."""
    return {"models": [{"name": NAME, "path": model, "cache_positions": 32768, "threads": 1, **more}]}


def check_over(checks, model, tls, node, modules):
    import common
    import with_langchain
    import with_llama_index
    import with_openai
    with Server(tls=tls, config=configuration(model)) as server:
        target = common.Target(server.url, NAME, certificate=server.certificate if tls else None)

        def running():
            return server.metric("vllm:num_requests_running")

        if tls or FULL:
            with_openai.check_all(checks, target, running)
            with_langchain.check_all(checks, target)
            with_llama_index.check_all(checks, target)
        else:
            with_openai.check_some(checks, target, running)
        check_node(checks, target, node, modules)
        checks.true(common.becomes(lambda: running() == 0), "nothing is left to compute")
        checks.equal(len(server.workers()), 1, "the worker lives")
        server.stop()
        checks.equal(server.status, 0, "the server ends well")


def documented(start):
    """The indented lines of docs/serving.md from the one that begins so on."""
    with open(os.path.join(ROOT, "docs", "serving.md"), encoding="utf-8") as file:
        lines = file.read().split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("    " + start))
    last = next(i for i in range(first, len(lines)) if lines[i] and not lines[i].startswith("    "))
    return "\n".join(line[4:] for line in lines[first:last])


def check_first_answer(checks, model, node, modules):
    """What docs/serving.md gives to copy works, with the server's address and name put in."""
    with Server(config=configuration(model)) as server:
        def run(command, text, **environment):
            text = text.replace("https://127.0.0.1:8080", server.url).replace("smollm2", NAME)
            return subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                                  check=False, cwd=os.path.dirname(modules), env={**os.environ, **environment})
        curl = documented("$ curl").split("\n{")[0].removeprefix("$ ")
        done = run(["bash", "-s"], curl, CERTIFICATE=server.certificate)
        checks.true(done.returncode == 0 and json.loads(done.stdout)["choices"][0]["message"]["content"], f"curl: {done}")
        done = run([sys.executable, "-"], documented("from openai"), SSL_CERT_FILE=server.certificate)
        checks.true(done.returncode == 0 and done.stdout.strip(), f"Python: {done}")
        done = run([node, "--input-type=module", "-"], documented("import OpenAI"), NODE_EXTRA_CA_CERTS=server.certificate)
        checks.true(done.returncode == 0 and done.stdout.strip(), f"Node: {done}")


def check_busy(checks, model):
    import common
    import with_openai
    with Server(tls=False, config=configuration(model, max_running=1, max_waiting=1)) as server:
        with_openai.check_busy(checks, common.Target(server.url, NAME))


def check_keys(checks, model):
    import common
    import with_openai
    server = Server(config=configuration(model), start=False)
    with server:
        store = os.path.join(server.folder, "keys")
        made = subprocess.run([PROGRAM, "keys", "add", "--store", store], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        server.arguments += ["--keys", store]
        server.start()
        with_openai.check_keys(checks, common.Target(server.url, NAME, made.stdout.strip(), server.certificate))


def main():
    checks = Checks()
    checks.only_in_full("it installs the clients' packages")
    if not can_serve():
        checks.skip("this build has no bulla serve")
    model = tool_model()
    if not model:
        checks.skip("BULLA_MODELS has no SmolLM2")
    become_client_python(checks)
    sys.path.insert(0, CLIENTS)
    node, modules = output_of(checks, os.path.join(ROOT, "scripts", "node-modules"), CLIENTS)[:2]
    for tls in (True, False):
        check_over(checks, model, tls, node, modules)
    check_first_answer(checks, model, node, modules)
    check_busy(checks, model)
    check_keys(checks, model)
    checks.finish()


if __name__ == "__main__":
    main()
