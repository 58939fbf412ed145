"""What can go wrong in a way that a person can put right."""


class ClusterError(Exception):
    """Something is missing or broken; says what, and what to do about it.

    Printed as one line, without a traceback.
    """

    def __init__(self, problem: str, *, remedy: str) -> None:
        """Keep the two halves of the message apart for callers that show only one."""
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy
