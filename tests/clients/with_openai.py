"""The official openai package for Python."""
import asyncio
import base64
import concurrent.futures
import json
import struct

import openai

from common import FOREVER, PLACES, QUESTION, UNITS, WEATHER, Animal, becomes, raised


def open_client(target, **options):
    settings = {"max_retries": 0, **options}
    return openai.OpenAI(base_url=target.base, api_key=target.key, http_client=target.http(), **settings)


def check_all(checks, target, running):
    """`running` gives the number of requests that the server computes now."""
    client = open_client(target)
    for part in (chat, choices_and_stops, logprobs, completions, schemas, responses, errors):
        part(checks, client, target.model)
    check_some(checks, target, running)


def check_some(checks, target, running):
    client = open_client(target)
    for part in (models, stream, tools, embeddings):
        part(checks, client, target.model)
    asyncio.run(asynchronous(checks, target))
    aborts(checks, client, target.model, running)


def chat(checks, client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=12, temperature=0)
    choice = answer.choices[0]
    checks.true(answer.id and answer.object == "chat.completion" and answer.created > 1700000000, "an answer's frame")
    checks.true(choice.message.role == "assistant" and choice.message.content, "an answer has content")
    checks.true(choice.finish_reason in ("stop", "length"), "its finish reason")
    checks.true(0 < answer.usage.completion_tokens <= 12 and answer.usage.prompt_tokens > 5, "usage")
    usage = answer.usage
    checks.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "usage adds up")
    parts = [{"role": "developer", "content": "Be brief."},
             {"role": "user", "content": [{"type": "text", "text": "Say"}, {"type": "text", "text": "hello."}]}]
    whole = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say\nhello."}]
    texts = [client.chat.completions.create(model=model, messages=messages, max_completion_tokens=8, temperature=0)
             .choices[0].message.content for messages in (parts, whole)]
    checks.equal(texts[0], texts[1], "content in parts and role developer")
    seeded = [client.chat.completions.create(model=model, messages=QUESTION, max_tokens=12, seed=seed, temperature=1.5)
              .choices[0].message.content for seed in (7, 7, 8, 9, 10)]
    checks.equal(seeded[0], seeded[1], "the same seed, the same answer")
    checks.true(len(set(seeded)) > 1, "other seeds, other answers")
    raw = client.chat.completions.with_raw_response.create(model=model, messages=QUESTION, max_tokens=1)
    checks.true(raw.headers.get("x-request-id"), "x-request-id")


