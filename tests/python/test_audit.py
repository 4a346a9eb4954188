#!/usr/bin/env python3
"""`bulla audit`: receipts of a real server's answers of every kind pass; every lie of a server that signs what it did not
compute is found and named, though `bulla verify` finds nothing wrong with it.

Tiny random models always, SmolLM2 where BULLA_MODELS has it. Full counts (BULLA_TEST_COUNTS) ask each request streamed and
whole, and of several seeds.
"""
import base64
import copy
import http.server
import json
import os
import subprocess
import tempfile
import threading

import tiny_gguf
from demo_models import sources
from forging import Forger, prompt_hash
from serving import PROGRAM, Server, can_serve
from test_receipts import FULL as FULL_RECEIPT
from test_receipts import OPTIONS, POLICY, TEMPLATE, TOOL, Asker, Client, Engine, FLAT_TOOL, checks, make_model

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
USER = [{"role": "user", "content": "Tell me the capital of France."}]
CHAT, COMPLETION, RESPONSE = "/v1/chat/completions", "/v1/completions", "/v1/responses"
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {
    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}}, "required": ["a", "b"],
    "additionalProperties": False}}}
FLAT_SCHEMA = {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA["json_schema"]["schema"]}}


def requests(end):
    """(what, path, body) of many kinds; `end`: the model's end token."""
    yield "greedy", CHAT, {"messages": USER, "max_tokens": 12, "temperature": 0}
    yield "a seed that the server draws", CHAT, {"messages": USER, "max_tokens": 12}
    yield "all of sampling", CHAT, {"messages": USER, "max_tokens": 20, "seed": 5, "temperature": 1.3, "top_p": 0.9, "top_k": 40,
                                    "min_p": 0.01, "presence_penalty": 0.5, "frequency_penalty": 0.25,
                                    "repetition_penalty": 1.1, "logit_bias": {"100": -100, "105": 3.5}}
    yield "choices", CHAT, {"messages": USER, "max_tokens": 6, "n": 3, "seed": 7, "logprobs": True, "top_logprobs": 2,
                            "stream_options": {"include_usage": True}}
    yield "stop strings", CHAT, {"messages": USER, "max_tokens": 40, "seed": 3, "stop": ["\u20ac", "a", "e"]}
    yield "an end token", CHAT, {"messages": USER, "max_tokens": 40, "seed": 4, "logit_bias": {str(end): 4}}
    yield "an end at once", CHAT, {"messages": USER, "max_tokens": 40, "seed": 4, "logit_bias": {str(end): 100}}
    yield "no end", CHAT, {"messages": USER, "max_tokens": 5, "ignore_eos": True, "logit_bias": {str(end): 100}}
    yield "a schema", CHAT, {"messages": USER, "max_tokens": 60, "seed": 1, "response_format": SCHEMA}
    yield "any JSON", CHAT, {"messages": USER, "max_tokens": 20, "seed": 1, "response_format": {"type": "json_object"}}
    yield "an answer gone on with", CHAT, {"messages": [*USER, {"role": "assistant", "content": "It is"}], "max_tokens": 8,
                                           "continue_final_message": True, "add_generation_prompt": False, "seed": 2}
    yield "completions", COMPLETION, {"prompt": ["The sun", "\u20ac \U0001f600"], "n": 2, "echo": True, "max_tokens": 5, "seed": 9}
    yield "a prompt of ids", COMPLETION, {"prompt": [100, 101], "temperature": 0}
    yield "one token", COMPLETION, {"prompt": "x", "max_tokens": 1, "timeout": 300}
    yield "a response", RESPONSE, {"input": "Tell me a joke.", "max_output_tokens": 8, "seed": 1}
    yield "a response of a schema", RESPONSE, {"input": "Tell me a joke.", "max_output_tokens": 60, "text": FLAT_SCHEMA}


