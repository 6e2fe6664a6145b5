"""Drives a gateway with OpenAI's Python client for Azure, as it is."""

import sys

import openai
from checks import KEY, LOOP, SAID, check, end, feature, raises

base = "http://" + sys.argv[1]
HELLO = [{"role": "user", "content": "hello"}]
VERSION = "2025-04-01-preview"
CLIENTS = {
    "a key": openai.AzureOpenAI(api_key=KEY, azure_endpoint=base, api_version=VERSION),
    "a token": openai.AzureOpenAI(azure_ad_token=KEY, azure_endpoint=base, api_version=VERSION),
    "a deployment": openai.AzureOpenAI(
        api_key=KEY, azure_endpoint=base, api_version=VERSION, azure_deployment="gpt-of-azure"
    ),
    "/openai/v1": openai.OpenAI(api_key=KEY, base_url=base + "/openai/v1/"),
}
O = CLIENTS["a key"]


def create(name, client=O, **more):
    return client.chat.completions.create(model="gpt-4o", messages=HELLO, extra_headers=feature(name), **more)


def streamed(name, client=O):
    text, finish = "", None
    for chunk in create(name, client, stream=True):
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
    return text, finish


for kind, client in CLIENTS.items():
    for route in ["o-healthy", "a-healthy", "o-overloaded-then-a"]:

        @check(f"{kind}, whole and streamed, {route}")
        def _():
            assert create(route, client).choices[0].message.content == SAID
            assert streamed(route, client) == (SAID, "stop")

    if kind != "a deployment":

        @check(f"{kind}, responses and models")
        def _():
            said = client.responses.create(model="gpt-4o", input="hello", extra_headers=feature("a-healthy"))
            assert said.output_text == SAID, said
            more = {"model": "gpt-4o", "input": "hello", "extra_headers": feature("o-healthy")}
            with client.responses.stream(**more) as stream:
                assert stream.get_final_response().output_text == SAID
            assert "gpt-4o" in [model.id for model in client.models.list()]
            assert client.models.retrieve("gpt-4o").id == "gpt-4o"


@check("the asynchronous client")
async def _():
    async with openai.AsyncAzureOpenAI(api_key=KEY, azure_endpoint=base, api_version=VERSION) as client:
        said = await client.chat.completions.create(
            model="gpt-4o", messages=HELLO, extra_headers=feature("o-healthy")
        )
        assert said.choices[0].message.content == SAID, said


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
for route in ["o-tools", "a-tools"]:

    @check(f"tools, {route}")
    def _():
        completion = create(route, tools=[TOOL])
        call = completion.choices[0].message.tool_calls[0]
        assert call.function.name == "weather" and '"Paris"' in call.function.arguments, completion
        more = {"model": "g", "messages": HELLO, "tools": [TOOL], "extra_headers": feature(route)}
        with O.chat.completions.stream(**more) as stream:
            completion = stream.get_final_completion()
        assert '"Paris"' in completion.choices[0].message.tool_calls[0].function.arguments, completion


for name, kind in {
    "overloaded": openai.InternalServerError,
    "server_error": openai.InternalServerError,
    "bad_request": openai.BadRequestError,
    "unauthorized": openai.InternalServerError,
    "rate_limited": openai.RateLimitError,
    "context_length": openai.BadRequestError,
    "refused": openai.InternalServerError,
}.items():
    for stream in [False, True]:

        @check(f"{name}, stream: {stream}")
        def _():
            error = raises(kind, lambda: create("o-" + name, stream=stream))
            assert error.request_id and error.message, error


for name in ["cut", "truncated", "error_event"]:

    @check(f"{name} in the middle")
    def _():
        try:
            streamed("o-" + name)
        except openai.APIError:
            return
        raise AssertionError("a short success")


@check("a path that is not there")
def _():
    raises(openai.NotFoundError, lambda: O.images.generate(model="gpt-image-1", prompt="a cat"))


@check("abort")
def _():
    stream = create("o-slow", stream=True)
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    stream.close()


LOOP.close()
end()
