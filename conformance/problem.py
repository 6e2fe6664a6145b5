"""Tells what keeps a run from its end, with the exit code for it."""

FINDING, USAGE, ABSENT, UNREADY, CHANGED, DIFFERENT = range(1, 7)


class Problem(Exception):
    """A sentence that says what to do."""

    def __init__(self, code, sentence):
        super().__init__(sentence)
        self.code = code
