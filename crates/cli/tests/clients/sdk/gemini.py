"""Drives a gateway with Google's Python SDK, as it is. `gemini.py ADDRESS`."""

import base64
import sys

from checks import KEY, LOOP, SAID, Person, check, end, feature, raises
from google import genai
from google.genai import errors, types

base = "http://" + sys.argv[1]
G = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=base))
UPSTREAMS = ["gemini", "responses", "chat", "messages"]
PROPERTIES = {"city": types.Schema(type="STRING"), "days": types.Schema(type="INTEGER")}
SCHEMA = types.Schema(type="OBJECT", properties=PROPERTIES)
TOOL = types.Tool(function_declarations=[types.FunctionDeclaration(name="weather", description="d", parameters=SCHEMA)])
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def config(name, given):
    headers = feature(name) | {"x-steadfast-notices": given.pop("notices", "0")}
    return types.GenerateContentConfig(http_options=types.HttpOptions(headers=headers), **given)


def create(name, contents="hello", **given):
    return G.models.generate_content(model="any", contents=contents, config=config(name, given))


def events(name, contents="hello", **given):
    return G.models.generate_content_stream(model="any", contents=contents, config=config(name, given))


def stream(name, contents="hello", **given):
    """The last answer of a stream, with the parts of all."""
    parts, last = [], None
    for last in events(name, contents, **given):
        parts += (last.candidates[0].content and last.candidates[0].content.parts) or []
    last.candidates[0].content = types.Content(role="model", parts=parts)
    return last


def text(response):
    return "".join(part.text or "" for part in response.candidates[0].content.parts if not part.thought)


