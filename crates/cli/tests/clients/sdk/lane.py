"""Drives the lane of a gateway with OpenAI's and Google's Python SDKs, as they are."""

import array
import base64
import sys

import openai
from checks import KEY, check, end, raises, vector
from google import genai

base = "http://" + sys.argv[1]
FILE = ("sound.mp3", b"\x07" * 5000)
O = openai.OpenAI(api_key=KEY, base_url=base + "/v1")
CLIENTS = {
    "openai": O,
    "azure": openai.AzureOpenAI(api_key=KEY, azure_endpoint=base, api_version="2025-04-01-preview"),
}
TEXTS = ["a keel", "a crew that knows the ropes", "sømand", ""]


for name, client in CLIENTS.items():
    for more in [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}]:

        @check(f"{name}, embeddings, {more}")
        def _():
            made = client.embeddings.create(model="small", input=TEXTS, **more)
            assert [one.index for one in made.data] == [0, 1, 2, 3], made
            got = [one.embedding for one in made.data]
            if more == {"encoding_format": "base64"}:
                got = [list(array.array("f", base64.b64decode(one))) for one in got]
            assert got == [vector(text) for text in TEXTS], got
            assert made.usage.total_tokens == 5, made

    @check(f"{name}, embeddings of another space")
    def _():
        made = client.embeddings.create(model="wide", input="a keel")
        assert made.data[0].embedding == vector("a keel", 5), made

    @check(f"{name}, a model that is not there")
    def _():
        error = raises(openai.NotFoundError, lambda: client.embeddings.create(model="none", input="a"))
        assert "wide" in error.message and error.request_id, error

    @check(f"{name}, audio")
    def _():
        made = client.audio.transcriptions.create(model="whisper-1", file=FILE)
        assert made.text == "5000 bytes, whisper-1: true", made
        spoken = client.audio.speech.create(model="tts-1", voice="alloy", input="ahoy")
        assert spoken.content == bytes(at % 251 for at in range(4000))
        with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="ahoy") as spoken:
            assert b"".join(spoken.iter_bytes()) == bytes(at % 251 for at in range(4000))

    @check(f"{name}, images")
    def _():
        made = client.images.generate(model="gpt-image-1", prompt="a ship", n=2)
        assert [base64.b64decode(one.b64_json) for one in made.data] == [b"a ship"] * 2, made
        made = client.images.edit(model="gpt-image-1", prompt="a ship", image=("ship.png", FILE[1]))
        assert base64.b64decode(made.data[0].b64_json) == b"5000 bytes, gpt-image-1: true", made


@check("completions, whole and streamed")
def _():
    more = {"model": "gpt-3.5-turbo-instruct", "prompt": "a", "max_tokens": 5}
    made = O.completions.create(**more)
    assert (made.choices[0].text, made.usage.total_tokens) == ("calm sea", 7), made
    pieces = [chunk.choices[0] for chunk in O.completions.create(**more, stream=True)]
    assert [(piece.text, piece.finish_reason) for piece in pieces] == [("calm ", None), ("sea", "stop")], pieces


@check("moderations")
def _():
    for text in ["a bad word", "a word"]:
        made = O.moderations.create(model="omni-moderation-latest", input=text)
        assert made.results[0].flagged == ("bad" in text), made


@check("the asynchronous client")
async def _():
    async with openai.AsyncOpenAI(api_key=KEY, base_url=base + "/v1") as client:
        made = await client.embeddings.create(model="small", input="a keel")
        assert made.data[0].embedding == vector("a keel"), made
        made = await client.audio.transcriptions.create(model="whisper-1", file=FILE)
        assert made.text.startswith("5000 bytes"), made


@check("google's embeddings")
def _():
    client = genai.Client(api_key=KEY, http_options={"base_url": base})
    made = client.models.embed_content(model="gemini-embedding-001", contents=TEXTS[:3])
    assert [one.values for one in made.embeddings] == [vector(text) for text in TEXTS[:3]], made
    error = raises(genai.errors.ClientError, lambda: client.models.embed_content(model="none", contents="a"))
    assert error.code == 404 and error.status == "NOT_FOUND", error


end()
