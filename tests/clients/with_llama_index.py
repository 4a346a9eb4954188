"""LlamaIndex's OpenAILike and OpenAILikeEmbedding."""
import asyncio

import openai
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

from common import Animal, raised


def get_weather(place: str) -> str:
    """The weather at a place."""
    return f"31 degrees in {place}"


def open_model(target, **options):
    settings = {"max_tokens": 24, "temperature": 0, "max_retries": 0, "timeout": 300, "context_window": 4096,
                "is_chat_model": True, "is_function_calling_model": True, **options}
    return OpenAILike(model=target.model, api_base=target.base, api_key=target.key, http_client=target.http(),
                      async_http_client=target.async_http(), **settings)


def check_all(checks, target):
    chat(checks, target)
    tools(checks, target)
    embeddings(checks, target)
    odd = open_model(target, additional_kwargs={"top_p": 7})
    error = raised(openai.BadRequestError, lambda: odd.complete("Hello."))
    checks.true(error and error.param == "top_p", "LlamaIndex: an error with its field")


def chat(checks, target):
    model = open_model(target)
    messages = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Say hello.")]
    text = model.chat(messages).message.content
    checks.true(text, "LlamaIndex: an answer")
    checks.equal("".join(piece.delta or "" for piece in model.stream_chat(messages)), text, "LlamaIndex: streamed")
    plain = open_model(target, is_chat_model=False)
    text = plain.complete("One, two, three,").text
    checks.true(text, "LlamaIndex: a completion")
    checks.equal("".join(piece.delta or "" for piece in plain.stream_complete("One, two, three,")), text,
                 "LlamaIndex: a streamed completion")

    async def asynchronous():
        own = open_model(target)
        return (await own.achat(messages)).message.content

    checks.equal(asyncio.run(asynchronous()), model.chat(messages).message.content, "LlamaIndex: asynchronous")


def tools(checks, target):
    model = open_model(target, max_tokens=100)
    tool = FunctionTool.from_defaults(fn=get_weather)
    answer = model.chat_with_tools([tool], user_msg="How warm is Rome?", tool_required=True)
    calls = model.get_tool_calls_from_response(answer)
    checks.equal([call.tool_name for call in calls][:1], ["get_weather"], "LlamaIndex: a forced call")
    checks.true(isinstance(calls[0].tool_kwargs["place"], str), "LlamaIndex: its arguments")
    checks.true(tool.call(**calls[0].tool_kwargs).content, "LlamaIndex: the call can be made")
    found = model.as_structured_llm(Animal).complete("An animal.").raw
    checks.true(isinstance(found, Animal), "LlamaIndex: structured")


def embeddings(checks, target):
    model = OpenAILikeEmbedding(model_name=target.model, api_base=target.base, api_key=target.key,
                                http_client=target.http())
    vectors = model.get_text_embedding_batch(["red", "a long road"])
    checks.true(len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 100, "LlamaIndex: embeddings")
