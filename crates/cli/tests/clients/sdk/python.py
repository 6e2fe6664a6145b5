"""Drives a gateway with the official Python SDKs of OpenAI and Anthropic, as they are."""

import sys
import time

import anthropic
import openai
from checks import KEY, SAID, check, end, feature, raises

base = "http://" + sys.argv[1]
HELLO = [{"role": "user", "content": "hello"}]
A = anthropic.Anthropic(base_url=base, api_key=KEY)
O = openai.OpenAI(base_url=base + "/v1", api_key=KEY)


def a_create(name, **more):
    more = {"model": "any", "max_tokens": 100, "messages": HELLO, **more}
    return A.messages.create(extra_headers=feature(name), **more)


def o_create(name, **more):
    more = {"model": "any", "messages": HELLO, **more}
    return O.chat.completions.create(extra_headers=feature(name), **more)


def a_stream(name):
    more = {"model": "any", "max_tokens": 100, "messages": HELLO}
    with A.messages.stream(extra_headers=feature(name), **more) as stream:
        text = "".join(stream.text_stream)
        return text, stream.get_final_message()


def o_stream(name):
    text, finish, usage = "", None, None
    for chunk in o_create(name, stream=True, stream_options={"include_usage": True}):
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
        usage = chunk.usage or usage
    return text, finish, usage


# An answer that says of itself that it is less than what was asked for is an answer like any other.
@check("anthropic, a fixed sentence")
def _():
    message = a_create("overloaded-then-sorry")
    assert message.content[0].text == "Please try again.", message
    assert message.model_extra["steadfast"]["degraded"]["level"] == 5, message


@check("openai, a fixed sentence")
def _():
    answer = o_create("overloaded-then-sorry")
    assert answer.choices[0].message.content == "Please try again.", answer
    assert answer.model_extra["steadfast"]["degraded"]["level"] == 5, answer


# A program that asks for notices reads from its SDK who answers.
def told(events):
    """The notices of a stream's events, of which each SDK keeps the fields that it does not know."""
    return [event.model_extra["steadfast"]["notice"] for event in events if "steadfast" in (event.model_extra or {})]


for route, first in [("a-overloaded-then-o", "a-overloaded"), ("o-overloaded-then-a", "o-overloaded")]:
    asks = {"stream": True, "extra_headers": feature(route) | {"x-steadfast-notices": "1"}, "model": "any"}

    @check(f"anthropic, told who answers, {route}")
    def _():
        events = list(A.messages.create(max_tokens=100, messages=HELLO, **asks))
        assert "".join(getattr(getattr(e, "delta", None), "text", None) or "" for e in events) == SAID, events
        (notice,) = told(events)
        assert (notice["type"], notice["first"], notice["reason"]) == ("answers", first, "overloaded"), notice

    @check(f"openai, told who answers, {route}")
    def _():
        chunks = list(O.chat.completions.create(messages=HELLO, **asks))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID, chunks
        (notice,) = told(chunks)
        assert (notice["type"], notice["first"], notice["reason"]) == ("answers", first, "overloaded"), notice

    @check(f"openai's responses, told who answers, {route}")
    def _():
        events = list(O.responses.create(input="hello", **asks))
        assert events[-1].response.output_text == SAID, events
        (notice,) = told(events)
        assert (notice["type"], notice["first"], notice["reason"]) == ("answers", first, "overloaded"), notice


# Every caller is answered by every provider, the first choice or not.
for route in ["a-healthy", "o-healthy", "a-overloaded-then-o", "o-overloaded-then-a", "a-cut-then-o"]:
    cut = "cut" in route

    @check(f"anthropic, whole, {route}")
    def _():
        message = a_create(route)
        assert message.content[0].text == SAID, message
        assert message.stop_reason == "end_turn" and message.usage.output_tokens > 0, message

    @check(f"openai, whole, {route}")
    def _():
        completion = o_create(route)
        assert completion.choices[0].message.content == SAID, completion
        assert completion.choices[0].finish_reason == "stop" and completion.usage.completion_tokens > 0, completion

    if not cut:

        @check(f"anthropic, streamed, {route}")
        def _():
            text, message = a_stream(route)
            assert text == SAID and message.stop_reason == "end_turn", message
            assert message.usage.output_tokens > 0, message

        @check(f"openai, streamed, {route}")
        def _():
            text, finish, usage = o_stream(route)
            assert (text, finish) == (SAID, "stop") and usage.completion_tokens > 0, (text, finish, usage)


