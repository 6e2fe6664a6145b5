"""Names the parts of a judge, and the subjects that each is run at."""

from dataclasses import dataclass

CONTROL = ("upstream",)
OVER = tuple(f"steadfast over {protocol}" for protocol in ("messages", "chat", "responses", "gemini"))
RIVALS = ("LiteLLM", "Portkey")


@dataclass(frozen=True)
class Suite:
    """A part of a judge, for callers of one protocol; a judge of one part has no name for it.

    A part without a protocol starts its subjects itself.
    """

    name: str
    protocol: str
    subjects: tuple[str, ...] = CONTROL + OVER + RIVALS

    def title(self, judge):
        return f"{judge}: {self.name}" if self.name else judge