ENDLESS = {"messages": USER, "temperature": 0, "logit_bias": {"2": -100}}
TOOL_REQUESTS = [
    ("a call", CHAT, {"messages": USER, "max_tokens": 150, "seed": 1, "tools": [TOOL], "tool_choice": "required"}),
    ("a named call", CHAT, {"messages": USER, "max_tokens": 150, "seed": 1, "tools": [TOOL], "parallel_tool_calls": False,
                            "tool_choice": {"type": "function", "function": {"name": "get_weather"}}}),
    ("tools", CHAT, {"messages": USER, "max_tokens": 10, "tools": [TOOL]}),
    ("a response that calls", RESPONSE, {"input": "Weather in Oslo?", "max_output_tokens": 150, "seed": 1,
                                         "tools": [FLAT_TOOL], "tool_choice": "required"}),
]


class Auditor:
    """Asks a server, and audits with the model that it has."""

    def __init__(self, server, model):
        self.server, self.model = server, model
        self.path = os.path.join(server.folder, "receipt.json")

    def ask(self, path, body, what, headers=None):
        """The receipt's document with its transcript; None where there is no answer."""
        sent = json.dumps(body).encode()
        status, found, answer = self.server.request("POST", path, sent, {**FULL_RECEIPT, **(headers or {})}, timeout=300)
        if not checks.equal(status, 200, f"{what}: {answer[:500]}"):
            return None
        client = Client(found, what)
        if body.get("stream"):
            Asker.follow(path, answer.decode(), client, True)
        else:
            Asker.take(path, json.loads(answer), client, True)
        document = self.server.json("GET", f"/v1/receipts/{client.id}?evidence=1")[1]
        document["transcript"] = {"salt": client.salt.hex(), "request": base64.b64encode(sent).decode(),
                                  "choices": [{"steps": client.steps[i]} for i in sorted(client.steps)]}
        return document

    def audit(self, document, *arguments, model=None):
        """(exit status, {check: (state, found, expected)})"""
        with open(self.path, "w", encoding="utf-8") as file:
            json.dump(document, file)
        done = subprocess.run([PROGRAM, "audit", self.path, "--model", model or self.model, "--json", "--threads", "1", *arguments],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if not checks.true(done.stdout.startswith("{"), f"a verdict: {done.stdout}{done.stderr}"):
            return done.returncode, {}
        verdict = json.loads(done.stdout)
        checks.equal(verdict["passed"], done.returncode == 0, "the exit status is the verdict")
        return done.returncode, {check["name"]: (check["state"], check["found"], check["expected"]) for check in verdict["checks"]}

    def passes(self, document, what, *arguments):
        status, found = self.audit(document, *arguments)
        bad = {name: check for name, check in found.items()
               if check[0] == "fail" or (check[0] == "not checked" and name.startswith("audit."))}
        checks.equal((status, bad), (0, {}), f"{what}: an honest answer passes")
        for number in range(len(document["signed"]["receipt"]["choices"])):
            for part in ("tokens", "finish", "delivered"):
                checks.equal(found.get(f"audit.{part}.{number}", ("",))[0], "pass", f"{what}: {part} of choice {number}")

    def fails(self, document, check, expected, what, *arguments, model=None):
        """The check is the first one of the audit's that fails, and says what is right where that is given."""
        status, found = self.audit(document, *arguments, model=model)
        failed = [name for name, result in found.items() if result[0] == "fail"]
        checks.equal((status, failed[:1]), (1, [check]), f"{what}: {found.get(check)}")
        if expected is not None:
            checks.contains(str(found.get(check, ("",) * 3)[2]), expected, what)

    def lacks(self, document, check, why, what):
        """Nothing is wrong, but not all could be checked: it does not pass."""
        status, found = self.audit(document)
        checks.equal((status, [name for name, result in found.items() if result[0] == "fail"]), (1, []), what)
        checks.equal(found.get(check, ("",))[0], "not checked", f"{what}: {check}")
        checks.contains(str(found.get(check, ("",) * 2)[1]), why, what)


def ask_honest(auditor, kinds):
    for number, (what, path, body) in enumerate(kinds):
        for stream in (True, False) if FULL else (number % 2 == 0,):
            asked = {**body, "stream": True} if stream else {key: value for key, value in body.items() if key != "stream_options"}
            document = auditor.ask(path, asked, what)
            if document:
                auditor.passes(document, f"{what}{', streamed' if stream else ''}")


# --- lies ---

def steps_of(document, choice=0):
    return document["transcript"]["choices"][choice]["steps"]


def tell_lies(auditor, other_model):
    """`other_model`: another one of the same architecture and tokenizer."""
    body = {"messages": USER, "max_tokens": 12, "seed": 11, "n": 2}
    document = auditor.ask(CHAT, body, "two choices")
    others = [auditor.ask(CHAT, {**body, **changed}, f"other {list(changed)}")
              for changed in ({"seed": 12}, {"temperature": 0.3}, {"top_k": 1},
                              {"messages": [{"role": "user", "content": "Tell me the capital of Poland."}]})]
    with Forger() as forger:
        def lie(check, expected, what, change, *arguments, base=document, **more):
            changed = forger.copy(base)
            change(changed)
            auditor.fails(forger.sign(changed), check, expected, what, *arguments, **more)

        checks.equal(auditor.audit(forger.sign(forger.copy(document)))[0], 0, "the forger's own signature is no lie")

        # Tokens.
        def change_token(changed):
            step = next(step for step in steps_of(changed, 1) if step.get("ids"))
            step["ids"][0] ^= 1
        lie("audit.tokens.1", str(steps_of(document, 1)[0]["ids"][0]), "a token is another one", change_token)
        lie("audit.tokens.0", None, "a token that no model has", lambda changed: steps_of(changed)[0]["ids"].__setitem__(0, 2**32 - 1))
        for other, what in zip(others, ("seed", "temperature", "top_k", "prompt")):
            lie("audit.tokens.0", None, f"sampled with another {what} than is signed",
                lambda changed, other=other: changed["transcript"].__setitem__("choices", copy.deepcopy(other["transcript"]["choices"])))

        def swap(changed):
            changed["transcript"]["choices"].reverse()
        lie("audit.tokens.0", None, "the choices are swapped", swap)

        def truncate(changed):
            steps = steps_of(changed)
            del steps[4:-1]
            steps[-1] = {"part": "finish", "text": "stop"}
        lie("audit.tokens.0", "token", "an answer cut short that says it ended", truncate)
        lie("audit.tokens.0", "token", "an answer cut short that says length",
            lambda changed: (truncate(changed), steps_of(changed)[-1].__setitem__("text", "length")))
        lie("audit.tokens.0", "token", "a deadline that nobody set",
            lambda changed: (truncate(changed), steps_of(changed)[-1].__setitem__("text", "length\0deadline")))
        lie("audit.tokens.0", "the answer's end after 12 tokens", "a token after the last one",
            lambda changed: steps_of(changed).insert(-1, {"part": "content", "text": "x", "ids": [101]}))

        # Ends and what was delivered.
        def finish(text):
            return lambda changed: steps_of(changed)[-1].__setitem__("text", text)
        for text in ("stop", "tool_calls", "length\0range", "length\0deadline", "stop\0nothing"):
            lie("audit.finish.0", "length", f"the finish {text!r}", finish(text))

        def change_text(changed):
            step = next(step for step in steps_of(changed) if step["part"] == "content")
            step["text"] = step["text"][::-1] + "!"
        lie("audit.delivered.0", "content", "the text is another one", change_text)

        def join_steps(changed):
            steps = steps_of(changed)
            first, second = steps[0], steps.pop(1)
            first["text"] += second["text"]
            first["ids"] += second["ids"]
        lie("audit.delivered.0", "content", "two steps are one", join_steps)

        def move_id(changed):
            steps = steps_of(changed)
            steps[1]["ids"] = steps[0].pop("ids") + steps[1]["ids"]
        lie("audit.delivered.0", "content", "a token goes with a later step", move_id)
        lie("audit.delivered.0", "finish", "a step that no token gave",
            lambda changed: steps_of(changed).insert(-1, {"part": "content", "text": "more"}))

        # What the receipt says of request, prompt and model.
        def parameter(name, value):
            return lambda changed: changed["signed"]["receipt"]["parameters"].__setitem__(name, value)
        for name, value in (("temperature", 0), ("seed", "12"), ("top_k", 1), ("max_tokens", 13), ("n", 1), ("echo", True),
                            ("stop", ["x"]), ("logit_bias", "0" * 64), ("tool_choice", "required")):
            lie("audit.parameters", None, f"{name} is signed as another one", parameter(name, value))
        lie("audit.tokens.0", "the answer's end after 11 tokens", "a lower limit than was in effect", parameter("max_tokens", 11))

        def request(body):
            return lambda changed: changed["transcript"].__setitem__("request", base64.b64encode(body).decode())
        lie("audit.request", None, "a request that is none", request(b"{}"))
        lie("audit.request", None, "a request that is no JSON", request(b"\x00"))
        lie("audit.request", "as many", "a request for one answer", request(json.dumps({**body, "n": 1}).encode()))
        lie("audit.request", None, "a request with a token that no model has",
            request(json.dumps({**body, "logit_bias": {"4000000": 1}}).encode()))
        lie("audit.request", None, "an endpoint that answers nothing", parameter("endpoint", "/v1/embeddings"))

        def other_prompt(changed):
            ids = [1, 2, 3]
            changed["signed"]["receipt"]["prompt"] = prompt_hash(bytes.fromhex(changed["transcript"]["salt"]), ids).hex()
        lie("audit.prompt", None, "the prompt of another request", other_prompt)
        lie("audit.prompt_tokens", "", "the prompt's number of tokens",
            lambda changed: changed["signed"]["receipt"].__setitem__("prompt_tokens", 3))

        def other_request(changed):
            changed["transcript"]["request"] = others[3]["transcript"]["request"]
        lie("audit.prompt", None, "the request of another prompt", other_request)
        for name in ("tokenizer", "chat_template", "model_root", "adapter_root"):
            check = {"model_root": "audit.model", "adapter_root": "audit.adapter"}.get(name, f"audit.{name}")
            lie(check, None, f"{name} is another one", lambda changed, name=name: changed["signed"]["receipt"].__setitem__(name, "ab" * 32))
        lie("audit.program", "1", "another program", lambda changed: changed["signed"]["receipt"].__setitem__("program_version", 2))
        auditor.fails(document, "audit.model", None, "audited with another model", model=other_model)
        with Server(other_model, tls=False, arguments=OPTIONS) as server:
            theirs = Auditor(server, other_model).ask(CHAT, body, "another model")

            def of_other_model(changed):
                changed["transcript"]["choices"] = copy.deepcopy(theirs["transcript"]["choices"])
            lie("audit.tokens.0", None, "a smaller model answered", of_other_model)

        # What cannot be checked does not pass.
        bare = forger.copy(document)
        del bare["transcript"]
        auditor.lacks(bare, "audit.tokens", "no transcript", "without a transcript")
        broken = copy.deepcopy(document)
        steps_of(broken)[0]["text"] += "x"
        auditor.fails(broken, "receipt.chain.0", None, "a transcript that is not what was signed")
        path = os.path.join(auditor.server.folder, "request.json")
        for request, status in (({**body, "seed": 12}, 1), (body, 0)):
            with open(path, "w", encoding="utf-8") as file:
                file.write(json.dumps(request))
            checks.equal(auditor.audit(document, "--request", path)[0], status, "--request is what counts")


def take_options(auditor):
    """Policy, log and time are judged as `bulla verify` does."""
    document = auditor.ask(CHAT, {"messages": USER, "max_tokens": 3}, "options")
    key, path = auditor.server.request("GET", "/log/key")[2].decode(), os.path.join(auditor.server.folder, "policy.json")
    for policy, check in ((POLICY, None), ({"attestation": {"type": "sim"}}, "policy.allow_simulated")):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(policy, file)
        status, found = auditor.audit(document, "--policy", path, "--log-key", key, "--time", "2030-01-01")
        checks.equal((status, [name for name, result in found.items() if result[0] == "fail"]), (1, [check]) if check else (0, []),
                     f"{policy}: {found.get(check)}")
    checks.equal(auditor.audit(document, "--log-key", "example.com/log+a06c8792+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f")[1]
                 .get("log.checkpoint", ("",))[0], "fail", "another log's key")


def lie_about_ends(auditor, end, letter):
    """Answers that end by themselves: with a token, a stop string, a call."""
    ended = auditor.ask(CHAT, {"messages": USER, "max_tokens": 40, "seed": 4, "logit_bias": {str(end): 4}}, "an end token")
    stopped = auditor.ask(CHAT, {"messages": USER, "max_tokens": 40, "seed": 3, "stop": ["e"], "logit_bias": {str(letter): 7}},
                          "a stop string")
    with Forger() as forger:
        changed = forger.copy(ended)
        steps_of(changed)[-1]["text"] = "length"
        auditor.fails(forger.sign(changed), "audit.finish.0", "stop", "an answer that ended says length")
        changed = forger.copy(ended)
        steps_of(changed).insert(-1, {"part": "content", "text": "x", "ids": [101]})
        auditor.fails(forger.sign(changed), "audit.tokens.0", "end", "an answer that went on after its end")
        changed = forger.copy(stopped)
        checks.equal(steps_of(changed)[-1]["text"], "stop\0e", "a stop string ends it")
        steps_of(changed)[-1]["text"] = "stop"
        auditor.fails(forger.sign(changed), "audit.finish.0", "stop (e)", "a stop string is not told")


def tell_the_day(model):
    """A template that writes the date: an answer may end on the day after it began, and no later."""
    with Server(model, tls=False, arguments=OPTIONS) as server, Forger() as forger:
        auditor = Auditor(server, model)
        document = forger.copy(auditor.ask(CHAT, {"messages": USER, "max_tokens": 4}, "a date"))
        auditor.passes(forger.sign(document), "a template with a date")
        midnight = document["signed"]["receipt"]["time"] // 86400 * 86400 + 86400
        for time, passes in ((midnight - 1, True), (midnight + 5, True), (midnight + 86400, False)):
            document["signed"]["receipt"]["time"] = time
            if passes:
                auditor.passes(forger.sign(document), f"signed at {time - midnight} s from midnight")
            else:
                auditor.fails(forger.sign(document), "audit.prompt", None, "a day too late")


def cut_by_limits(model):
    """Limits of the server: in the receipt where they are numbers; where the answer was cut off by its clock or its cache
    that cannot be computed."""
    with Server(model, tls=False, arguments=[*OPTIONS, "--max-tokens", "7", "--max-seconds", "600"]) as server:
        auditor = Auditor(server, model)
        for body in (ENDLESS, {**ENDLESS, "max_tokens": 3}, {**ENDLESS, "timeout": 500}):
            auditor.passes(auditor.ask(CHAT, body, "limits"), f"limits of the server's: {body}")
        auditor.passes(auditor.ask(CHAT, ENDLESS, "a header", {"x-request-timeout": "400"}), "a header's timeout")
    with Server(model, tls=False, arguments=[*OPTIONS, "--context-cache", "128"]) as server:
        auditor = Auditor(server, model)
        document = auditor.ask(CHAT, ENDLESS, "a small cache")
        auditor.lacks(document, "audit.finish.0", "cache", "an answer that ended with the server's cache")


def cut_by_deadline(model):
    """An honest one, as long as the machine is not so fast that there is none."""
    with Server(model, tls=False, arguments=OPTIONS) as server:
        auditor = Auditor(server, model)
        for seconds in (0.05, 0.1, 0.2, 0.4, 0.8):
            sent = {**ENDLESS, "n": 8, "timeout": seconds}
            if server.request("POST", CHAT, sent, timeout=300)[0] != 200: # too short for any token
                continue
            document = auditor.ask(CHAT, sent, "a deadline")
            late = [i for i in range(8) if steps_of(document, i)[-1]["text"] == "length\0deadline"]
            for number in late[:1]:
                auditor.lacks(document, f"audit.finish.{number}", "deadline", "an answer that its deadline ended")
            return


def cut_by_range(folder):
    gguf, model = os.path.join(folder, "range.gguf"), os.path.join(folder, "range.bulla")
    tiny_gguf.write(gguf, "range")
    subprocess.run([PROGRAM, "import", gguf, "-o", model, "--fast"], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with Server(model, tls=False, arguments=OPTIONS) as server:
        auditor = Auditor(server, model)
        body = {"prompt": "the sea", "max_tokens": 5, "temperature": 0, "logit_bias": {str(tiny_gguf.RARE_TOKEN): 1000}}
        document = auditor.ask(COMPLETION, body, "an answer that leaves a bound")
        checks.equal(steps_of(document)[-1]["text"], "length\0range", "it does")
        auditor.passes(document, "an answer that leaves a bound")
        with Forger() as forger:
            changed = forger.copy(document)
            steps_of(changed)[-1]["text"] = "stop"
            auditor.fails(forger.sign(changed), "audit.finish.0", "length (range)", "a bound that is not told")


def ask_upstream(model):
    engine = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    with Server(tls=False, arguments=["--upstream", f"http://127.0.0.1:{engine.server_address[1]}", "--name", "far"]) as server:
        server.wait(lambda: server.request("GET", "/ready")[0] == 200, what="the upstream")
        auditor = Auditor(server, model)
        auditor.lacks(auditor.ask(CHAT, {"messages": USER, "tools": [TOOL], "stream": True}, "an upstream"), "audit.tokens",
                      "attested only", "an upstream's answer")
    engine.shutdown()


def misuse(model):
    def run(*arguments):
        done = subprocess.run([PROGRAM, "audit", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr
    path = os.path.join(os.path.dirname(model), "broken.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write("{")
    for arguments, status, words in (([path], 2, "--model"), (["/nowhere", "--model", model], 1, "/nowhere"),
                                     ([path, "--model", "/nowhere"], 1, "/nowhere"), ([path, "--model", model], 1, "broken.json")):
        found = run(*arguments)
        checks.equal(found[0], status, f"{arguments}: {found[1]}")
        checks.contains(found[1], words, str(arguments))
    with open(path, "w", encoding="utf-8") as file:
        file.write("{}")
    checks.equal(run(path, "--model", model)[0], 1, "what is no receipt")


def audit_real():
    """Models whose answers are words."""
    ends = {"smollm2": 2, "gemma3": 106}
    for name, path in sources():
        if name != "smollm2" and not FULL: # it would take minutes to import
            continue
        with Server(path, tls=False) as server:
            kinds = list(requests(ends[name]))
            ask_honest(Auditor(server, path), kinds if FULL else [kinds[i] for i in (2, 4, 5, 8, 11)])


def main():
    if not can_serve():
        checks.skip("this build has no bulla serve")
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder, "plain", TEMPLATE)
        other = os.path.join(folder, "other")
        os.mkdir(other)
        gguf = os.path.join(other, "other.gguf")
        tiny_gguf.write(gguf, "llama", seed=2)
        subprocess.run([PROGRAM, "import", gguf, "-o", os.path.join(other, "other.bulla"), "--fast", "--template",
                        os.path.join(folder, "plain.jinja")], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        with Server(model, tls=False, arguments=OPTIONS) as server:
            auditor = Auditor(server, model)
            ask_honest(auditor, [*requests(2), *TOOL_REQUESTS])
            tell_lies(auditor, os.path.join(other, "other.bulla"))
            lie_about_ends(auditor, 2, 264)
            take_options(auditor)
        thinking = make_model(folder, "thinks", TEMPLATE.replace("me: ", "me: <think>"))
        with Server(thinking, tls=False, arguments=OPTIONS) as server:
            ask_honest(Auditor(server, thinking), [("thinking", CHAT, {"messages": USER, "max_tokens": 12, "temperature": 0}),
                                                   ("a response that thinks", RESPONSE, {"input": "?", "max_output_tokens": 9}),
                                                   *TOOL_REQUESTS])
        tell_the_day(make_model(folder, "dated", "{{ strftime_now('%d %b %Y') }}" + TEMPLATE))
        cut_by_limits(model)
        cut_by_deadline(model)
        cut_by_range(folder)
        ask_upstream(model)
        misuse(model)
    audit_real()
    checks.finish()


if __name__ == "__main__":
    main()
