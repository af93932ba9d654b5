"""Where a person who gets an alert finds what to do about it."""

RUNBOOKS = "https://github.com/tidegate/tidegate/blob/main/docs/runbooks.md"
"""The page docs/runbooks.md as it is published. It has a section for each SLI."""


def runbook(sli: str, page: str = RUNBOOKS) -> str:
    """Return the address of the section for alerts on an SLI, "" without a page."""
    return f"{page}#{sli}" if page else ""
