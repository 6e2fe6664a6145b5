"""The judges, in the order of the page. README.md says what each of these modules has."""

from . import compatcanary, langchain, llm_comply, open_responses

ALL = {
    "open-responses": open_responses,
    "llm-comply": llm_comply,
    "compatcanary": compatcanary,
    "langchain": langchain,
}
