"""Calls simulated providers' doors with the clouds' own SDKs: a server, a client, a method and a key a line, and what
the SDK makes of the answer. A first line says that the SDKs are there. The arguments are a service account's address
and the file of its key."""

import functools
import json
import sys

import anthropic
import boto3
import openai
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import InstanceMetadataFetcher
from google import genai
from google.auth.transport.requests import Request
from google.genai import errors as genai_errors
from google.oauth2 import credentials as google_credentials
from google.oauth2 import service_account

email, key_file = sys.argv[1:3]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLAUDE_TOOLS = [{"name": "weather", "description": "The weather", "input_schema": SCHEMA}]
OPENAI_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
# An older package has none: then this fails before a test.
Mantle = anthropic.AnthropicBedrockMantle
HI = [{"role": "user", "content": "Hi"}]
BEDROCK = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
AWS = {"aws_access_key": "AKIDEXAMPLE", "aws_region": "us-east-1"}


session = boto3.Session(region_name="us-east-1")


def amazon(service, secret):
    # A list is what a token server issued.
    return made(base, service, *(secret if isinstance(secret, list) else ["AKIDEXAMPLE", secret, None]))


@functools.cache
def made(base, service, key, secret, token):
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    return session.client(
        service, endpoint_url=base, aws_access_key_id=key, aws_secret_access_key=secret,
        aws_session_token=token, config=config,
    )


def claude(make, model):
    def whole(key, **more):
        message = make(key).messages.create(model=model, max_tokens=100, messages=HI, **more)
        return of_message(message)

    def streamed(key, **more):
        with make(key).messages.stream(model=model, max_tokens=100, messages=HI, **more) as stream:
            return of_message(stream.get_final_message())

    def of_message(message):
        text = "".join(block.text for block in message.content if block.type == "text")
        calls = [[block.name, block.input] for block in message.content if block.type == "tool_use"]
        return {"text": text, "calls": calls, "stop": message.stop_reason, "model": message.model,
                "output": message.usage.output_tokens}

    return {"whole": whole, "streamed": streamed, "tools": CLAUDE_TOOLS}


def chat(make, model):
    def whole(key, **more):
        choice = make(key).chat.completions.create(model=model, messages=HI, **more).choices[0]
        calls = [[call.function.name, json.loads(call.function.arguments)] for call in choice.message.tool_calls or []]
        return {"text": choice.message.content or "", "calls": calls, "stop": choice.finish_reason}

    def streamed(key, **more):
        with make(key).chat.completions.stream(model=model, messages=HI, **more) as stream:
            choice = stream.get_final_completion().choices[0]
        calls = [[call.function.name, json.loads(call.function.arguments)] for call in choice.message.tool_calls or []]
        return {"text": choice.message.content or "", "calls": calls, "stop": choice.finish_reason}

    return {"whole": whole, "streamed": streamed, "tools": OPENAI_TOOLS}


def responses(make, model):
    def whole(key, **more):
        return of(make(key).responses.create(model=model, input="Hi", **more))

    def streamed(key, **more):
        with make(key).responses.stream(model=model, input="Hi", **more) as stream:
            for _ in stream:
                pass
            return of(stream.get_final_response())

    def of(response):
        calls = [[item.name, json.loads(item.arguments)] for item in response.output if item.type == "function_call"]
        return {"text": response.output_text, "calls": calls, "stop": response.status}

    tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
    return {"whole": whole, "streamed": streamed, "tools": tools}


def gemini():
    # Without a holder it is closed at once.
    @functools.cache
    def client(base, key):
        options = {"base_url": base, "retry_options": {"attempts": 1}}
        credentials = google_credentials.Credentials(key)
        return genai.Client(vertexai=True, project="p", location="europe-west1", credentials=credentials,
                            http_options=options)

    def of(parts, stop):
        calls = [[part.function_call.name, part.function_call.args] for part in parts if part.function_call]
        return {"text": "".join(part.text or "" for part in parts), "calls": calls, "stop": stop.name}

    def whole(key, **more):
        answer = client(base, key).models.generate_content(model="gemini-2.5-flash", contents="Hi", config=more)
        return of(answer.candidates[0].content.parts, answer.candidates[0].finish_reason)

    def streamed(key, **more):
        parts, stop = [], None
        for piece in client(base, key).models.generate_content_stream(model="gemini-2.5-flash", contents="Hi", config=more):
            candidate = piece.candidates[0]
            parts += candidate.content.parts
            stop = candidate.finish_reason or stop
        return of(parts, stop)

    tools = [{"function_declarations": [{"name": "weather", "parameters": SCHEMA}]}]
    return {"whole": whole, "streamed": streamed, "tools": tools}


