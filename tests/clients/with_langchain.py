"""LangChain's ChatOpenAI and OpenAIEmbeddings."""
import asyncio

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from common import Animal, raised


@tool
def get_weather(place: str) -> str:
    """The weather at a place."""
    return f"31 degrees in {place}"


def open_model(target, **options):
    settings = {"max_tokens": 24, "temperature": 0, "max_retries": 0, **options}
    return ChatOpenAI(model=target.model, base_url=target.base, api_key=target.key, http_client=target.http(),
                      http_async_client=target.async_http(), **settings)


def check_all(checks, target):
    chat(checks, target)
    tools(checks, target)
    schemas(checks, target)
    embeddings(checks, target)
    error = raised(openai.BadRequestError, lambda: open_model(target, temperature=-1).invoke("Hello."))
    checks.true(error and error.param == "temperature", "LangChain: an error with its field")


def chat(checks, target):
    model = open_model(target)
    messages = [SystemMessage("Be brief."), HumanMessage("Say hello.")]
    answer = model.invoke(messages)
    checks.true(isinstance(answer, AIMessage) and answer.content, "LangChain: an answer")
    checks.true(answer.usage_metadata["output_tokens"] > 0, "LangChain: usage")
    checks.true(answer.response_metadata["finish_reason"] in ("stop", "length"), "LangChain: finish reason")
    chunks = list(model.stream(messages, stream_usage=True))
    checks.equal("".join(chunk.content for chunk in chunks), answer.content, "LangChain: streamed")
    checks.equal(len(model.batch(["Red", "Green", "Blue"])), 3, "LangChain: a batch")

    async def asynchronous():
        own = open_model(target)
        text = (await own.ainvoke(messages)).content
        return text, "".join([chunk.content async for chunk in own.astream(messages)])

    checks.equal(asyncio.run(asynchronous()), (answer.content, answer.content), "LangChain: asynchronous")


def tools(checks, target):
    model = open_model(target, max_tokens=100)
    forced = model.bind_tools([get_weather], tool_choice="get_weather", parallel_tool_calls=False)
    question = HumanMessage("How warm is Rome?")
    answer = forced.invoke([question])
    checks.equal([call["name"] for call in answer.tool_calls], ["get_weather"], "LangChain: a forced call")
    checks.true(isinstance(answer.tool_calls[0]["args"]["place"], str), "LangChain: its arguments")
    whole = None
    for chunk in forced.stream([question]):
        whole = chunk if whole is None else whole + chunk
    checks.equal([(call["name"], call["args"]) for call in whole.tool_calls],
                 [(call["name"], call["args"]) for call in answer.tool_calls], "LangChain: a streamed call")
    result = ToolMessage("31", tool_call_id=answer.tool_calls[0]["id"])
    checks.true(model.invoke([question, answer, result]).content, "LangChain: an answer after a call")


def schemas(checks, target):
    for method in ("json_schema", "function_calling"):
        model = open_model(target, max_tokens=100).with_structured_output(Animal, method=method)
        found = model.invoke("An animal in JSON.")
        checks.true(isinstance(found, Animal), f"LangChain: structured by {method}")


def embeddings(checks, target):
    model = OpenAIEmbeddings(model=target.model, base_url=target.base, api_key=target.key, http_client=target.http(),
                             check_embedding_ctx_length=False)
    vectors = model.embed_documents(["red", "a long road"])
    checks.true(len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 100, "LangChain: embeddings")
    alone = model.embed_query("red")
    checks.true(max(abs(a - b) for a, b in zip(alone, vectors[0])) < 1e-6, "LangChain: the same one alone")
