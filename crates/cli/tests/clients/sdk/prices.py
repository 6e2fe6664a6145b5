"""Prints what LiteLLM's own calculator asks for the models and the usages on standard input, by the table of its package.

With `--table` it prints the table's path instead."""

import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

if "--table" in sys.argv:
    print(os.path.join(os.path.dirname(litellm.__file__), "model_prices_and_context_window_backup.json"))
else:
    costs = []
    for asked in json.load(sys.stdin):
        prompt, completion = litellm.cost_per_token(
            model=asked["model"],
            prompt_tokens=asked["input"],
            completion_tokens=asked["output"],
            cache_read_input_tokens=asked["cache_read"],
            cache_creation_input_tokens=asked["cache_write"],
            service_tier=asked["service_tier"],
        )
        costs.append(prompt + completion)
    json.dump(costs, sys.stdout)
