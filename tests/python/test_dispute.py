#!/usr/bin/env python3
"""`bulla dispute` as processes: proposer, challenger and a referee without the model, by TLS and by files, with SQLite and
PostgreSQL. A server's honest answers survive whoever challenges them; every lie is overturned by one honest challenger.

A tiny random model always; SmolLM2 where BULLA_MODELS has it, with full counts (BULLA_TEST_COUNTS). Without PostgreSQL's
programs its part is left out.
"""
import base64
import copy
import glob
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

from demo_models import sources
from forging import Forger, canonical
from serving import BUILD, PROGRAM, Server, can_serve
from test_audit import CHAT, COMPLETION, USER, Auditor, steps_of
from test_receipts import OPTIONS, TEMPLATE, TOOL, checks, make_model

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
LIAR = os.path.join(BUILD, "tests", "tool_dispute")
PATIENCE = 120  # seconds until a test is given up; nothing is measured by it


def run(*arguments, status=0):
    done = subprocess.run([PROGRAM, "dispute", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          timeout=PATIENCE)
    checks.equal(done.returncode, status, f"dispute {arguments[:3]}: {done.stdout}{done.stderr}")
    return done.stdout


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Referee:
    """A referee in a process. `folder`: it takes files there instead of TLS."""

    def __init__(self, place, parts, *, store=None, window=3600, turn=600, folder=None, arguments=()):
        self.place, self.folder = place, folder
        os.makedirs(place, exist_ok=True)
        self.store = store or os.path.join(place, "store.db")
        self.carrier = ["--folder", folder] if folder else ["--listen", f"127.0.0.1:{free_port()}", "--tls", os.path.join(place, "tls")]
        self.parts = [word for part in parts for word in ("--program", part)]
        self.arguments = ["--store", self.store, "--key", os.path.join(place, "referee.pem"), "--window", str(window), "--turn",
                          str(turn), *arguments]
        self.process = None
        self.start()

    def start(self):
        with open(os.path.join(self.place, "errors"), "ab") as errors:
            self.process = subprocess.Popen([PROGRAM, "dispute", "referee", *self.carrier, *self.parts, *self.arguments],
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        line = b""
        while b"\n" not in line:
            if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
                break
            part = os.read(self.process.stdout.fileno(), 4096)
            if not part:
                break
            line += part
        found = re.match(r"referee ([0-9a-f]{64}) on (\S+)\n", line.decode())
        if not found:
            with open(os.path.join(self.place, "errors"), encoding="utf-8") as file:
                raise RuntimeError(f"the referee did not start: {line!r} {file.read()}")
        self.key, self.url = found.groups()

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.end(signal.SIGKILL)

    def reach(self):
        if self.folder:
            return ["--folder", self.folder, "--referee-key", self.key]
        return ["--referee", self.url, "--ca", os.path.join(self.place, "tls", "certificate.pem"), "--referee-key", self.key]

    def request(self, method, path, body=None):
        """(status, value)"""
        host, port = re.fullmatch(r"https://(.*):(\d+)", self.url).groups()
        context = ssl.create_default_context(cafile=os.path.join(self.place, "tls", "certificate.pem"))
        connection = http.client.HTTPSConnection(host, int(port), timeout=PATIENCE, context=context)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def replay(self):
        """What the log alone gives."""
        log = os.path.join(self.place, "log")
        with open(log, "w", encoding="utf-8") as file:
            file.write(run("log", "--store", self.store))
        first = run("replay", log, *self.parts)
        checks.equal(run("replay", log, *self.parts), first, "a replay gives the same again")
        return json.loads(first)


class Bench:
    """A model, its server's documents, and the parties' processes."""

    def __init__(self, folder, model):
        self.folder, self.model = folder, model
        self.part = os.path.join(folder, "program.part")
        run("part", model, "-o", self.part)
        self.numbers = 0

    def name(self, ending):
        self.numbers += 1
        return os.path.join(self.folder, f"{self.numbers}{ending}")

    def write(self, document):
        path = self.name(".json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({key: document[key] for key in ("bulla_receipt", "signed", "transcript")}, file)
        return path

    def key(self):
        path = self.name(".pem")
        return path, run("key", path).strip()

    def start(self, *command):
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def respond(self, referee, path, key, lie=None):
        if lie:
            return self.start(LIAR, "respond", self.model, key, *self.place(referee), path, "-", lie)
        return self.start(PROGRAM, "dispute", "respond", path, "--model", self.model, "--key", key, "--threads", "1", *referee.reach())

    @staticmethod
    def place(referee):
        return (referee.folder, "-") if referee.folder else (referee.url, os.path.join(referee.place, "tls", "certificate.pem"))

    def challenge(self, referee, path, proposer, *arguments, lie=None):
        key = self.name(".pem")
        if lie:
            return self.start(LIAR, "challenge", self.model, key, *self.place(referee), path, proposer, lie)
        return self.start(PROGRAM, "dispute", "challenge", path, "--model", self.model, "--key", key, "--threads", "1", "--proposer",
                          proposer, *referee.reach(), *arguments)

    @staticmethod
    def until(process, words):
        """Lines of a process until one has these words."""
        seen = ""
        for line in process.stdout:
            seen += line
            if words in line:
                return seen
        return seen

    def dispute(self, referee, document, *, proposer_lie=None, challenger_lie=None, arguments=(), what=""):
        """(exit status of the challenger, what it said, what the proposer said); the proposer is stopped afterwards."""
        path = self.write(document)
        key, public = self.key()
        proposer = self.respond(referee, path, key, proposer_lie)
        said = self.until(proposer, "pending")
        checks.contains(said, "pending", f"{what}: the answer is known")
        challenger = self.challenge(referee, path, public, *arguments, lie=challenger_lie)
        output = challenger.communicate(timeout=PATIENCE)[0]
        if proposer.poll() is None and challenger.returncode == 0 and "won" in output:
            said += proposer.communicate(timeout=PATIENCE)[0]
        else:
            proposer.terminate()
            said += proposer.communicate(timeout=PATIENCE)[0]
        return challenger.returncode, output, said

    def honest_wins(self, referee, document, what, **lies):
        status, output, said = self.dispute(referee, document, what=what, **lies)
        checks.equal(status, 0, f"{what}: the honest challenger wins: {output} {said}")
        checks.contains(output, "challenger won", what)
        checks.contains(said, "overturned", f"{what}: and the answer is overturned")
        return output

    def survives(self, referee, document, what, **more):
        status, output, said = self.dispute(referee, document, what=what, **more)
        checks.equal(status, 1, f"{what}: the challenger loses: {output} {said}")
        checks.contains(output, "proposer won", what)
        checks.true("overturned" not in said, f"{what}: {said}")
        return output


def wrong_token(auditor, forger, prompt="the sea"):
    """An answer of one token, which the model does not give."""
    body = {"prompt": prompt, "max_tokens": 1, "temperature": 0}
    honest = auditor.ask(COMPLETION, body, "one token")
    token = steps_of(honest)[0]["ids"][0]
    biased = auditor.ask(COMPLETION, {**body, "logit_bias": {str(token): -100}}, "another token")
    changed = forger.copy(honest)
    changed["transcript"]["choices"] = copy.deepcopy(biased["transcript"]["choices"])
    return forger.sign(changed)


def other_seed(auditor, forger):
    body = {"messages": USER, "max_tokens": 6, "seed": 11, "temperature": 1.2, "top_p": 0.9, "top_k": 30}
    honest = auditor.ask(CHAT, body, "sampled")
    changed = forger.copy(honest)
    changed["transcript"]["choices"] = copy.deepcopy(auditor.ask(CHAT, {**body, "seed": 12}, "sampled otherwise")["transcript"]["choices"])
    return forger.sign(changed)


def lie_in_every_way(bench, auditor, referee):
    with Forger() as forger:
        lied = wrong_token(auditor, forger)
        output = bench.honest_wins(referee, lied, "a token that its own trace does not give")
        checks.contains(output, "trace", "it is a dispute about the trace")
        bench.honest_wins(referee, wrong_token(auditor, forger, "a river"), "a token that fits an altered run", proposer_lie="token")
        bench.honest_wins(referee, other_seed(auditor, forger), "another seed")
        for kind in ("claim", "arrays", "opening"):
            bench.honest_wins(referee, wrong_token(auditor, forger, f"prompt {kind}"), f"garbage instead of {kind}", proposer_lie=f"garbage:{kind}")

        honest = auditor.ask(CHAT, {"messages": USER, "max_tokens": 5, "seed": 3}, "text")

        def lie(what, change, about):
            changed = forger.copy(honest)
            change(changed)
            checks.contains(bench.honest_wins(referee, forger.sign(changed), what), about, what)

        def other_text(changed):
            step = next(step for step in steps_of(changed) if step["part"] == "content")
            step["text"] = step["text"][::-1] + "!"
        lie("text that the tokens do not give", other_text, "delivery")
        lie("a finish that is none", lambda changed: steps_of(changed)[-1].__setitem__("text", "stop\0x"), "delivery")
        lie("parameters that nobody asked for", lambda changed: changed["signed"]["receipt"]["parameters"].__setitem__("top_k", 5),
            "parameters")
        lie("another prompt", lambda changed: changed["signed"]["receipt"].__setitem__("prompt", "ab" * 32), "prompt")


def defend(bench, auditor, referee):
    """Honest answers of several kinds, against challengers of several kinds."""
    kinds = [(CHAT, {"messages": USER, "max_tokens": 6, "seed": 3}),
             (CHAT, {"messages": USER, "max_tokens": 40, "seed": 4, "logit_bias": {"2": 4}}),
             (CHAT, {"messages": USER, "max_tokens": 60, "seed": 1, "response_format": {"type": "json_object"}}),
             (CHAT, {"messages": USER, "max_tokens": 40, "seed": 1, "tools": [TOOL], "tool_choice": "required"})]
    lies = ["fault:9,0,2,3,5", "fault:1,5,1,0,3", "fault:4,1,3,7,12", "garbage:choice"]
    for number, ((path, body), lie) in enumerate(zip(kinds, lies)):
        document = auditor.ask(path, body, "an honest answer")
        bench.survives(referee, document, f"honest answer {number}, challenged by {lie}", challenger_lie=lie)
        if number < 3:
            bench.survives(referee, document, f"honest answer {number}, challenged for nothing", arguments=["--unaudited"])
        if number == 0:
            path = bench.write(document)
            output = run("challenge", path, "--model", bench.model, "--key", bench.name(".pem"), "--proposer", "0" * 64, *referee.reach())
            checks.contains(output, "nothing is challenged", "an honest challenger finds nothing")


def send_anything(referee):
    """What is no message, or was one before, has no effect on any answer."""
    ids = referee.request("GET", "/v1/answers")[1]["answers"]
    states = [referee.request("GET", f"/v1/answers/{number}")[1]["statement"]["answer"] for number in ids]
    disputes = [dispute["dispute"] for state in states for dispute in state["disputes"]]
    checks.true(len(disputes) > 5, "there were disputes")
    sent = 0
    for number in disputes[:8]:
        for message in referee.request("GET", f"/v1/disputes/{number}?from=0")[1]["messages"]:
            text = canonical(message)
            for body in (text, text[:-1], text + b" ", text.replace(b'"number":', b'"number":1', 1), b"{}" + text, text[:40] * 40):
                status, said = referee.request("POST", "/v1/disputes", body)
                checks.equal((status, bool(said.get("error"))), (409, True), f"{body[:200]}: {said}")
                sent += 1
    for body in (b"", b"{}", b"[]", b"\xff\xfe", b'{"message":{},"signature":""}'):
        checks.equal(referee.request("POST", "/v1/disputes", body)[0], 409, f"{body}")
    for path, status in (("/v1/answers/" + "0" * 64, 404), ("/v1/answers/x", 404), ("/v1/disputes/" + "0" * 64, 200), ("/", 404)):
        checks.equal(referee.request("GET", path)[0], status, path)
    checks.equal(referee.request("GET", f"/v1/disputes/{ids[0]}")[1], {"messages": []}, "a document is shown to nobody")
    after = [referee.request("GET", f"/v1/answers/{number}")[1]["statement"]["answer"] for number in ids]
    checks.equal(after, states, f"{sent} messages without effect")


def equivocate(bench, auditor, referee):
    """Two challengers are told two traces of one honest answer."""
    document = auditor.ask(CHAT, {"messages": USER, "max_tokens": 4, "seed": 21}, "two traces")
    path = bench.write(document)
    key, public = bench.key()
    proposer = bench.respond(referee, path, key, "two-claims")
    bench.until(proposer, "pending")
    challengers = [bench.challenge(referee, path, public, lie="silent:any") for _ in range(2)]
    checks.contains(proposer.communicate(timeout=PATIENCE)[0], "overturned", "it is overturned")
    outputs = [challenger.communicate(timeout=PATIENCE)[0] for challenger in challengers]
    checks.true(any("two traces" in output for output in outputs), f"by one of them: {outputs}")


def sign_two_receipts(bench, auditor, referee):
    """A server that signed two receipts of one answer has proved its own fault; anyone may show them."""
    with Forger() as forger:
        document = forger.sign(forger.copy(auditor.ask(CHAT, {"messages": USER, "max_tokens": 3, "seed": 22}, "two receipts")))
        other = copy.deepcopy(document)
        other["signed"]["receipt"]["time"] += 1
        forger.sign(other)
        proposer = bench.respond(referee, bench.write(document), bench.key()[0])
        answer = re.search(r"answer ([0-9a-f]{64}): pending", bench.until(proposer, "pending")).group(1)
        for first, second, status in ((document, document, 409), (other, other, 409), (document, other, 200), (document, other, 409)):
            message = {"body": {"first": first["signed"], "second": second["signed"]}, "dispute": answer, "key": forger.public,
                       "kind": "equivocation", "number": 0, "previous": "0" * 64, "protocol": "bulla-dispute-v1"}
            path = bench.name(".signed")
            with open(path, "wb") as file:
                file.write(b"bulla-dispute-v1\n" + canonical(message))
            signature = forger.openssl("pkeyutl", "-sign", "-rawin", "-inkey", forger.key, "-in", path)
            said = referee.request("POST", "/v1/disputes", canonical({"message": message, "signature": base64.b64encode(signature).decode()}))
            checks.equal(said[0], status, f"two receipts: {said}")
        checks.contains(proposer.communicate(timeout=PATIENCE)[0], "two receipts", "the proposer sees why")


def be_silent(bench, auditor):
    """Who says nothing in its turn loses."""
    with Referee(bench.name(".silent"), [bench.part], turn=20) as referee, Forger() as forger:
        lied = wrong_token(auditor, forger, "silence")
        checks.contains(bench.honest_wins(referee, lied, "a silent proposer", proposer_lie="silent:claim"), "silent", "it was silence")
        honest = auditor.ask(CHAT, {"messages": USER, "max_tokens": 3, "seed": 5}, "silence")
        path = bench.write(honest)
        key, public = bench.key()
        proposer = bench.respond(referee, path, key)
        bench.until(proposer, "pending")
        challenger = bench.challenge(referee, path, public, lie="silent:any")
        checks.contains(challenger.communicate(timeout=PATIENCE)[0], "the challenger was silent", "a silent challenger")
        proposer.terminate()
        proposer.communicate()
        state = referee.replay()
        checks.equal([answer["status"] for answer in state["answers"]], ["overturned", "pending"], "as the log says")


def have_many(bench, auditor, referee):
    """Many challengers at once: liars among them do not keep the honest one from winning, nor win themselves."""
    with Forger() as forger:
        for is_honest in (False, True):
            document = (auditor.ask(CHAT, {"messages": USER, "max_tokens": 5, "seed": 8}, "many") if is_honest
                        else wrong_token(auditor, forger, "many of them"))
            path = bench.write(document)
            key, public = bench.key()
            proposer = bench.respond(referee, path, key)
            bench.until(proposer, "pending")
            liars = [bench.challenge(referee, path, public, lie=f"fault:{operation},0,1,0,4") for operation in (3, 8, 12)]
            honest = None if is_honest else bench.challenge(referee, path, public)
            outputs = [liar.communicate(timeout=PATIENCE)[0] for liar in liars]
            if honest:
                checks.contains(honest.communicate(timeout=PATIENCE)[0], "the answer is overturned", "one honest among many")
                checks.contains(proposer.communicate(timeout=PATIENCE)[0], "overturned", "and the proposer sees it")
            else:
                checks.true(all("proposer won" in output for output in outputs), f"the honest answer survives all: {outputs}")
                proposer.terminate()
                proposer.communicate()


def kill_the_referee(bench, auditor, parts, store=None):
    """It is killed again and again while a dispute goes on; what it told stays."""
    with Referee(bench.name(".killed"), parts, store=store) as referee, Forger() as forger:
        ended = threading.Event()
        kills = [0]

        def killer():
            while not ended.wait(0.35):
                referee.end(signal.SIGKILL)
                kills[0] += 1
                referee.start()
        lied = wrong_token(auditor, forger, "kill")
        path = bench.write(lied)
        key, public = bench.key()
        proposer = bench.respond(referee, path, key)
        bench.until(proposer, "pending")
        thread = threading.Thread(target=killer)
        thread.start()
        challenger = bench.challenge(referee, path, public, "--unaudited")
        output = challenger.communicate(timeout=PATIENCE)[0]
        ended.set()
        thread.join()
        checks.contains(output, "challenger won", f"the dispute ends as it must after {kills[0]} kills")
        checks.contains(proposer.communicate(timeout=PATIENCE)[0], "overturned", "for the proposer too")
        checks.true(kills[0] > 0, "it was killed")
        state = referee.replay()
        checks.equal(state["answers"][0]["status"], "overturned", "and the log says so")


def carry_files(bench, auditor):
    folder = bench.name(".carried")
    with Referee(bench.name(".files"), [bench.part], folder=folder) as referee, Forger() as forger:
        lied = wrong_token(auditor, forger, "files")
        bench.honest_wins(referee, lied, "carried as files")
        bench.survives(referee, auditor.ask(CHAT, {"messages": USER, "max_tokens": 3, "seed": 9}, "files"), "carried as files",
                       arguments=["--unaudited"])
        with open(os.path.join(folder, "inbox", "junk.json"), "w", encoding="utf-8") as file:
            file.write("{}")
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(os.path.join(folder, "rejected", "junk.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        checks.true(os.path.exists(os.path.join(folder, "rejected", "junk.json")), "what is no message is put aside")
        answers = glob.glob(os.path.join(folder, "v1", "answers", "*.json"))
        checks.equal(len(answers), 2, "states are files")
        show_state(bench, lied, answers, referee)


def show_state(bench, document, answers, referee):
    """`bulla verify` shows an answer's state by the referee's statement."""
    path = bench.write(document)
    receipt = None
    for statement in answers:
        done = subprocess.run([PROGRAM, "verify", path, "--dispute", statement, "--referee-key", referee.key], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)
        if "overturned" in done.stdout:
            receipt = done
    checks.true(receipt is not None and receipt.returncode == 1, f"verify says that it is overturned: {receipt}")


class Postgres:
    """A server of its own in a folder, reached by a socket there; None where there are no programs."""

    @staticmethod
    def find():
        found = shutil.which("initdb") or next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))), None)
        return found and os.path.dirname(os.path.realpath(found))

    def __init__(self, programs):
        self.folder = tempfile.mkdtemp(prefix="bulla-postgres-")
        self.options = {}
        if os.geteuid() == 0:  # it refuses to run as root
            self.options = {"user": "postgres", "cwd": "/"}
            shutil.chown(self.folder, "postgres")
        data = os.path.join(self.folder, "data")
        subprocess.run([os.path.join(programs, "initdb"), "-D", data, "-A", "trust", "-U", "bulla"], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, **self.options)
        self.process = subprocess.Popen([os.path.join(programs, "postgres"), "-D", data, "-k", self.folder, "-c", "listen_addresses="],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.options)
        self.url = f"postgresql:///postgres?host={self.folder}&user=bulla"
        deadline = time.monotonic() + PATIENCE
        while not glob.glob(os.path.join(self.folder, ".s.PGSQL.*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)


def use_postgres(bench, auditor):
    programs = Postgres.find()
    built = subprocess.run([PROGRAM, "dispute", "log", "--store", "postgresql:///nowhere?host=/nowhere"], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, check=False)
    if not programs or "has no PostgreSQL" in built.stderr:
        print("PostgreSQL is not there: its store is left out")
        return
    with Postgres(programs) as database:
        kill_the_referee(bench, auditor, [bench.part], store=database.url)


def misuse(bench):
    for arguments, status, words in ((["referee"], 2, "--store"), (["challenge", "x"], 2, "--proposer"), (["nothing"], 2, "nothing"),
                                     (["replay", "/nowhere", "--program", bench.part], 1, "/nowhere"),
                                     (["replay", bench.part, "--program", bench.part], 1, "log"),
                                     (["replay", bench.part, "--program", bench.model], 1, "program part"),
                                     (["respond", "/nowhere", "--model", bench.model, "--key", bench.name(".pem"), "--referee",
                                       "http://127.0.0.1:9"], 1, "/nowhere")):
        done = subprocess.run([PROGRAM, "dispute", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        checks.equal(done.returncode, status, f"{arguments}: {done.stderr}")
        checks.contains(done.stderr, words, str(arguments))


def dispute_real(folder):
    for name, path in sources():
        if name != "smollm2":
            continue
        with Server(path, tls=False) as server:
            auditor, bench = Auditor(server, path), Bench(folder, path)
            with Referee(bench.name(".real"), [bench.part]) as referee, Forger() as forger:
                bench.honest_wins(referee, wrong_token(auditor, forger, "The capital of France is"), "SmolLM2", proposer_lie="token")
                bench.survives(referee, auditor.ask(CHAT, {"messages": USER, "max_tokens": 24, "seed": 1}, "SmolLM2"), "SmolLM2",
                               challenger_lie="fault:100,0,8,5,3")
                for answer in referee.replay()["answers"]:
                    for dispute in answer["disputes"]:
                        checks.true(dispute["bytes"] <= 65536, f"a dispute has {dispute['bytes']} bytes")


def main():
    if not can_serve():
        checks.skip("this build has no bulla serve")
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder, "plain", TEMPLATE)
        bench = Bench(folder, model)
        with Server(model, tls=False, arguments=OPTIONS) as server:
            auditor = Auditor(server, model)
            with Referee(bench.name(".referee"), [bench.part]) as referee:
                lie_in_every_way(bench, auditor, referee)
                defend(bench, auditor, referee)
                have_many(bench, auditor, referee)
                equivocate(bench, auditor, referee)
                sign_two_receipts(bench, auditor, referee)
                send_anything(referee)
                state = referee.replay()
                for answer in state["answers"]:
                    for dispute in answer["disputes"]:
                        checks.true(dispute["bytes"] <= 65536, f"a dispute has {dispute['bytes']} bytes")
            kill_the_referee(bench, auditor, [bench.part])
            carry_files(bench, auditor)
            use_postgres(bench, auditor)
            be_silent(bench, auditor)
            misuse(bench)
        if FULL:
            dispute_real(folder)
    checks.finish()


if __name__ == "__main__":
    main()
