"""The judges, in the order of the page. README.md says what each of these modules has."""

from . import compatcanary, langchain, llm_comply, open_responses, probes, sdk_faults, tower_contract

ALL = {
    "open-responses": open_responses,
    "llm-comply": llm_comply,
    "compatcanary": compatcanary,
    "langchain": langchain,
    "tower-contract": tower_contract,
    "sdk-faults": sdk_faults,
    "probes": probes,
}