for up in UPSTREAMS:
    ways = [("whole", create), ("streamed", stream)]
    for way, ask in ways:

        @check(f"{up}, {way}")
        def _():
            response = ask(f"{up}-healthy", system_instruction="Be brief.", max_output_tokens=100, temperature=0.5)
            assert text(response) == SAID, response
            assert response.candidates[0].finish_reason == "STOP", response
            assert response.usage_metadata.candidates_token_count > 0 and response.model_version, response

        @check(f"{up}, {way}, after one that is down")
        def _():
            assert text(ask(f"{up}-after-overloaded")) == SAID

        @check(f"{up}, {way}, after one that is down, with notices that this SDK passes over")
        def _():
            assert text(ask(f"{up}-after-overloaded", notices="1")) == SAID

        @check(f"{up}, {way}, tools")
        def _():
            response = ask(f"{up}-tools", tools=[TOOL])
            (call,) = [part.function_call for part in response.candidates[0].content.parts if part.function_call]
            assert (call.name, call.args) == ("weather", {"city": "Paris", "days": 3}), response
            result = types.FunctionResponse(id=call.id, name=call.name, response={"result": "sunny"})
            history = [
                types.Content(role="user", parts=[types.Part(text="hello")]),
                response.candidates[0].content,
                types.Content(role="user", parts=[types.Part(function_response=result)]),
            ]
            assert text(ask(f"{up}-tools", history, tools=[TOOL])) == SAID

        @check(f"{up}, {way}, a picture")
        def _():
            picture = types.Part.from_bytes(data=PICTURE, mime_type="image/png")
            assert text(ask(f"{up}-healthy", ["What is it?", picture])) == SAID

        @check(f"{up}, {way}, a tool that must be called")
        def _():
            calling = types.FunctionCallingConfig(mode="ANY", allowed_function_names=["weather"])
            response = ask(
                f"{up}-tools", tools=[TOOL], tool_config=types.ToolConfig(function_calling_config=calling)
            )
            assert any(part.function_call for part in response.candidates[0].content.parts), response

    @check(f"{up}, a function that the SDK calls")
    def _():
        asked = []

        def weather(city: str, days: int) -> str:
            """The weather of a city."""
            asked.append((city, days))
            return "sunny"

        assert create(f"{up}-tools", tools=[weather]).text == SAID
        assert asked == [("Paris", 3)], asked

    @check(f"{up}, a shape")
    def _():
        response = create(f"{up}-healthy", response_mime_type="application/json", response_schema=Person)
        assert isinstance(response.parsed, Person), response

    @check(f"{up}, a chat")
    def _():
        chat = G.chats.create(model="any", config=config(f"{up}-healthy", {}))
        assert chat.send_message("hello").text == SAID
        assert "".join(piece.text or "" for piece in chat.send_message_stream("and?")) == SAID

    # Google's SDK keeps a signature as bytes, and sends it back in another alphabet of base64.
    @check(f"{up}, thoughts that come back")
    def _():
        thinking = types.ThinkingConfig(include_thoughts=True, thinking_budget=2048)
        for ask in [create, stream]:
            response = ask(f"{up}-reasoning", thinking_config=thinking)
            assert text(response) == SAID, response
            signatures = [part.thought_signature for part in response.candidates[0].content.parts]
            assert up != "responses" or any(signatures), response
            history = [
                types.Content(role="user", parts=[types.Part(text="hello")]),
                response.candidates[0].content,
                types.Content(role="user", parts=[types.Part(text="and?")]),
            ]
            for other in UPSTREAMS:
                assert text(ask(f"{other}-reasoning", history, thinking_config=thinking)) == SAID, other

    @check(f"{up}, many at a time")
    async def _():
        asked = config(f"{up}-healthy", {})
        assert (await G.aio.models.generate_content(model="any", contents="hello", config=asked)).text == SAID
        said = ""
        async for piece in await G.aio.models.generate_content_stream(model="any", contents="hello", config=asked):
            said += piece.text or ""
        assert said == SAID

    # Errors are of the SDK's own classes, whole and streamed.
    for name, kind, codes in [
        ("overloaded", errors.ServerError, [503]),
        ("server_error", errors.ServerError, [500]),
        ("bad_request", errors.ClientError, [400]),
        ("unauthorized", errors.APIError, [401, 500, 502]),
        ("rate_limited", errors.ClientError, [429]),
        ("context_length", errors.ClientError, [400]),
    ]:

        @check(f"{up}, {name}")
        def _():
            for ask in [create, stream]:
                error = raises(kind, lambda: ask(f"{up}-{name}"), within=3)
                assert error.code in codes and error.message and error.status, (error.code, error)
                if name == "rate_limited":
                    info = [detail for detail in error.details["error"]["details"] if "RetryInfo" in detail["@type"]]
                    assert info and info[0]["retryDelay"].endswith("s"), error.details

    # A broken stream is an error, never a short answer.
    for name in ["cut", "truncated", "error_event"]:

        @check(f"{up}, {name} in the middle")
        def _():
            said, finish, failure = "", None, None
            try:
                for event in events(f"{up}-{name}"):
                    said += event.text or ""
                    finish = event.candidates[0].finish_reason or finish
            except errors.APIError as error:
                failure = error
            assert failure and finish is None and said and SAID.startswith(said) and said != SAID, (said, failure)
            assert 500 <= failure.code < 600 and failure.message, failure

    # A client that leaves in the middle: the test that started this looks whether the call was cancelled.
    @check(f"{up}, abort")
    def _():
        left = events(f"{up}-slow")
        assert next(left).candidates
        left.close()

    @check(f"{up}, tokens")
    def _():
        assert G.models.count_tokens(model="any", contents="hello").total_tokens > 0


@check("the models")
def _():
    names = [model.name for model in G.models.list()]
    assert "models/gemini-2.5-flash" in names, names
    assert G.models.get(model="gpt-4o").display_name == "gpt-4o"
    # A request may name any model.
    assert G.models.get(model="gemini-of-tomorrow").name == "models/gemini-of-tomorrow"


LOOP.run_until_complete(G.aio.aclose())
end()
