"""What identifies a series of good and bad events: on metrics, in alerts and in lasting state."""

from typing import NamedTuple


class SeriesKey(NamedTuple):
    """One SLI of one subject under one objective.

    `kind` is the subject's kind, `name` its name. `prompt_tokens` is a class of prompt lengths such as "4096+", "" for
    prompts of all lengths. In state from before objectives were kept apart, `objective` is "".
    """

    kind: str
    name: str
    objective: str
    sli: str
    prompt_tokens: str = ""
