"""Files, batches and what is made of them, by the official SDKs as they are. The gateway's address is the argument."""

import sys

import anthropic
import openai

base = "http://" + sys.argv[1]
O = openai.OpenAI(base_url=base + "/v1", api_key="sk-one", max_retries=0)
A = anthropic.Anthropic(base_url=base, api_key="sk-one", max_retries=0)
failed = 0


def check(name):
    def run(function):
        global failed
        try:
            function()
            print("ok  ", name)
        except BaseException as error:
            failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}")

    return run


def raises(kind, function):
    try:
        function()
    except kind as error:
        return error
    raise AssertionError("no error")


@check("openai: a file, a batch of it, and its output")
def _():
    file = O.files.create(file=("f.jsonl", b'{"custom_id": "one"}\n' * 1000), purpose="batch")
    assert file.id.startswith("file-main"), file
    batch = O.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a_id": "file-x"}
    )
    again = O.batches.retrieve(batch.id)
    assert (again.id, again.status, again.input_file_id) == (batch.id, "completed", file.id), again
    assert O.files.content(again.output_file_id).text == f"content of {again.output_file_id}"
    assert batch.id in [batch.id for batch in O.batches.list(limit=20)]
    assert O.files.retrieve(file.id).bytes == file.bytes
    assert O.files.delete(file.id).deleted
    raises(openai.NotFoundError, lambda: O.files.retrieve(file.id))


@check("openai: Azure's client")
def _():
    client = openai.AzureOpenAI(azure_endpoint=base, api_key="sk-one", api_version="2024-10-21", max_retries=0)
    file = client.files.create(file=("f.jsonl", b"{}\n"), purpose="batch")
    assert client.files.retrieve(file.id).id == file.id
    assert O.files.retrieve(file.id).id == file.id


@check("openai: a vector store and an upload in parts")
def _():
    file = O.files.create(file=("f.txt", b"words"), purpose="assistants")
    store = O.vector_stores.create(name="s", file_ids=[file.id])
    assert list(O.vector_stores.files.list(store.id)) == []


@check("openai: another caller's")
def _():
    file = O.files.create(file=("f.txt", b"words"), purpose="assistants")
    other = openai.OpenAI(base_url=base + "/v1", api_key="sk-two", max_retries=0)
    error = raises(openai.NotFoundError, lambda: other.files.retrieve(file.id))
    assert "no object of this key" in error.message, error
    assert file.id not in [file.id for file in other.files.list()]


@check("anthropic: a file")
def _():
    file = A.beta.files.upload(file=("f.txt", b"words", "text/plain"))
    assert file.id.startswith("file_claude"), file
    assert A.beta.files.retrieve_metadata(file.id).id == file.id
    assert A.beta.files.download(file.id).text() == f"content of {file.id}"
    assert [file.id for file in A.beta.files.list()] == [file.id]
    A.beta.files.delete(file.id)
    raises(anthropic.NotFoundError, lambda: A.beta.files.retrieve_metadata(file.id))


@check("anthropic: a batch and its results")
def _():
    params = {"model": "claude-sonnet-4-5", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
    batch = A.messages.batches.create(requests=[{"custom_id": "one", "params": params}])
    assert A.messages.batches.retrieve(batch.id).processing_status == "ended"
    assert [line.custom_id for line in A.messages.batches.results(batch.id)] == ["one"]
    assert batch.id in [batch.id for batch in A.messages.batches.list()]
    other = anthropic.Anthropic(base_url=base, api_key="sk-two", max_retries=0)
    raises(anthropic.NotFoundError, lambda: other.messages.batches.retrieve(batch.id))


sys.exit(1 if failed else 0)
