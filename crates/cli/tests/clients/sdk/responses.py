"""Drives a gateway with OpenAI's Python SDK and its Agents SDK over Responses, as they are. `responses.py ADDRESS`."""

import sys

import agents
import openai
from checks import KEY, SAID, Person, check, end, feature, raises

base = "http://" + sys.argv[1] + "/v1"
O = openai.OpenAI(base_url=base, api_key=KEY)
UPSTREAMS = ["responses", "chat", "messages", "gemini"]
TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
PATCH = {"type": "custom", "name": "weather", "description": "Free text."}
PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
agents.set_tracing_disabled(True)


def more(name, given):
    return {"model": "any", "input": "hello", "extra_headers": feature(name), **given}


def create(name, **given):
    return O.responses.create(**more(name, given))


def stream(name, **given):
    """The text of the deltas, and the last response."""
    text = ""
    with O.responses.stream(**more(name, given)) as events:
        for number, event in enumerate(events):
            assert event.sequence_number == number, event
            if event.type == "response.output_text.delta":
                text += event.delta
        return text, events.get_final_response()


def calls(response, kind):
    return [item for item in response.output if item.type == kind]


for up in UPSTREAMS:

    @check(f"{up}, whole")
    def _():
        response = create(f"{up}-healthy", instructions="Be brief.", max_output_tokens=100)
        assert (response.output_text, response.status) == (SAID, "completed"), response
        assert response.usage.output_tokens > 0 and response.error is None, response

    @check(f"{up}, streamed")
    def _():
        text, response = stream(f"{up}-healthy")
        assert (text, response.output_text, response.status) == (SAID, SAID, "completed"), response
        assert response.usage.output_tokens > 0, response

    @check(f"{up}, after one that is down")
    def _():
        assert create(f"{up}-after-overloaded").output_text == SAID
        assert stream(f"{up}-after-overloaded")[0] == SAID

    @check(f"{up}, tools")
    def _():
        for ask in [lambda **given: create(f"{up}-tools", **given), lambda **given: stream(f"{up}-tools", **given)[1]]:
            response = ask(tools=[TOOL])
            (call,) = calls(response, "function_call")
            assert (call.name, call.arguments.replace(" ", "")) == ("weather", '{"city":"Paris","days":3}'), response
            history = [{"role": "user", "content": "hello"}]
            history += [item.model_dump(exclude_none=True) for item in response.output]
            history += [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
            assert ask(tools=[TOOL], input=history).output_text == SAID

    @check(f"{up}, free text")
    def _():
        for ask in [lambda **given: create(f"{up}-free", **given), lambda **given: stream(f"{up}-free", **given)[1]]:
            response = ask(tools=[PATCH])
            assert [item.type for item in response.output if item.type != "reasoning"] == ["custom_tool_call"], response.output
            (call,) = calls(response, "custom_tool_call")
            assert (call.name, call.input) == ("weather", 'a "b"\n\\c é'), response
            history = [{"role": "user", "content": "hello"}]
            history += [item.model_dump(exclude_none=True) for item in response.output]
            history += [{"type": "custom_tool_call_output", "call_id": call.call_id, "output": "done"}]
            assert ask(tools=[PATCH], input=history).output_text == SAID

    @check(f"{up}, a shape")
    def _():
        response = O.responses.parse(text_format=Person, **more(f"{up}-healthy", {}))
        assert isinstance(response.output_parsed, Person), response

    @check(f"{up}, a picture")
    def _():
        parts = [{"type": "input_text", "text": "?"}, {"type": "input_image", "image_url": PICTURE, "detail": "auto"}]
        assert create(f"{up}-healthy", input=[{"role": "user", "content": parts}]).output_text == SAID

    @check(f"{up}, reasoning that comes back")
    def _():
        asks = {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low", "summary": "auto"}, "store": False}
        response = create(f"{up}-reasoning", **asks)
        history = [{"role": "user", "content": "hello"}]
        history += [item.model_dump(exclude_none=True) for item in response.output]
        history += [{"role": "user", "content": "and?"}]
        assert create(f"{up}-reasoning", input=history, **asks).output_text == SAID
        for other in UPSTREAMS:
            @check(f"{other}, reasoning that another {up} sealed")
            def _():
                assert create(f"{other}-healthy", input=history).output_text == SAID

    @check(f"{up}, the Agents SDK")
    async def _():
        asked = []

        @agents.function_tool
        def weather(city: str, days: int) -> str:
            asked.append((city, days))
            return "sunny"

        client = openai.AsyncOpenAI(base_url=base, api_key=KEY, default_headers=feature(f"{up}-tools"))
        model = agents.OpenAIResponsesModel("any", client)
        agent = agents.Agent(name="forecaster", instructions="Forecast.", tools=[weather], model=model)
        whole = await agents.Runner.run(agent, "How is it in Paris?")
        run = agents.Runner.run_streamed(agent, "How is it in Paris?")
        async for _ in run.stream_events():
            pass
        assert [whole.final_output, run.final_output] == [SAID, SAID]
        assert asked == [("Paris", 3)] * 2, asked

    # Errors are of the SDK's own classes, whole and streamed.
    for name, kind, code in [
        ("overloaded", openai.InternalServerError, None),
        ("server_error", openai.InternalServerError, None),
        ("bad_request", openai.BadRequestError, None),
        ("unauthorized", openai.InternalServerError, None),
        ("rate_limited", openai.RateLimitError, "rate_limit_exceeded"),
        ("context_length", openai.BadRequestError, "context_length_exceeded"),
    ]:

        @check(f"{up}, {name}")
        def _():
            for ask in [create, stream]:
                error = raises(kind, lambda: ask(f"{up}-{name}"), within=3)
                assert error.message and (code is None or error.code == code), (error.code, error)

    # A broken stream is an error, never a short answer.
    for name in ["cut", "truncated", "error_event"]:

        @check(f"{up}, {name} in the middle")
        def _():
            text, failure = "", None
            try:
                for event in create(f"{up}-{name}", stream=True):
                    if event.type == "response.output_text.delta":
                        text += event.delta
                    assert event.type not in ("response.completed", "response.incomplete"), event
                    if event.type == "response.failed":
                        failure = event.response.error.code
            except openai.APIError as error:
                failure = error
            assert failure and text != SAID, (text, failure)

    # A client that leaves in the middle: the test that started this looks whether the call was cancelled.
    @check(f"{up}, abort")
    def _():
        events = create(f"{up}-slow", stream=True)
        for event in events:
            if event.type == "response.output_text.delta":
                break
        events.close()


@check("an answer that nobody has")
def _():
    for ask in [
        lambda: O.responses.retrieve("resp_none"),
        lambda: create("responses-healthy", previous_response_id="resp_none"),
    ]:
        error = raises((openai.NotFoundError, openai.BadRequestError), ask)
        assert "resp_none" in error.message, error


@check("an item that nobody knows")
def _():
    error = raises(openai.BadRequestError, lambda: create("responses-healthy", input=[{"type": "no_such_item"}]))
    assert "no_such_item" in error.message, error


end()
