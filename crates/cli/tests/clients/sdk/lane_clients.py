"""Drives the lane of a gateway with Cohere's SDK, LangChain and LiteLLM's SDK, as they are."""

import base64
import logging
import sys
import warnings

import checks
import cohere
import langchain_openai
import litellm
from checks import KEY, check, end, vector

warnings.simplefilter("ignore")
logging.disable(logging.ERROR)
litellm.telemetry = False
litellm.suppress_debug_info = True

base = "http://" + sys.argv[1]
O = {"api_base": base + "/v1", "api_key": KEY}
TEXTS = ["a keel", "a crew that knows the ropes", "sømand"]
FILE = ("sound.mp3", b"\x07" * 5000)


VECTORS = [vector(text) for text in TEXTS]
C = cohere.ClientV2(api_key=KEY, base_url=base)


@check("cohere, embed")
def _():
    more = {"model": "embed-v4.0", "input_type": "search_document", "embedding_types": ["float"]}
    made = C.embed(texts=TEXTS, **more)
    assert made.embeddings.float_ == VECTORS, made


@check("cohere, rerank")
def _():
    made = C.rerank(model="rerank-v3.5", query="a keel", documents=TEXTS)
    assert [one.index for one in made.results] == [0, 2, 1], made


@check("cohere, a model that is not there")
def _():
    asked = {"model": "none", "texts": ["a"], "input_type": "search_document", "embedding_types": ["float"]}
    error = checks.raises(cohere.NotFoundError, lambda: C.embed(**asked), within=5)
    assert "embed-v4.0" in str(error.body), error.body


@check("langchain, embeddings")
async def _():
    # Without its own tokens, which it would need a file of the vocabulary for.
    made = langchain_openai.OpenAIEmbeddings(
        model="small", base_url=base + "/v1", api_key=KEY, check_embedding_ctx_length=False
    )
    assert made.embed_documents(TEXTS) == VECTORS
    assert made.embed_query(TEXTS[0]) == VECTORS[0]
    assert await made.aembed_documents(TEXTS) == VECTORS
    azure = langchain_openai.AzureOpenAIEmbeddings(
        model="small",
        azure_endpoint=base,
        api_key=KEY,
        api_version="2025-04-01-preview",
        check_embedding_ctx_length=False,
    )
    assert azure.embed_documents(TEXTS) == VECTORS


@check("litellm, embeddings")
async def _():
    made = litellm.embedding(model="openai/small", input=TEXTS, **O)
    assert [one["embedding"] for one in made.data] == VECTORS, made
    made = await litellm.aembedding(model="openai/small", input=TEXTS, encoding_format="float", **O)
    assert [one["embedding"] for one in made.data] == VECTORS, made


@check("litellm, rerank")
def _():
    made = litellm.rerank(
        model="cohere/rerank-v3.5", query="a keel", documents=TEXTS, api_base=base, api_key=KEY
    )
    assert [one["index"] for one in made.results] == [0, 2, 1], made


@check("litellm, audio and images")
def _():
    made = litellm.transcription(model="openai/whisper-1", file=FILE, **O)
    assert made.text == "5000 bytes, whisper-1: true", made
    spoken = litellm.speech(model="openai/tts-1", voice="alloy", input="ahoy", **O)
    assert spoken.content == bytes(at % 251 for at in range(4000))
    made = litellm.image_generation(model="openai/gpt-image-1", prompt="a ship", n=2, **O)
    assert [base64.b64decode(one.b64_json) for one in made.data] == [b"a ship"] * 2, made


@check("litellm, moderations and completions")
def _():
    made = litellm.moderation(model="omni-moderation-latest", input="a bad word", **O)
    assert made.results[0].flagged, made
    asked = {"model": "text-completion-openai/gpt-3.5-turbo-instruct", "prompt": "a"}
    made = litellm.text_completion(**asked, **O)
    assert made.choices[0].text == "calm sea", made
    pieces = [chunk.choices[0].text or "" for chunk in litellm.text_completion(**asked, stream=True, **O)]
    assert "".join(pieces) == "calm sea", pieces


end()