def stream(checks, client, model):
    options = {"model": model, "messages": QUESTION, "max_tokens": 16, "temperature": 0}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    checks.equal(text, whole.choices[0].message.content, "streamed and at once")
    checks.equal(chunks[0].choices[0].delta.role, "assistant", "the role comes first")
    checks.equal(len({chunk.id for chunk in chunks}), 1, "one id a stream")
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    checks.equal(reasons, [whole.choices[0].finish_reason], "one finish reason")
    checks.true(chunks[-1].choices == [] and chunks[-1].usage == whole.usage, "usage in the last chunk")
    stop = text[len(text) // 2:][:3]  # the helper raises an exception for an answer that its length cut
    with client.chat.completions.stream(**options, stop=stop) as helper:
        kinds = {event.type for event in helper}
        checks.equal(helper.get_final_completion().choices[0].message.content, text[:text.index(stop)],
                     "the stream helper's text")
    checks.true({"chunk", "content.delta"} <= kinds, "the stream helper's events")


def choices_and_stops(checks, client, model):
    options = {"model": model, "messages": QUESTION, "max_tokens": 8, "n": 3, "seed": 3, "temperature": 1.2}
    answer = client.chat.completions.create(**options)
    checks.equal([choice.index for choice in answer.choices], [0, 1, 2], "n choices")
    texts = {0: "", 1: "", 2: ""}
    for chunk in client.chat.completions.create(**options, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    checks.equal(list(texts.values()), [choice.message.content for choice in answer.choices], "n choices streamed")
    options = {"model": model, "prompt": "One, two, three,", "max_tokens": 24, "temperature": 0}
    text = client.completions.create(**options).choices[0].text
    middle = text[len(text) // 2:][:3]
    for stop in (middle, ["never to be seen", middle]):
        answer = client.completions.create(**options, stop=stop)
        checks.equal(answer.choices[0].text, text[:text.index(middle)], "the text ends before the stop")
        checks.equal(answer.choices[0].finish_reason, "stop", "finish reason of a stop")


def logprobs(checks, client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=5, temperature=0, logprobs=True,
                                            top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    checks.equal(len(tokens), answer.usage.completion_tokens, "a logprob a token")
    for token in tokens:
        checks.true(token.logprob <= 0 and len(token.top_logprobs) == 3, "logprobs")
        checks.equal(token.top_logprobs[0].token, token.token, "greedy takes the likeliest")
        found = [top.logprob for top in token.top_logprobs]
        checks.equal(found, sorted(found, reverse=True), "likeliest first")
    answer = client.completions.create(model=model, prompt="One, two,", max_tokens=4, temperature=0, logprobs=2)
    found = answer.choices[0].logprobs
    checks.equal("".join(found.tokens), answer.choices[0].text, "the tokens are the text")
    checks.true(len(found.token_logprobs) == len(found.top_logprobs) == len(found.tokens), "completions' logprobs")


def completions(checks, client, model):
    answer = client.completions.create(model=model, prompt=["One, two,", "Red, green,"], max_tokens=6, temperature=0)
    checks.equal([choice.index for choice in answer.choices], [0, 1], "a choice a prompt")
    single = client.completions.create(model=model, prompt="Red, green,", max_tokens=6, temperature=0)
    checks.equal(single.choices[0].text, answer.choices[1].text, "prompts together or alone")
    ids = client.completions.create(model=model, prompt=[100, 200, 300], max_tokens=2, temperature=0)
    checks.equal(ids.usage.prompt_tokens, 3, "a prompt of token ids")
    text = "".join(chunk.choices[0].text for chunk in client.completions.create(
        model=model, prompt="Red, green,", max_tokens=6, temperature=0, stream=True) if chunk.choices)
    checks.equal(text, single.choices[0].text, "a streamed completion")


def check_call(checks, call, what):
    arguments = json.loads(call.function.arguments)
    checks.equal(call.function.name, "get_weather", what)
    holds = arguments["place"] in PLACES and arguments["unit"] in UNITS and len(arguments) == 2
    checks.true(holds, f"{what}: {arguments}")


def tools(checks, client, model):
    options = {"model": model, "messages": [{"role": "user", "content": "How warm is Rome?"}], "tools": [WEATHER],
               "max_tokens": 100, "temperature": 0}
    forced = {**options, "tool_choice": "required", "parallel_tool_calls": False}
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answer = client.chat.completions.create(**{**forced, "tool_choice": choice})
        checks.equal(answer.choices[0].finish_reason, "tool_calls", "finish reason of a call")
        checks.equal(len(answer.choices[0].message.tool_calls or []), 1, "one call")
        check_call(checks, answer.choices[0].message.tool_calls[0], "a forced call")
        checks.true(not answer.choices[0].message.content, "no text beside a forced call")
    pieces = {"id": "", "name": "", "arguments": ""}
    for chunk in client.chat.completions.create(**forced, stream=True):
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            checks.equal(call.index, 0, "the only call")
            pieces["id"] += call.id or ""
            pieces["name"] += call.function.name or ""
            pieces["arguments"] += call.function.arguments or ""
    message = answer.choices[0].message
    checks.equal(pieces["arguments"], message.tool_calls[0].function.arguments, "streamed arguments")
    checks.equal(pieces["name"], "get_weather", "a streamed name")
    checks.true(pieces["id"].startswith("call_"), "a streamed id")
    history = [*options["messages"], message.model_dump(exclude_none=True),
               {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "31"}]
    found = client.chat.completions.create(**{**options, "messages": history}, tool_choice="none").choices[0].message
    checks.true(found.content and not found.tool_calls, "an answer after a call")
    answer = client.chat.completions.create(**options)
    checks.true(answer.choices[0].finish_reason in ("stop", "length", "tool_calls"), "tool_choice auto")
    call = client.chat.completions.parse(**forced).choices[0].message.tool_calls[0]
    checks.true(call.function.parsed_arguments["place"] in PLACES, "parsed arguments")


def schemas(checks, client, model):
    options = {"model": model, "messages": [{"role": "user", "content": "Describe an animal in JSON."}]}
    for seed in range(4):
        answer = client.chat.completions.parse(**options, response_format=Animal, seed=seed, max_tokens=60)
        checks.true(isinstance(answer.choices[0].message.parsed, Animal), "a parsed answer")
        Animal.model_validate_json(answer.choices[0].message.content)
    with client.chat.completions.stream(**options, response_format=Animal, max_tokens=60) as helper:
        for _ in helper:
            pass
        checks.true(isinstance(helper.get_final_completion().choices[0].message.parsed, Animal), "a parsed stream")
    answer = client.chat.completions.create(**options, response_format={"type": "json_object"}, seed=1, max_tokens=200)
    if answer.choices[0].finish_reason == "stop":
        checks.true(isinstance(json.loads(answer.choices[0].message.content), dict), "json_object")


def embeddings(checks, client, model):
    floats = client.embeddings.create(model=model, input=["red", "a long road"], encoding_format="float")
    checks.equal([item.index for item in floats.data], [0, 1], "an embedding a text")
    checks.true(abs(sum(x * x for x in floats.data[0].embedding) - 1) < 1e-3, "of length 1")
    packed = client.embeddings.create(model=model, input="red")  # the client asks for base64 and decodes it
    checks.true(max(abs(a - b) for a, b in zip(packed.data[0].embedding, floats.data[0].embedding)) < 1e-6, "base64")
    raw = client.embeddings.with_raw_response.create(model=model, input="red", encoding_format="base64")
    data = base64.b64decode(json.loads(raw.text)["data"][0]["embedding"])
    checks.equal(len(struct.unpack(f"<{len(data) // 4}f", data)), len(floats.data[0].embedding), "base64 of float32")
    checks.true(floats.usage.prompt_tokens > 0, "usage of embeddings")


def responses(checks, client, model):
    options = {"model": model, "input": "Say hello.", "max_output_tokens": 12, "temperature": 0}
    answer = client.responses.create(**options)
    checks.true(answer.output_text and answer.status in ("completed", "incomplete"), "a response")
    checks.true(answer.usage.output_tokens > 0, "its usage")
    events = list(client.responses.create(**options, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    checks.equal(text, answer.output_text, "a streamed response")
    checks.equal(events[0].type, "response.created", "its first event")
    checks.true(events[-1].type in ("response.completed", "response.incomplete"), "its last event")
    checks.equal(events[-1].response.output_text, text, "its last event's text")
    numbers = [event.sequence_number for event in events]
    checks.equal(numbers, list(range(numbers[0], numbers[0] + len(numbers))), "sequence numbers")
    function = {"type": "function", **WEATHER["function"]}
    answer = client.responses.create(model=model, input="How warm is Rome?", tools=[function], tool_choice="required",
                                     parallel_tool_calls=False, max_output_tokens=100)
    calls = [item for item in answer.output if item.type == "function_call"]
    checks.equal(len(calls), 1, "a response's call")
    checks.true(json.loads(calls[0].arguments)["place"] in PLACES, "its arguments")
    parsed = client.responses.parse(model=model, input="Describe an animal.", text_format=Animal, max_output_tokens=60)
    checks.true(isinstance(parsed.output_parsed, Animal), "a parsed response")


def models(checks, client, model):
    checks.true(model in [item.id for item in client.models.list()], "the list of models")
    checks.equal(client.models.retrieve(model).id, model, "one model")
    checks.true(raised(openai.NotFoundError, lambda: client.models.retrieve("nothing")), "no such model")


def errors(checks, client, model):
    def chat_with(**options):
        whole = {"model": model, "messages": QUESTION, "max_tokens": 4, **options}
        return lambda: client.chat.completions.create(**whole)

    error = raised(openai.NotFoundError, chat_with(model="nothing"))
    checks.true(error and error.code == "model_not_found", "a model that is not served")
    for field, value in (("temperature", "hot"), ("max_tokens", "many"), ("top_p", 2), ("n", 0), ("stop", 5),
                         ("messages", []), ("messages", [{"role": "nobody", "content": "x"}])):
        error = raised(openai.BadRequestError, chat_with(**{field: value}))
        holds = error and (error.param or "").startswith(field)
        checks.true(holds, f"{field} {value}: {error} of {error and error.param}")
        checks.true(error and error.type == "invalid_request_error" and error.request_id, f"{field}: its frame")
    unsupported = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "elsewhere.json"}}}
    error = raised(openai.BadRequestError, chat_with(response_format=unsupported))
    checks.true(error and "$ref" in str(error), "a keyword that is not enforced is named")
    checks.true(chat_with(extra_body={"no_such_field": 1})(), "unknown fields are ignored")
    error = raised(openai.BadRequestError, chat_with(messages=[{"role": "user", "content": "long " * 20000}]))
    checks.true(error and error.status_code == 400, "a prompt longer than the context")


async def asynchronous(checks, target):
    async with openai.AsyncOpenAI(base_url=target.base, api_key=target.key, http_client=target.async_http()) as client:
        def ask(seed, **more):
            create = client.chat.completions.create
            return create(model=target.model, messages=QUESTION, max_tokens=10, seed=seed, **more)

        together = await asyncio.gather(*[ask(seed) for seed in range(8)])
        alone = [await ask(seed) for seed in range(8)]
        checks.equal([answer.choices[0].message.content for answer in together],
                     [answer.choices[0].message.content for answer in alone], "together and alone")
        text = ""
        async for chunk in await ask(0, stream=True):
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        checks.equal(text, alone[0].choices[0].message.content, "an asynchronous stream")


def aborts(checks, client, model, running):
    """Work that nobody waits for any more stops."""
    endless = {"model": model, "messages": QUESTION, "max_tokens": 5000, "extra_body": FOREVER}
    error = raised(openai.APITimeoutError, lambda: client.with_options(timeout=0.5).chat.completions.create(**endless))
    checks.true(error, "the client gave up")
    checks.true(becomes(lambda: running() == 0), "its work stops after a time-out")
    answer = client.chat.completions.create(**endless, stream=True)
    for _ in zip(range(5), answer):
        pass
    checks.true(running() > 0, "a stream is under way")
    answer.close()
    checks.true(becomes(lambda: running() == 0), "a stream's work stops when it is closed")


def check_busy(checks, target):
    """A server that computes one request and lets one wait: more get 503 with Retry-After, and clients come back."""
    def ask(retries, count):
        client = open_client(target, max_retries=retries)
        try:
            client.chat.completions.create(model=target.model, messages=QUESTION, max_tokens=count, extra_body=FOREVER)
            return None
        except openai.InternalServerError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        refused = [error for error in pool.map(lambda _: ask(0, 150), range(8)) if error]
        checks.true(0 < len(refused) < 8, f"{len(refused)} of 8 refused")
        for error in refused:
            checks.equal(error.status_code, 503, "status of a refusal")
            checks.true(int(error.response.headers["retry-after"]) > 0, "Retry-After")
        late = [str(error) for error in pool.map(lambda _: ask(500, 20), range(6)) if error]
        checks.equal(late, [], "those who retry")


def check_keys(checks, target):
    """`target` has a key that holds; a wrong one and none do not."""
    checks.true(open_client(target).models.list(), "a key that holds")
    wrong = openai.OpenAI(base_url=target.base, api_key="wrong", http_client=target.http(), max_retries=0)
    checks.true(raised(openai.AuthenticationError, wrong.models.list), "a key that does not hold")