# Tools, by either provider.
A_TOOL = {"name": "weather", "description": "d", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
O_TOOL = {"type": "function", "function": {"name": "weather", "parameters": A_TOOL["input_schema"]}}
for route in ["a-tools", "o-tools"]:

    @check(f"anthropic, tools, {route}")
    def _():
        message = a_create(route, tools=[A_TOOL])
        use = message.content[-1]
        assert (use.name, use.input, message.stop_reason) == ("weather", {"city": "Paris", "days": 3}, "tool_use"), message
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
        again = HELLO + [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
        assert a_create(route, tools=[A_TOOL], messages=again).content[0].text == SAID

    @check(f"anthropic, tools streamed, {route}")
    def _():
        more = {"model": "c", "max_tokens": 100, "messages": HELLO, "tools": [A_TOOL]}
        with A.messages.stream(extra_headers=feature(route), **more) as stream:
            message = stream.get_final_message()
        assert message.content[-1].input == {"city": "Paris", "days": 3}, message

    @check(f"openai, tools, {route}")
    def _():
        completion = o_create(route, tools=[O_TOOL])
        call = completion.choices[0].message.tool_calls[0]
        assert call.function.name == "weather" and '"Paris"' in call.function.arguments, completion
        assert completion.choices[0].finish_reason == "tool_calls", completion
        result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        again = HELLO + [completion.choices[0].message.model_dump(exclude_none=True), result]
        assert o_create(route, tools=[O_TOOL], messages=again).choices[0].message.content == SAID

    @check(f"openai, tools streamed, {route}")
    def _():
        more = {"model": "g", "messages": HELLO, "tools": [O_TOOL]}
        with O.chat.completions.stream(extra_headers=feature(route), **more) as stream:
            completion = stream.get_final_completion()
        assert '"Paris"' in completion.choices[0].message.tool_calls[0].function.arguments, completion


# Errors are of the SDKs' own classes, whole and streamed, whoever the provider is.
CLASSES = [
    ("overloaded", anthropic.InternalServerError, openai.InternalServerError),
    ("server_error", anthropic.InternalServerError, openai.InternalServerError),
    ("bad_request", anthropic.BadRequestError, openai.BadRequestError),
    ("unauthorized", anthropic.InternalServerError, openai.InternalServerError),
    ("rate_limited", anthropic.RateLimitError, openai.RateLimitError),
    ("context_length", anthropic.BadRequestError, openai.BadRequestError),
    ("refused", anthropic.InternalServerError, openai.InternalServerError),
]
for name, a_class, o_class in CLASSES:
    for stream in [False, True]:

        @check(f"anthropic, {name}, stream: {stream}")
        def _():
            error = raises(a_class, lambda: a_create("a-" + name, stream=stream))
            assert error.response.headers["x-steadfast-request-id"] and error.request_id, error.response.headers
            assert error.body["type"] == "error" and error.body["error"]["message"], error.body

        @check(f"openai, {name}, stream: {stream}")
        def _():
            error = raises(o_class, lambda: o_create("o-" + name, stream=stream))
            assert error.request_id and error.message, error

    @check(f"anthropic, {name} of a provider of another dialect")
    def _():
        if name not in ("server_error", "rate_limited"):
            raises(a_class, lambda: a_create("o-" + name))


@check("openai, context length has its code")
def _():
    error = raises(openai.BadRequestError, lambda: o_create("a-context_length"))
    assert error.code == "context_length_exceeded", error


@check("a short wait is kept to by the client itself")
def _():
    begun = time.time()
    try:
        A.with_options(max_retries=1).messages.create(
            model="c", max_tokens=9, messages=HELLO, extra_headers=feature("a-rate_limited_shortly")
        )
    except anthropic.RateLimitError as error:
        assert 0.9 < time.time() - begun < 4 and error.response.headers["retry-after"] == "1", time.time() - begun


# A broken stream is an error, never a short answer.
for name in ["cut", "truncated", "error_event"]:

    @check(f"anthropic, {name} in the middle")
    def _():
        try:
            a_stream("a-" + name)
        except anthropic.APIError:
            return
        raise AssertionError("a short success")

    @check(f"openai, {name} in the middle")
    def _():
        try:
            o_stream("o-" + name)
        except openai.APIError:
            return
        raise AssertionError("a short success")


@check("a model is found by any name that a request may have, a path is not")
def _():
    assert A.models.retrieve("claude-of-tomorrow").id == "claude-of-tomorrow"
    assert O.models.retrieve("meta/llama-3").id == "meta/llama-3"
    raises(openai.NotFoundError, lambda: O.embeddings.create(model="m", input="hello"))


@check("models are listed")
def _():
    assert "claude-sonnet-4-5" in [model.id for model in A.models.list()]
    assert "gpt-4o" in [model.id for model in O.models.list()]


@check("tokens are counted")
def _():
    assert A.messages.count_tokens(model="claude-sonnet-4-5", messages=HELLO).input_tokens > 0


@check("what served it is in the headers")
def _():
    response = A.messages.with_raw_response.create(
        model="c", max_tokens=9, messages=HELLO, extra_headers=feature("a-overloaded-then-o")
    )
    headers = response.headers
    assert headers["x-steadfast-tier"] == "o-healthy" and headers["x-steadfast-attempts"] == "2", headers
    assert headers["x-steadfast-fallback-reason"] == "overloaded", headers


# A client that leaves in the middle: the test that started this looks whether the provider's call was cancelled.
@check("anthropic, abort")
def _():
    stream = a_create("a-slow", stream=True)
    for event in stream:
        if event.type == "content_block_delta":
            break
    stream.close()


@check("openai, abort")
def _():
    stream = o_create("o-slow", stream=True)
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    stream.close()


end()
