#!/usr/bin/env python3
"""`bulla watch`: follows the log of a real server and audits the receipts for which it has documents, now or later; a lie in
the log ends it, and is kept. The model is tiny and random."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile

from connecting import Connect
from forging import Forger, canonical
from serving import BUILD, PROGRAM, Server, can_serve
from test_audit import CHAT, USER, Auditor
from test_receipts import OPTIONS, POLICY, TEMPLATE, checks, make_model


TOOL = os.path.join(BUILD, "tests", "tool_log")


class Watcher:
    def __init__(self, folder, place, key, model):
        self.place, self.key, self.model = place, key, model
        self.state = os.path.join(folder, "state")
        self.requests = os.path.join(folder, "requests")
        os.makedirs(self.requests)

    def command(self, *arguments, place=None):
        return [PROGRAM, "watch", place or self.place, "--log", self.key, "--state", self.state, "--requests",
                self.requests, "--model", self.model, "--threads", "1", "--json", *arguments]

    def once(self, *arguments, place=None):
        """(exit status, audits, the last look, standard error)"""
        done = subprocess.run(self.command("--once", *arguments, place=place), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        looks = [line for line in lines if line["event"] == "look"]
        return done.returncode, [line for line in lines if line["event"] == "audit"], looks[-1] if looks else {}, done.stderr

    def give(self, document, name):
        with open(os.path.join(self.requests, name), "w", encoding="utf-8") as file:
            json.dump(document, file)


def ask(auditor, seeds):
    return [auditor.ask(CHAT, {"messages": USER, "max_tokens": 4, "seed": seed}, f"answer {seed}") for seed in seeds]


def numbers(look):
    return {name: look.get(name) for name in ("receipts", "chosen", "passed", "failed", "unchecked", "without_request")}


def follow_honest(watcher, auditor):
    documents = ask(auditor, range(5))
    for number in (0, 1, 3):
        watcher.give(documents[number], f"{number}.json")
    with open(os.path.join(watcher.requests, "broken.json"), "w", encoding="utf-8") as file:
        file.write("{")
    status, audits, look, errors = watcher.once()
    checks.equal((status, [audit["index"] for audit in audits], {audit["finding"] for audit in audits}), (0, [0, 1, 3], {"passed"}),
                 f"those that it has are audited: {errors}")
    expected = {"receipts": 5, "chosen": 5, "passed": 3, "failed": 0, "unchecked": 0, "without_request": 2}
    checks.equal(numbers(look), expected, "what is told of them")
    status, audits, look, _ = watcher.once()
    checks.equal((status, audits, numbers(look)), (0, [], expected), "nothing is audited twice")
    # Documents that are not what was signed are anybody's doing; the right one comes later.
    wrong = json.loads(json.dumps(documents[2]))
    wrong["transcript"]["choices"][0]["steps"][0]["ids"][0] ^= 1
    watcher.give(wrong, "2-wrong.json")
    bare = {name: value for name, value in documents[4].items() if name != "transcript"}
    watcher.give(bare, "4-bare.json")
    status, audits, look, _ = watcher.once()
    checks.equal((status, [audit["finding"] for audit in audits], look["without_request"]), (0, ["unbound"], 2),
                 "a document that is not what was signed accuses nobody")
    watcher.give(documents[2], "2.json")
    status, audits, look, _ = watcher.once()
    checks.equal((status, audits[-1]["finding"], look["passed"], look["without_request"]), (0, "passed", 4, 1), "the right one does")
    return documents


def follow_on(watcher, auditor, documents):
    """While it runs, documents and receipts come. One that was killed before it kept the checkpoint audits nothing twice."""
    shutil.copy(watcher.state, watcher.state + ".old")
    with subprocess.Popen(watcher.command("--every", "1"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        def until(kind, index=None):
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == kind and event.get("index") == index:
                    return event
            return {}
        checks.equal(until("look").get("without_request"), 1, "it looks at once")
        watcher.give(documents[4], "4.json")
        checks.equal(until("audit", 4).get("finding"), "passed", "a document that comes later")
        documents += ask(auditor, [5])
        watcher.give(documents[5], "5.json")
        checks.equal(until("audit", 5).get("finding"), "passed", "a receipt that comes later")
        process.send_signal(signal.SIGTERM)
        checks.equal(process.wait(60), 130, "an interrupt ends it")
    os.replace(watcher.state + ".old", watcher.state)
    status, audits, look, _ = watcher.once()
    checks.equal((status, audits, look["receipts"], look["new"], look["chosen"], look["passed"]), (0, [], 6, 1, 6, 6),
                 "the checkpoint of before, the audits of after")


def sample(folder, watched, documents):
    """A share is chosen, by the secret and as it is documented."""
    watcher = Watcher(os.path.join(folder, "sample"), watched.place, watched.key, watched.model)
    status, audits, look, errors = watcher.once("--share", "0.5")
    checks.equal((status, audits), (0, []), errors)
    with open(watcher.state + ".secret", "rb") as file:
        secret = file.read()
    checks.equal(os.stat(watcher.state + ".secret").st_mode & 0o777, 0o600, "only the owner reads the secret")
    chosen = []
    for index, document in enumerate(documents):
        digest = hashlib.sha256(b"bulla-watch-v1" + secret + hashlib.sha256(canonical(document["signed"])).digest()).digest()
        if int.from_bytes(digest[:8], "little") < 500000 * ((2**64 - 1) // 1000000):
            chosen.append(index)
    with open(watcher.state + ".audits", encoding="utf-8") as file:
        kept = json.load(file)
    checks.equal(([index for index, _ in kept["waiting"]], kept["size"], look["chosen"]), (chosen, len(documents), len(chosen)),
                 "what is chosen")
    checks.equal(watcher.once()[2]["chosen"], len(chosen), "what was looked at is not chosen again")


def find_lies(folder, model, documents):
    """The log of a server that signs what it did not compute, among what is so."""
    log = os.path.join(folder, "log")
    with Forger() as forger:
        lies = [forger.copy(document) for document in documents[:3]]
        lies[1]["transcript"]["choices"] = json.loads(json.dumps(documents[3]["transcript"]["choices"]))
        lies = [forger.sign(lie) for lie in lies]
    lines = b"".join(canonical(lie["signed"]) + b"\n" for lie in lies)
    done = subprocess.run([TOOL, "receipts", log], input=lines, capture_output=True, check=False)
    checks.equal(done.returncode, 0, done.stderr)
    key = subprocess.run([PROGRAM, "log", "key", log], capture_output=True, text=True, check=True).stdout.strip()
    watcher = Watcher(os.path.join(folder, "lies"), log, key, model)
    for number, lie in enumerate(lies):
        watcher.give(lie, f"{number}.json")
    status, audits, look, errors = watcher.once()
    checks.equal((status, {audit["index"]: audit["finding"] for audit in audits}), (1, {0: "passed", 1: "failed", 2: "passed"}),
                 f"a lie ends it, when all is audited: {errors}")
    verdict = next(audit["verdict"] for audit in audits if audit["index"] == 1)
    checks.equal([check["name"] for check in verdict["checks"] if check["state"] == "fail"], ["audit.tokens.0"], "what the lie is")
    checks.equal((look["passed"], look["failed"]), (2, 1), "what is told")
    with open(watcher.state + ".failed-1.json", encoding="utf-8") as file:
        checks.equal(json.load(file), lies[1], "the evidence is kept")
    status, audits, look, _ = watcher.once()
    checks.equal((status, audits, look["failed"]), (0, [], 1), "started again it goes on behind that")


def other_model(folder, watched, documents):
    """A watcher that has not the model accuses nobody."""
    watcher = Watcher(os.path.join(folder, "other"), watched.place, watched.key, make_model(folder, "other", TEMPLATE + "!"))
    watcher.give(documents[0], "0.json")
    status, audits, look, errors = watcher.once()
    checks.equal((status, [audit["finding"] for audit in audits], look["unchecked"]), (0, ["unchecked"], 1), errors)
    status, audits, _, errors = Watcher(os.path.join(folder, "both"), watched.place, watched.key, watched.model).once(
        "--model", watcher.model)
    checks.equal((status, audits), (0, []), f"two models: {errors}")


def through_connect(folder, model):
    """The documents that `bulla connect` keeps are all that is needed."""
    with Server(model, arguments=OPTIONS) as server, Connect(server.url, POLICY) as connect:
        outcome = connect.ask(CHAT, {"messages": USER, "max_tokens": 6}, streamed=True)
        checks.equal(outcome.verified, True, f"an answer through connect: {outcome}")
        key = server.request("GET", "/log/key")[2].decode()
        watcher = Watcher(os.path.join(folder, "connect"), f"{server.url}/log", key, model)
        watcher.requests = connect.receipts_folder
        status, audits, _, errors = watcher.once("--ca", server.certificate)
        checks.equal((status, [audit["finding"] for audit in audits]), (0, ["passed"]), f"what connect kept: {errors}")


def misuse(watcher):
    done = subprocess.run([PROGRAM, "watch", "/nowhere"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    checks.equal(done.returncode, 2, done.stderr)
    status, _, _, errors = watcher.once(place="/nowhere")
    checks.equal(status, 1, "a log that is not there")
    checks.contains(errors, "/nowhere", "which one")
    with open(watcher.state + ".audits", "w", encoding="utf-8") as file:
        file.write("{}")
    status, _, _, errors = watcher.once()
    checks.equal(status, 1, "a state that is none")
    checks.contains(errors, ".audits", "which file")


def main():
    if not can_serve():
        checks.skip("this build has no bulla serve")
    if not os.path.exists(TOOL):
        checks.skip("tests/tool_log is not built")
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder, "plain", TEMPLATE)
        with Server(model, tls=False, arguments=OPTIONS) as server:
            auditor = Auditor(server, model)
            key = server.request("GET", "/log/key")[2].decode()
            watcher = Watcher(os.path.join(folder, "honest"), f"{server.url}/log", key, model)
            documents = follow_honest(watcher, auditor)
            follow_on(watcher, auditor, documents)
            sample(folder, watcher, documents)
            other_model(folder, watcher, documents)
            find_lies(folder, model, documents)
            misuse(watcher)
        through_connect(folder, model)
    checks.finish()


if __name__ == "__main__":
    main()
