"""Holds requests of Converse to AWS's own model of the service.

Reads lines of `{"id": .., "body": ..}`, and checks each body with botocore's validator: names, types, unions with one
member, required fields. Beyond it, the enumerations, patterns and greatest lengths that the model has. Prints what is
wrong, and at the end the number of requests that hold.
"""

import json
import re
import sys

import botocore.session
from botocore.validate import ParamValidator


def strict(shape, value, at):
    """Yields what the validator passes over."""
    kind = shape.type_name
    if kind == "structure" and not getattr(shape, "is_document_type", False) and isinstance(value, dict):
        for name, member in shape.members.items():
            if name in value:
                yield from strict(member, value[name], f"{at}.{name}")
    elif kind == "list" and isinstance(value, list):
        for place, item in enumerate(value):
            yield from strict(shape.member, item, f"{at}[{place}]")
    elif kind == "map" and isinstance(value, dict):
        for name, item in value.items():
            yield from strict(shape.key, name, f"{at} key")
            yield from strict(shape.value, item, f"{at}.{name}")
    if kind == "string" and isinstance(value, str):
        if shape.enum and value not in shape.enum:
            yield f"{at}: {value!r} is none of {shape.enum}"
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(pattern, value):
            yield f"{at}: {value[:40]!r} does not match {pattern}"
    most = shape.metadata.get("max")
    if most is not None and kind in ("string", "list", "map") and len(value) > most:
        yield f"{at}: {len(value)} is more than {most}"
    if most is not None and kind in ("integer", "float", "double") and value > most:
        yield f"{at}: {value} is more than {most}"


def roles(body):
    """Yields what Converse's guide wants of turns: roles that alternate, and a text beside a document."""
    before = None
    for place, message in enumerate(body["messages"]):
        if message["role"] == before:
            yield f"messages[{place}]: the role does not alternate"
        before = message["role"]
        kinds = {kind for block in message["content"] for kind in block}
        if "document" in kinds and "text" not in kinds:
            yield f"messages[{place}]: a document without a text"
        if not kinds:
            yield f"messages[{place}]: a turn without content"
    names = [b["document"]["name"] for m in body["messages"] for b in m["content"] if "document" in b]
    if len(names) != len(set(names)):
        yield "documents of one name"


def main():
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    shape = model.operation_model("Converse").input_shape
    validator = ParamValidator()
    checked = good = 0
    for line in sys.stdin:
        request = json.loads(line)
        body = {"modelId": "anthropic.claude", **request["body"]}
        wrong = [validator.validate(body, shape).generate_report()]
        wrong += [*strict(shape, body, ""), *roles(body)]
        wrong = [what for what in wrong if what]
        for what in wrong:
            print(f"{request['id']}: {what}")
        checked += 1
        good += not wrong
    print(f"botocore: {checked} requests of Converse, {good} hold")
    return 0 if good == checked else 1


sys.exit(main())
