"""The cloud clients of the official SDKs against a gateway, whose address is the argument."""

import sys

import anthropic
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from checks import KEY, SAID, check, end, feature, raises

base = sys.argv[1] if "://" in sys.argv[1] else "http://" + sys.argv[1]
HI = {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
AWS = {"aws_access_key": "AKIDEXAMPLE", "aws_secret_key": "secret", "aws_region": "us-east-1"}

# These two call `/v1/messages`, where the gateway answers.
for name, client in {
    "AnthropicBedrockMantle with a key": anthropic.AnthropicBedrockMantle(api_key=KEY, base_url=base),
    "AnthropicFoundry": anthropic.AnthropicFoundry(api_key=KEY, base_url=base),
}.items():

    @check(f"{name}: an answer, whole and streamed")
    def _(client=client):
        said = client.messages.create(**HI, extra_headers=feature("a-healthy"))
        assert said.content[0].text == SAID, said
        with client.messages.stream(**HI, extra_headers=feature("a-healthy")) as stream:
            assert stream.get_final_message().content[0].text == SAID

    for failing, kind in {
        "bad_request": anthropic.BadRequestError,
        "context_length": anthropic.BadRequestError,
        "rate_limited": anthropic.RateLimitError,
        "server_error": anthropic.APIStatusError,
    }.items():

        @check(f"{name}: {failing}")
        def _(client=client, failing=failing, kind=kind):
            raises(kind, lambda: client.messages.create(**HI, extra_headers=feature("a-" + failing)))


# Their paths are a cloud's: `/model/{id}/invoke`, `:rawPredict`. AzureOpenAI has a script of its own.
CLOUDS = {
    "AnthropicBedrock": anthropic.AnthropicBedrock(**AWS, base_url=base),
    "AnthropicVertex": anthropic.AnthropicVertex(access_token=KEY, region="global", project_id="p", base_url=base + "/v1"),
}
for name, client in CLOUDS.items():

    @check(f"{name}: a path that is not there")
    def _(client=client):
        error = raises(anthropic.NotFoundError, lambda: client.messages.create(**HI))
        assert error.body["error"]["type"] == "not_found_error", error.body
        raises(anthropic.NotFoundError, lambda: client.messages.create(**HI, stream=True))


@check("boto3: a path that is not there")
def _():
    client = boto3.client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=base, aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret", config=Config(retries={"total_max_attempts": 1}),
    )
    content = [{"role": "user", "content": [{"text": "Hi"}]}]
    error = raises(ClientError, lambda: client.converse(modelId="m", messages=content), within=20)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404, error.response


end()
