"""A `bulla connect` that a test starts, uses and ends by its id, as serving.Server is.

    with Connect(server.url, server.policy()) as connect:
        connect.key                             # that clients need
        connect.chat("Hello", stream=True)      # an Outcome
        connect.receipts()                      # the documents it kept
"""
import glob
import json
import os

import serving
from serving import Server


class Outcome:
    """What a client saw. `verified`: it was told so; `failed`: visibly not; `text`: of choice 0."""

    def __init__(self, status, headers, body, streamed):
        self.status, self.headers, self.body = status, headers, body
        self.events, self.text, self.error, self.mark, self.is_done, self.finish = [], "", None, None, False, None
        if streamed and status == 200:
            self.read_events(body.decode("utf-8", "replace"))
        else:
            self.read_body(body)
        self.verified = (self.mark or {}).get("verified") is True
        self.failed = self.error is not None or status >= 400

    def read_events(self, text):
        for line in text.split("\n"):
            if line == "data: [DONE]":
                self.is_done = True
            elif line.startswith("data: "):
                self.events.append(json.loads(line[6:]))
        for event in self.events:
            self.mark = event.get("bulla", self.mark)
            if event.get("type") == "error":
                self.error = event
            self.error = event.get("error") or self.error
            if event.get("type") == "response.output_text.delta":
                self.text += event["delta"]
            for choice in event.get("choices", []):
                if choice["index"] == 0:
                    self.text += choice.get("delta", choice).get("content") or choice.get("text") or ""
                    self.finish = choice.get("finish_reason") or self.finish
        if self.events and self.events[-1].get("type") in ("response.completed", "response.incomplete"):
            self.is_done = True

    def read_body(self, body):
        try:
            value = json.loads(body)
        except ValueError:
            return
        if not isinstance(value, dict):
            return
        self.value = value
        self.mark, self.error = value.get("bulla"), value.get("error")
        for choice in value.get("choices", [])[:1]:
            self.text = (choice.get("message") or {}).get("content") or choice.get("text") or ""
            self.finish = choice.get("finish_reason")
        for item in value.get("output", []):
            if item["type"] == "message":
                self.text += "".join(part["text"] for part in item["content"])

    def __repr__(self):
        return f"<{self.status} verified={self.verified} error={self.error} text={self.text!r} done={self.is_done}>"


class Connect(Server):
    def __init__(self, url, policy, arguments=(), start=True, is_open=False, state=None, receipts=None):
        super().__init__(start=False, tls=False, arguments=arguments)
        self.server_url, self.is_open = url, is_open
        self.kept = state or os.path.join(self.folder, "kept")
        self.receipts_folder = receipts or os.path.join(self.kept, "receipts")
        self.policy_path = os.path.join(self.folder, "policy.json")
        with open(self.policy_path, "w", encoding="utf-8") as file:
            json.dump(policy, file)
        if start:
            try:
                self.start()
            except BaseException:
                self.remove()
                raise

    def command(self):
        program = self.program if isinstance(self.program, list) else [self.program]
        command = [*program, "connect", self.server_url, "--policy", self.policy_path, "--listen", self.listen,
                   "--state", self.kept]
        return command + (["--open"] if self.is_open else []) + self.arguments

    @property
    def key(self):
        return self.read(os.path.join(self.kept, "key")).strip()

    def receipts(self):
        return [json.loads(self.read(path)) for path in sorted(glob.glob(os.path.join(self.receipts_folder, "*.json")))]

    def ask(self, path, body, streamed=False, headers=None, timeout=60):
        own = {} if self.is_open else {"Authorization": f"Bearer {self.key}"}
        if streamed:
            body = {**body, "stream": True}
        try:
            return Outcome(*self.request("POST", path, body, {**own, **(headers or {})}, timeout), streamed)
        except (OSError, serving.http.client.HTTPException) as problem:
            outcome = Outcome(0, {}, b"", False)
            outcome.error, outcome.failed = {"message": f"broken off: {problem!r}"}, True
            return outcome

    def chat(self, text, streamed=False, headers=None, **more):
        body = {"model": "canned", "messages": [{"role": "user", "content": text}], **more}
        return self.ask("/v1/chat/completions", body, streamed, headers)

    def get(self, path):
        return self.request("GET", path, None, {} if self.is_open else {"Authorization": f"Bearer {self.key}"})
