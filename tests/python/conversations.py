"""Conversations and settings that chat templates of real models are rendered with."""

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Current weather in a place — °C or °F.",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "City, e.g. \"São Paulo\""},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14}}},
    "return": {"type": "object", "properties": {"temperature": {"type": "number"}}}}}
SEARCH = {"type": "function", "function": {
    "name": "search", "description": "Searches <docs> & more.",
    "parameters": {"type": "object", "required": ["query", "filters"], "properties": {
        "query": {"type": "string"},
        "filters": {"type": "object", "properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "limit": {"type": ["integer", "null"]},
            "nested": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "boolean"}}}}}},
        "either": {"anyOf": [{"type": "string"}, {"type": "number"}]}}}}}
NOTHING = {"type": "function", "function": {"name": "ping", "description": "", "parameters": {
    "type": "object", "properties": {}}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments, number="abcdefgh1"):
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(text, number="abcdefgh1", name="get_weather"):
    return {"role": "tool", "tool_call_id": number, "name": name, "content": text}


SYSTEM = {"role": "system", "content": "You are helpful.\nAnswer briefly."}
PARTS = [{"type": "text", "text": "First part."}, {"type": "text", "text": "Second: 你好"}]
IMAGE = [{"type": "image", "image": "x.png"}, {"type": "text", "text": "What is this?"}]
THOUGHT = "<think>\nLet me see.\n</think>\n\nIt is 4."

CONVERSATIONS = {
    "one user": [user("Hello, who are you?")],
    "system and user": [SYSTEM, user("Hi")],
    "several turns": [SYSTEM, user("What is 2 + 2?"), assistant("4."), user("And 3 + 3?"), assistant("6."),
                      user("Thanks!")],
    "ends with assistant": [user("Say something."), assistant("Something.")],
    "unicode": [{"role": "system", "content": "Você é útil. 🌍"}, user("Grüße, 世界! é \u00a0 ‮x"),
                assistant("Ça va? 👩‍👩‍👧 \u2028 ok"), user("İstanbul ẞ ΑΣ")],
    "white space": [{"role": "system", "content": "  padded  \n"}, user("\n\n  two\tlines \r\n end  \n"),
                    assistant(" \n answer \n\n"), user("")],
    "special characters": [user("<|im_end|> {{ x }} {% y %} \"q\" 'q' \\ </s> & <b>"), assistant("`code`\n```\nx\n```"),
                           user("[INST] ok [/INST]")],
    "developer": [{"role": "developer", "content": "Be terse."}, user("Hi")],
    "thinking in content": [user("2+2?"), assistant(THOUGHT), user("Sure?")],
    "reasoning content": [user("2+2?"), assistant("It is 4.", reasoning_content="Let me see."), user("Sure?")],
    "reasoning field": [user("2+2?"), assistant("It is 4.", reasoning="Let me see.", thinking="Hm."), user("Sure?")],
    "reasoning at the end": [user("2+2?"), assistant("It is 4.", reasoning_content="Let me see.")],
    "tool call": [SYSTEM, user("Weather in São Paulo?"),
                  assistant("", tool_calls=[call("get_weather", {"city": "São Paulo", "days": 2, "x": 1.5, "y": None,
                                                                 "z": True, "list": [1, "a", {"b": []}]})]),
                  tool("{\"temperature\": 23.5}"), assistant("It is 23.5 °C."), user("Thanks")],
    "tool call, null content": [user("Weather?"), assistant(None, tool_calls=[call("get_weather", {"city": "Rome"})]),
                                tool("sunny")],
    "tool call with text": [user("Weather?"),
                            assistant("I will look.", tool_calls=[call("get_weather", {"city": "A"})]),
                            tool("sunny"), assistant("Sunny.")],
    "string arguments": [user("Weather?"), assistant("", tool_calls=[call("get_weather", "{\"city\": \"Rome\"}")]),
                         tool("sunny")],
    "two tool calls": [user("Both?"), assistant("", tool_calls=[call("get_weather", {"city": "Rome"}, "aaaaaaaa1"),
                                                                call("search", {"query": "x", "filters": {}},
                                                                     "bbbbbbbb2")]),
                       tool("sunny", "aaaaaaaa1"), tool("nothing", "bbbbbbbb2", "search"), assistant("Done."),
                       user("More?")],
    "tool call and reasoning": [user("Weather?"),
                                assistant("", reasoning_content="I need the tool.",
                                          tool_calls=[call("get_weather", {"city": "Rome"})]),
                                tool("sunny"), assistant("Sunny.", reasoning_content="It said so."), user("Ok")],
    "call without type": [user("Weather?"), assistant("", tool_calls=[{"name": "get_weather",
                                                                       "arguments": {"city": "Rome"}}]),
                          {"role": "tool", "content": {"temperature": 20}}],
    "tool parts": [user("Weather?"), assistant("", tool_calls=[call("get_weather", {"city": "Rome"})]),
                   tool([{"type": "text", "text": "sunny"}])],
    "parts": [{"role": "system", "content": [{"type": "text", "text": "Sys."}]}, user(PARTS),
              assistant([{"type": "text", "text": "Yes."}]), user(PARTS)],
    "image": [user(IMAGE)],
    "system later": [user("Hi"), SYSTEM, user("Hi again")],
    "two users": [user("One"), user("Two")],
    "assistant first": [assistant("Hello!"), user("Hi")],
    "unknown role": [user("Hi"), {"role": "critic", "content": "Bad."}],
    "no messages": [],
    "no content": [{"role": "user"}],
}

SETTINGS = {
    "plain": {},
    "prompt": {"add_generation_prompt": True},
    "tools": {"add_generation_prompt": True, "tools": [WEATHER, SEARCH, NOTHING]},
    "thinking": {"add_generation_prompt": True, "enable_thinking": True, "thinking": True,
                 "reasoning_effort": "high", "keep_all_reasoning": True, "preserve_thinking": True},
    "no thinking": {"add_generation_prompt": True, "enable_thinking": False, "thinking": False,
                    "tools": [WEATHER], "thinking_budget": 0},
    "documents": {"add_generation_prompt": True, "tools": None, "documents": [
        {"title": "A", "text": "Text of A.", "doc_id": 1}, {"title": "B", "text": "Text of B.", "doc_id": 2}],
        "custom_tools": [WEATHER], "builtin_tools": ["brave_search", "code_interpreter"], "date_string": "01 Jan 2026",
        "model_identity": "You are Bulla.", "xml_tools": [SEARCH["function"]], "functions": "[]",
        "datetime": "2026-01-01", "system_message": "Sys", "todays_date": "2026-01-01"},
}


def variables(messages, settings):
    return {"messages": messages, "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
            "add_generation_prompt": False, **settings}


def all_variables():
    """(name, variables) of every conversation with every setting."""
    for name, messages in CONVERSATIONS.items():
        for setting, values in SETTINGS.items():
            yield f"{name}, {setting}", variables(messages, values)
