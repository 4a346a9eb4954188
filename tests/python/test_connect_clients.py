#!/usr/bin/env python3
"""The official openai package, LangChain and LlamaIndex, unchanged, against `bulla connect`: before `bulla serve --attester
sim` all that test_clients.py asks for works; before a server that misbehaves they raise their own exceptions."""
import sys

import hostile_server
from checks import Checks
from connecting import Connect
from demo_models import tool_model
from hostile_server import HostileServer
from serving import Server, can_serve
from test_clients import CLIENTS, NAME, become_client_python, configuration

POLICY = {"attestation": {"type": "sim", "allow_simulated": True}}


def check_honest(checks, model):
    import common
    import with_langchain
    import with_llama_index
    import with_openai
    with Server(config=configuration(model), arguments=["--attester", "sim"]) as server:
        with Connect(server.url, POLICY) as connect:
            target = common.Target(connect.url, NAME, key=connect.key)

            def running():
                return server.metric("vllm:num_requests_running")

            with_openai.check_all(checks, target, running)
            with_langchain.check_all(checks, target)
            with_llama_index.check_all(checks, target)
            checks.true(common.becomes(lambda: running() == 0), "nothing is left to compute")
            checks.true(len(connect.receipts()) > 10, "receipts are kept")


def check_hostile(checks):
    import openai
    messages = [{"role": "user", "content": "Tell me the capital of France."}]
    for lie in ("other_text", "dropped_last_event", "bad_signature", "hang_up", "missing_inclusion", "stale_nonce"):
        with HostileServer(lie=lie) as server, Connect(server.url, server.policy()) as connect:
            client = openai.OpenAI(base_url=connect.url + "/v1", api_key=connect.key, max_retries=0)
            for streamed in (False, True):
                text, problem = "", None
                try:
                    answer = client.chat.completions.create(model="canned", messages=messages, stream=streamed)
                    if streamed:
                        for chunk in answer:
                            text += chunk.choices[0].delta.content or ""
                except openai.OpenAIError as raised:
                    problem = raised
                checks.true(problem is not None, f"{lie}, streamed {streamed}: the client raises")
                checks.true("".join(hostile_server.WORDS).startswith(text), f"{lie}: what it had before is right")
            problem = None
            try:
                for event in client.responses.create(model="canned", input="hello", stream=True):
                    checks.true(event.type != "response.completed" or lie not in ("bad_signature", "missing_inclusion"),
                                f"{lie}: no completed response")
                    if event.type == "error":
                        problem = event
            except openai.OpenAIError as raised:
                problem = raised
            checks.true(problem is not None, f"{lie}: a streamed response fails")


def main():
    checks = Checks()
    checks.only_in_full("it installs the clients' packages")
    if not can_serve():
        checks.skip("this build has no bulla serve")
    become_client_python(checks)
    sys.path.insert(0, CLIENTS)
    check_hostile(checks)
    model = tool_model()
    if model:
        check_honest(checks, model)
    checks.finish()


main()
