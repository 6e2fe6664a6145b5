"""Drives a gateway with the clients and agent frameworks that people use, as they are.

`clients.py PLACE ADDRESS`: the place is `nothing`, a gateway without a file, or `outage`, one whose first choices are down.
"""

import functools
import json
import logging
import sys
import warnings

import anthropic
import checks
import instructor
import litellm
import openai
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from checks import KEY, Person, check, end, feature
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

warnings.simplefilter("ignore")
logging.disable(logging.ERROR)
set_tracing_disabled(True)
litellm.telemetry = False
litellm.suppress_debug_info = True

place, address = sys.argv[1:3]
base = "http://" + address
MODEL = "any"
HELLO = [{"role": "user", "content": "Who is Ada?"}]
# Some of them take long over a call.
raises = functools.partial(checks.raises, within=5)


def weather(city: str) -> str:
    """Says what the weather is in a city."""
    return "sunny in " + city


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
O_TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}
A_TOOL = {"name": "weather", "description": "d", "input_schema": SCHEMA}


def headers(protocol, of="healthy"):
    """What makes a call go where the test wants it: in an outage, first to a provider of either protocol that is down."""
    if of == "wrong":
        return {"x-steadfast-commit": "no such point"}
    if place == "nothing":
        return {}
    return feature(f"{protocol}-overloaded-then-{of}")


def is_ada(person):
    """Without a file a simulated model fills the schema with what it likes."""
    assert isinstance(person, Person), person
    assert place == "nothing" or (person.name, person.age) == ("Ada", 36), person


def is_call(name, arguments):
    assert name == "weather" and isinstance(arguments["city"], str), (name, arguments)


# The official SDKs, as far as nothing else has them: everything else about them is in `python.py`.
def o_client(of="healthy", **more):
    return openai.OpenAI(base_url=base + "/v1", api_key=KEY, default_headers=headers("o", of), **more)


def a_client(of="healthy", **more):
    return anthropic.Anthropic(base_url=base, api_key=KEY, default_headers=headers("a", of), **more)


@check("openai, whole and streamed")
def _():
    answer = o_client().chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content and answer.usage.completion_tokens > 0, answer
    chunks = list(o_client().chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks


@check("openai, a tool that is required, and a schema")
def _():
    answer = o_client("tools").chat.completions.create(
        model=MODEL, messages=HELLO, tools=[O_TOOL], tool_choice="required"
    )
    call = answer.choices[0].message.tool_calls[0].function
    is_call(call.name, json.loads(call.arguments))
    answer = o_client("person").chat.completions.parse(model=MODEL, messages=HELLO, response_format=Person)
    is_ada(answer.choices[0].message.parsed)


@check("openai, an error")
def _():
    raises(openai.BadRequestError, lambda: o_client("wrong").chat.completions.create(model=MODEL, messages=HELLO))


@check("anthropic, whole and streamed")
def _():
    asked = {"model": MODEL, "max_tokens": 200, "messages": HELLO}
    assert a_client().messages.create(**asked).content[0].text
    with a_client().messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) and stream.get_final_message().stop_reason == "end_turn"


@check("anthropic, a tool that is required, and a schema")
def _():
    asked = {"model": MODEL, "max_tokens": 200, "messages": HELLO}
    message = a_client("tools").messages.create(tools=[A_TOOL], tool_choice={"type": "any"}, **asked)
    is_call(message.content[-1].name, message.content[-1].input)
    is_ada(a_client("person").messages.parse(output_format=Person, **asked).parsed_output)


@check("anthropic, an error")
def _():
    asked = {"model": MODEL, "max_tokens": 200, "messages": HELLO}
    raises(anthropic.BadRequestError, lambda: a_client("wrong").messages.create(**asked))


# LangChain, through either protocol, and with a base URL that ends before `/v1`.
def chat_openai(of="healthy", path="/v1", **more):
    return ChatOpenAI(model=MODEL, base_url=base + path, api_key=KEY, default_headers=headers("o", of), **more)


def chat_anthropic(of="healthy", **more):
    return ChatAnthropic(model=MODEL, base_url=base, api_key=KEY, default_headers=headers("a", of), **more)


