"""Decodes a simulated provider's answers with OpenAI's own SDK: a request and a client's method a line, and what the
SDK makes of the answer."""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="key", max_retries=0)


def items(response):
    found = []
    for item in response.output:
        item = item.model_dump(exclude_none=True)
        if item["type"] == "message":
            found.append({"message": "".join(part["text"] for part in item["content"]), "status": item["status"]})
        elif item["type"] == "reasoning":
            summary = [part["text"] for part in item["summary"]]
            found.append({"reasoning": summary, "sealed": item.get("encrypted_content", "").startswith("gAAAA")})
        else:
            names = ["type", "namespace", "name", "arguments", "input"]
            found.append({name: item[name] for name in names if name in item})
    return found


def whole(body):
    response = client.responses.create(**body)
    return {"status": response.status, "items": items(response)}


def streamed(body):
    text, arguments, free_text, numbers = "", "", "", []
    with client.responses.stream(**body) as stream:
        for event in stream:
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.function_call_arguments.delta":
                arguments += event.delta
            elif event.type == "response.custom_tool_call_input.delta":
                free_text += event.delta
        response = stream.get_final_response()
    assert numbers == list(range(len(numbers))), numbers
    deltas = {"text": text, "arguments": arguments, "input": free_text}
    return {"status": response.status, "items": items(response), "deltas": deltas}


for line in sys.stdin:
    method, body = json.loads(line)
    try:
        said = {"whole": whole, "streamed": streamed}[method](body)
    except openai.APIError as error:
        said = {"error": type(error).__name__, "code": error.code, "message": error.message}
    print(json.dumps(said), flush=True)
