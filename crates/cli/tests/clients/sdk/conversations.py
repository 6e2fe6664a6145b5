"""Drives a gateway that keeps responses with OpenAI's Python SDK. `conversations.py ADDRESS KEY OTHER_KEY ADMIN_KEY`."""

import json
import sys
import time
import urllib.request

import openai

address, key, other, admin = sys.argv[1:5]
base = f"http://{address}/v1"
FIRST, SECOND = "I am the first of them", "I am another one"
O = openai.OpenAI(base_url=base, api_key=key, max_retries=0)
TWO = openai.OpenAI(base_url=base, api_key=other, max_retries=0)
TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
failed = 0


def circuit(tier, action):
    """Forces a tier's circuit open, or lets it go."""
    request = urllib.request.Request(
        f"http://{address}/admin/tiers/{tier}/circuit",
        json.dumps({"action": action}).encode(),
        {"authorization": f"Bearer {admin}", "content-type": "application/json"},
    )
    assert urllib.request.urlopen(request).status == 200


def check(name):
    """Runs a check at once, and says how it went."""

    def run(function):
        global failed
        begun = time.time()
        try:
            function()
            print(f"ok   {name} ({time.time() - begun:.2f} s)", flush=True)
        except BaseException as error:
            failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)

    return run


def create(feature, client=O, **given):
    return client.responses.create(**{"model": "any", "extra_headers": {"x-steadfast-feature": feature}, **given})


def refused(error, code, call):
    """The call fails with this class and code."""
    try:
        call()
    except error as said:
        assert said.code == code, (said.code, str(said))
        return
    raise AssertionError("it is not refused")


def text_of(item):
    return item.content[0].text


for up in ["responses", "chat", "messages", "gemini"]:

    @check(f"{up}: a conversation over a failover and back")
    def _():
        feature = f"to-{up}"
        one = create(feature, input="one")
        assert one.output_text == FIRST and one.id.startswith("resp_sf_"), one
        circuit("first", "open")
        try:
            with O.responses.stream(
                model="any",
                input="two",
                previous_response_id=one.id,
                extra_headers={"x-steadfast-feature": feature},
            ) as events:
                for _ in events:
                    pass
                two = events.get_final_response()
            assert two.output_text == SECOND and two.previous_response_id == one.id, two
            three = create(feature, input="three", previous_response_id=two.id)
            assert three.output_text == SECOND, three
        finally:
            circuit("first", "auto")
        four = create(feature, input="four", previous_response_id=three.id)
        assert four.output_text == FIRST and four.previous_response_id == three.id, four
        five = create(feature, input="five", previous_response_id=four.id)
        assert five.output_text == FIRST, five

        again = O.responses.retrieve(five.id)
        assert (again.id, again.output_text, again.status) == (five.id, FIRST, "completed"), again
        texts = [text_of(item) for item in O.responses.input_items.list(five.id, order="asc", limit=3)]
        said = ["one", FIRST, "two", SECOND, "three", SECOND, "four", FIRST, "five"]
        assert texts == said, texts
        newest = [text_of(item) for item in O.responses.input_items.list(five.id, limit=2)]
        assert newest == said[::-1], newest

        for call in [
            lambda: TWO.responses.retrieve(five.id),
            lambda: TWO.responses.delete(five.id),
            lambda: TWO.responses.input_items.list(five.id),
        ]:
            refused(openai.NotFoundError, None, call)
        gone = "previous_response_not_found"
        refused(
            openai.BadRequestError, gone, lambda: create(feature, TWO, input="six", previous_response_id=five.id)
        )
        O.responses.delete(five.id)
        refused(openai.NotFoundError, None, lambda: O.responses.retrieve(five.id))
        refused(openai.BadRequestError, gone, lambda: create(feature, input="six", previous_response_id=five.id))
        assert create(feature, input="six", previous_response_id=four.id).output_text == FIRST

    @check(f"{up}: a tool's output goes to another provider than its call")
    def _():
        asked = create(f"tools-to-{up}", input="weather?", tools=[TOOL])
        call = next(item for item in asked.output if item.type == "function_call")
        circuit("tools", "open")
        try:
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
            answer = create(
                f"tools-to-{up}", input=[output], tools=[TOOL], tool_choice="none", previous_response_id=asked.id
            )
        finally:
            circuit("tools", "auto")
        assert answer.output_text == SECOND, answer
        items = O.responses.input_items.list(answer.id, order="asc").data
        assert [item.type for item in items] == ["message", "function_call", "function_call_output"], items


@check("what is not stored is not there")
def _():
    answer = create("to-messages", input="one", store=False)
    assert not answer.id.startswith("resp_sf_"), answer
    refused(openai.NotFoundError, None, lambda: O.responses.retrieve(answer.id))


for up in ["responses", "chat", "messages", "gemini"]:

    @check(f"{up}: a response in the background, over a failover")
    def _():
        feature = f"to-{up}"
        for words, action in [(FIRST, "auto"), (SECOND, "open")]:
            circuit("first", action)
            try:
                answer = create(feature, input=f"{words}?", background=True)
                assert answer.status == "queued" and answer.background, answer
                while answer.status in ("queued", "in_progress"):
                    time.sleep(0.02)
                    answer = O.responses.retrieve(answer.id)
                assert (answer.status, answer.output_text) == ("completed", words), answer
                refused(openai.NotFoundError, None, lambda: TWO.responses.retrieve(answer.id))
                after = create(feature, input="and?", previous_response_id=answer.id)
                assert after.output_text == words, after
                whole = list(create(feature, input=f"{words}!", background=True, stream=True))
                numbers = [event.sequence_number for event in whole]
                assert numbers == list(range(len(whole))), numbers
                kinds = [event.type for event in whole]
                assert kinds[:2] == ["response.created", "response.queued"], kinds
                assert kinds[-1] == "response.completed", kinds
                assert whole[-1].response.output_text == words
                for seen in range(1, len(whole)):
                    # A reader that lost its connection comes back with the number of its last event.
                    with create(feature, input=f"{words} {seen}", background=True, stream=True) as events:
                        begun = [event for event, _ in zip(events, range(seen))]
                    id = begun[0].response.id
                    rest = list(O.responses.retrieve(id, stream=True, starting_after=begun[-1].sequence_number))
                    both = begun + rest
                    assert [event.sequence_number for event in both] == list(range(len(both))), both
                    said = "".join(event.delta for event in both if event.type == "response.output_text.delta")
                    assert said == words and both[-1].response.output_text == words, both
            finally:
                circuit("first", "auto")


@check("a response in the background is cancelled, once and again")
def _():
    answer = create("stalls", input="one", background=True)
    time.sleep(0.1)
    assert O.responses.retrieve(answer.id).status == "in_progress"
    for _ in range(2):
        assert O.responses.cancel(answer.id).status == "cancelled"
    assert O.responses.retrieve(answer.id).status == "cancelled"
    streamed = create("stalls", input="two", background=True, stream=True)
    last = None
    for event in streamed:
        if event.type == "response.created":
            O.responses.cancel(event.response.id)
        last = event
    assert (last.type, last.response.status) == ("response.failed", "cancelled"), last


@check("nothing else is cancelled, and no events are repeated")
def _():
    answer = create("to-messages", input="one")
    refused(openai.BadRequestError, "unsupported_operation", lambda: O.responses.cancel(answer.id))
    refused(openai.BadRequestError, "unsupported_parameter", lambda: O.responses.retrieve(answer.id, stream=True))


sys.exit(failed > 0)