def converse():
    config = {"inferenceConfig": {"maxTokens": 100}}

    def arguments(more):
        tools = more.pop("tools", None)
        more = {"toolConfig": {"tools": tools}} if tools else {}
        return {"modelId": BEDROCK, "messages": [{"role": "user", "content": [{"text": "Hi"}]}], **config, **more}

    def whole(key, **more):
        answer = amazon("bedrock-runtime", key).converse(**arguments(more))
        content = answer["output"]["message"]["content"]
        calls = [[block["toolUse"]["name"], block["toolUse"]["input"]] for block in content if "toolUse" in block]
        text = "".join(block.get("text", "") for block in content)
        return {"text": text, "calls": calls, "stop": answer["stopReason"], "output": answer["usage"]["outputTokens"]}

    def streamed(key, **more):
        text, names, inputs, stop, output = "", [], [], None, None
        for event in amazon("bedrock-runtime", key).converse_stream(**arguments(more))["stream"]:
            if "contentBlockStart" in event:
                names.append(event["contentBlockStart"]["start"]["toolUse"]["name"])
                inputs.append("")
            elif "contentBlockDelta" in event:
                delta = event["contentBlockDelta"]["delta"]
                text += delta.get("text", "")
                if "toolUse" in delta:
                    inputs[-1] += delta["toolUse"]["input"]
            elif "messageStop" in event:
                stop = event["messageStop"]["stopReason"]
            elif "metadata" in event:
                output = event["metadata"]["usage"]["outputTokens"]
        calls = [[name, json.loads(said)] for name, said in zip(names, inputs)]
        return {"text": text, "calls": calls, "stop": stop, "output": output}

    tools = [{"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}]
    return {"whole": whole, "streamed": streamed, "tools": tools}


def invoke():
    def body(more):
        return json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": HI, **more})

    def whole(key, **more):
        answer = amazon("bedrock-runtime", key).invoke_model(modelId=BEDROCK, body=body(more))
        message = json.loads(answer["body"].read())
        text = "".join(block.get("text", "") for block in message["content"])
        calls = [[block["name"], block["input"]] for block in message["content"] if block["type"] == "tool_use"]
        return {"text": text, "calls": calls, "stop": message["stop_reason"], "output": message["usage"]["output_tokens"]}

    def streamed(key, **more):
        answer = amazon("bedrock-runtime", key).invoke_model_with_response_stream(modelId=BEDROCK, body=body(more))
        text, name, said, stop, output = "", None, "", None, None
        for event in answer["body"]:
            event = json.loads(event["chunk"]["bytes"])
            if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
                name = event["content_block"]["name"]
            elif event["type"] == "content_block_delta":
                text += event["delta"].get("text", "")
                said += event["delta"].get("partial_json", "")
            elif event["type"] == "message_delta":
                stop, output = event["delta"]["stop_reason"], event["usage"]["output_tokens"]
        return {"text": text, "calls": [[name, json.loads(said)]] if name else [], "stop": stop, "output": output}

    return {"whole": whole, "streamed": streamed, "tools": CLAUDE_TOOLS}


def identity(_):
    answer = amazon("sts", "unused").assume_role_with_web_identity(
        RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="s", WebIdentityToken="a workload's token"
    )["Credentials"]
    return [answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"]]


def instance(_):
    fetcher = InstanceMetadataFetcher(base_url=base + "/", num_attempts=1)
    found = fetcher.retrieve_iam_role_credentials()
    return [found["access_key"], found["secret_key"], found["token"]]


def google_account(_):
    with open(key_file) as file:
        info = {"client_email": email, "token_uri": base + "/token", "private_key": file.read()}
    credentials = service_account.Credentials.from_service_account_info(
        info, scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    credentials.refresh(Request())
    return credentials.token


def google_user(_):
    credentials = google_credentials.Credentials(
        None, refresh_token="a user's", token_uri=base + "/token", client_id="c", client_secret="s"
    )
    credentials.refresh(Request())
    return credentials.token


ONCE = {"max_retries": 0}
CLIENTS = {
    "bedrock": claude(lambda key: anthropic.AnthropicBedrock(aws_secret_key=key, base_url=base, **AWS, **ONCE), BEDROCK),
    "bedrock_token": claude(
        lambda key: anthropic.AnthropicBedrock(api_key=key, aws_region="us-east-1", base_url=base, **ONCE), BEDROCK
    ),
    "mantle": claude(
        lambda key: Mantle(aws_secret_key=key, base_url=base + "/anthropic", **AWS, **ONCE),
        "anthropic.claude-haiku-4-5",
    ),
    "mantle_chat": chat(lambda key: openai.OpenAI(api_key=key, base_url=base + "/v1", **ONCE), "openai.gpt-oss-120b"),
    "vertex": claude(
        lambda key: anthropic.AnthropicVertex(access_token=key, region="global", project_id="p", base_url=base + "/v1", **ONCE),
        "claude-haiku-4-5@20251001",
    ),
    "foundry": claude(
        lambda key: anthropic.AnthropicFoundry(api_key=key, base_url=base + "/anthropic/", **ONCE), "claude-haiku-4-5"
    ),
    "azure": chat(
        lambda key: openai.AzureOpenAI(api_key=key, azure_endpoint=base, api_version="2024-10-21", **ONCE), "my-gpt"
    ),
    "azure_v1": chat(lambda key: openai.OpenAI(api_key=key, base_url=base + "/openai/v1", **ONCE), "my-gpt"),
    "azure_responses": responses(
        lambda key: openai.AzureOpenAI(api_key=key, azure_endpoint=base, api_version="2025-04-01-preview", **ONCE), "my-gpt"
    ),
    "gemini": gemini(),
    "converse": converse(),
    "invoke": invoke(),
    "identity": {"token": identity},
    "instance": {"token": instance},
    "google_account": {"token": google_account},
    "google_user": {"token": google_user},
}

print("null", flush=True)
for line in sys.stdin:
    base, name, method, key, with_tools = json.loads(line)
    client = CLIENTS[name]
    more = {"tools": client["tools"]} if with_tools else {}
    try:
        said = client[method](key, **more)
    except (anthropic.APIStatusError, openai.APIStatusError) as error:
        said = {"error": type(error).__name__, "status": error.status_code, "message": str(error.message)}
    except genai_errors.APIError as error:
        said = {"error": type(error).__name__, "status": error.code, "message": error.status}
    except ClientError as error:
        # An exception inside a stream has no status.
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        said = {"error": type(error).__name__, "status": status, "message": error.response["Error"]["Code"]}
    except Exception as error:
        said = {"error": type(error).__name__, "status": None, "message": str(error)}
    print(json.dumps(said), flush=True)