LANGCHAIN = [
    ("langchain-openai", chat_openai, openai.BadRequestError, ["json_schema", "function_calling"]),
    ("langchain-openai without /v1", lambda of="healthy": chat_openai(of, ""), openai.BadRequestError, ["json_schema"]),
    ("langchain-anthropic", chat_anthropic, anthropic.BadRequestError, ["json_schema", "function_calling"]),
]
for name, make, wrong, methods in LANGCHAIN:

    @check(f"{name}, whole and streamed")
    def _():
        answer = make().invoke("Who is Ada?")
        assert answer.content and answer.usage_metadata["output_tokens"] > 0, answer
        chunks = list(make().stream("Who is Ada?"))
        assert "".join(str(chunk.text) for chunk in chunks), chunks

    @check(f"{name}, a tool that is required")
    def _():
        answer = make("tools").bind_tools([weather], tool_choice="any").invoke("How is the weather in Paris?")
        is_call(answer.tool_calls[0]["name"], answer.tool_calls[0]["args"])

    for method in methods:

        @check(f"{name}, a schema by {method}")
        def _():
            of = "person" if method == "json_schema" else "person-tool"
            is_ada(make(of).with_structured_output(Person, method=method).invoke("Who is Ada?"))

    @check(f"{name}, an error")
    def _():
        raises(wrong, lambda: make("wrong").invoke("Who is Ada?"))


# LiteLLM's SDK: what it appends to a base URL differs from protocol to protocol.
def complete(model, path, of="healthy", **more):
    protocol = model[0]
    return litellm.completion(
        model=model,
        api_base=base + path,
        api_key=KEY,
        messages=HELLO,
        extra_headers=headers(protocol, of),
        max_tokens=200,
        **more,
    )


for model, path in [("openai/any", "/v1"), ("openai/any", ""), ("anthropic/any", "")]:
    name = f"litellm, {model} at {path or '/'}"

    @check(f"{name}, whole and streamed")
    def _():
        answer = complete(model, path)
        assert answer.choices[0].message.content and answer.usage.completion_tokens > 0, answer
        chunks = list(complete(model, path, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks), chunks
        assert chunks[-1].choices[0].finish_reason == "stop", chunks[-1]

    @check(f"{name}, a tool that is required, and a schema")
    def _():
        answer = complete(model, path, "tools", tools=[O_TOOL], tool_choice="required")
        call = answer.choices[0].message.tool_calls[0].function
        is_call(call.name, json.loads(call.arguments))
        # Its client for Anthropic asks models that it does not know for a schema through a tool.
        of = "person" if model[0] == "o" else "person-tool"
        answer = complete(model, path, of, response_format=Person)
        is_ada(Person.model_validate_json(answer.choices[0].message.content))

    @check(f"{name}, an error")
    def _():
        raises(litellm.BadRequestError, lambda: complete(model, path, "wrong"))


# instructor asks for what it wants through a tool, or by a schema.
INSTRUCTOR = [
    ("tools", instructor.from_openai, o_client, "person-tool", instructor.Mode.TOOLS),
    ("json_schema", instructor.from_openai, o_client, "person", instructor.Mode.JSON_SCHEMA),
    ("anthropic_tools", instructor.from_anthropic, a_client, "person-tool", instructor.Mode.ANTHROPIC_TOOLS),
]
for name, make, client, of, mode in INSTRUCTOR:
    asked = {"model": MODEL, "messages": HELLO, "response_model": Person, "max_tokens": 200}

    @check(f"instructor, {name}")
    def _():
        is_ada(make(client(of), mode=mode).chat.completions.create(**asked))

    @check(f"instructor, {name}, piece by piece")
    def _():
        *_, last = make(client(of), mode=mode).chat.completions.create_partial(**asked)
        is_ada(Person(**last.model_dump()))

    @check(f"instructor, {name}, an error")
    def _():
        raises(Exception, lambda: make(client("wrong"), mode=mode).chat.completions.create(max_retries=0, **asked))


# The Agents SDK on chat completions.
def agent(of="healthy", **more):
    client = openai.AsyncOpenAI(base_url=base + "/v1", api_key=KEY, default_headers=headers("o", of))
    return Agent(name="Ada", model=OpenAIChatCompletionsModel(model=MODEL, openai_client=client), **more)


@check("agents, whole and streamed")
async def _():
    assert (await Runner.run(agent(), "Who is Ada?")).final_output
    running = Runner.run_streamed(agent(), "Who is Ada?")
    events = [event async for event in running.stream_events()]
    assert running.final_output and events


@check("agents, a tool, and an answer after it")
async def _():
    asked = []

    def look(city: str) -> str:
        """Says what the weather is in a city."""
        asked.append(city)
        return "sunny"

    settings = ModelSettings(tool_choice="required")
    tools = [function_tool(look, name_override="weather")]
    run = await Runner.run(agent("tools", tools=tools, model_settings=settings), "How is the weather in Paris?")
    assert asked and run.final_output, run


@check("agents, a schema")
async def _():
    is_ada((await Runner.run(agent("person", output_type=Person), "Who is Ada?")).final_output)


@check("agents, an error")
async def _():
    try:
        await Runner.run(agent("wrong"), "Who is Ada?")
    except openai.BadRequestError:
        return
    raise AssertionError("no error")


end()
