"""LangChain's standard tests of chat models, at the server that SUBJECT_URL names.

judges/langchain.py runs this under pytest. Off stay the tests that are so by default: of JSON without a schema, which
want a model with wits, and of pictures, sounds and documents, which they fetch from the internet.
"""

import os

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

URL, KEY = os.environ["SUBJECT_URL"], os.environ["SUBJECT_KEY"]


class TestMessages(ChatModelIntegrationTests):
    chat_model_class = ChatAnthropic
    chat_model_params = {"base_url": URL, "api_key": KEY, "model": "claude-sonnet-4-5", "max_retries": 0}
    model_override_value = "claude-haiku-4-5"
    supports_anthropic_inputs = True


class TestChat(ChatModelIntegrationTests):
    chat_model_class = ChatOpenAI
    # At another address than OpenAI's it asks for usage only if told to.
    chat_model_params = {
        "base_url": f"{URL}/v1",
        "api_key": KEY,
        "model": "gpt-4.1",
        "max_retries": 0,
        "stream_usage": True,
    }
    model_override_value = "gpt-4.1-mini"


class TestResponses(TestChat):
    chat_model_params = {**TestChat.chat_model_params, "use_responses_api": True}
