"""Follows plans with the official Python SDKs of Anthropic, OpenAI and Google, as they are, with their own repeats."""

import asyncio
import json
import sys
import time

KEY = "sk-of-the-caller"


def of_anthropic(base):
    import anthropic

    client = anthropic.AsyncAnthropic(base_url=base, api_key=KEY)

    async def ask(prompt, is_streamed):
        messages = [{"role": "user", "content": prompt}]
        request = {"model": "sonnet", "max_tokens": 1000, "messages": messages}
        if is_streamed:
            async with client.messages.stream(**request) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.messages.create(**request)
        return message.stop_reason == "end_turn"

    return ask


def of_openai(base):
    import openai

    client = openai.AsyncOpenAI(base_url=base + "/v1", api_key=KEY)

    async def ask(prompt, is_streamed):
        request = {"model": "gpt-5.4", "messages": [{"role": "user", "content": prompt}]}
        answer = await client.chat.completions.create(stream=is_streamed, **request)
        if not is_streamed:
            return answer.choices[0].finish_reason == "stop"
        finish = None
        async for chunk in answer:
            if chunk.choices:
                finish = chunk.choices[0].finish_reason or finish
        return finish == "stop"

    return ask


def of_gemini(base):
    from google import genai
    from google.genai import types

    # Without this it repeats nothing. These are its defaults for those who want repeats.
    options = types.HttpOptions(base_url=base, retry_options=types.HttpRetryOptions())
    client = genai.Client(api_key=KEY, http_options=options)

    async def ask(prompt, is_streamed):
        request = {"model": "gemini-2.5-flash", "contents": prompt}
        if not is_streamed:
            answer = await client.aio.models.generate_content(**request)
            return answer.candidates[0].finish_reason == types.FinishReason.STOP
        finish = None
        async for answer in await client.aio.models.generate_content_stream(**request):
            if answer.candidates:
                finish = answer.candidates[0].finish_reason or finish
        return finish == types.FinishReason.STOP

    return ask


SDKS = {"anthropic": of_anthropic, "openai": of_openai, "gemini": of_gemini}


async def ends(asking, patience):
    """Returns the error of a call."""
    asked = asyncio.create_task(asking)
    # Whoever waits for the end of what is cancelled waits for what an SDK does about it.
    await asyncio.wait({asked}, timeout=patience)
    if not asked.done():
        asked.cancel()
        return "the caller waits no longer"
    if asked.cancelled():
        return "the call was cancelled"
    if raised := asked.exception():
        return f"{type(raised).__name__}: {raised}"[:600]
    return "" if asked.result() else "the answer has no end"


async def outcome(ask, plan, call):
    await asyncio.sleep(call["at"])
    begun = time.monotonic()
    error = await ends(ask(call["prompt"], plan["stream"]), plan["patience"])
    return {"served": not error, "seconds": time.monotonic() - begun, "error": error}


def say(run, **said):
    print(json.dumps({"run": run, **said}), flush=True)


async def follow(order):
    run, plan = order["run"], order["plan"]
    ask = SDKS[order["sdk"]](order["base"])
    if broken := await ends(ask("hello", plan["stream"]), 60):
        return say(run, broken=broken)
    say(run, begun=True)
    outcomes = await asyncio.gather(*(outcome(ask, plan, call) for call in plan["calls"]))
    say(run, outcomes=outcomes)


async def main():
    runs = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        runs.add(asyncio.create_task(follow(json.loads(line))))


asyncio.run(main())
