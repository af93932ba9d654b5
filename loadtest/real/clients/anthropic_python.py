"""The official Anthropic SDK for Python, at the engine's Messages API."""

from anthropic import Anthropic
from asking import BAD_TEMPERATURE, BASE, CITY, FIXED, KEY, STOP, TOO_LONG, WRONG_KEY, ask

URL = BASE.removesuffix("/v1")
client = Anthropic(base_url=URL, auth_token=KEY, api_key=None, max_retries=0)
wrong = Anthropic(base_url=URL, auth_token=WRONG_KEY, api_key=None, max_retries=0)
create = client.messages.create
ASKED = {name: FIXED[name] for name in ("model", "messages", "max_tokens")} | {"extra_body": {"temperature": 0}}
CALLING = {
    "tools": [{"name": "get_weather", "description": "Weather", "input_schema": CITY}],
    "tool_choice": {"type": "any"},
    "max_tokens": 60,
}

ask("plain", lambda: create(**ASKED))
ask("stream", lambda: create(**ASKED, stream=True))
ask("tools", lambda: create(**(ASKED | CALLING)))
ask("tools, stream", lambda: create(**(ASKED | CALLING), stream=True))
ask("stop", lambda: create(**ASKED, stop_sequences=STOP))
ask("count tokens", lambda: client.messages.count_tokens(model=ASKED["model"], messages=ASKED["messages"]))
ask("unknown model", lambda: create(**(ASKED | {"model": "nope"})))
ask("unknown model, stream", lambda: create(**(ASKED | {"model": "nope"}), stream=True))
ask("prompt too long", lambda: create(**(ASKED | {"messages": TOO_LONG})))
ask("bad parameter", lambda: create(**(ASKED | {"extra_body": {"temperature": BAD_TEMPERATURE}})))
ask("wrong key", lambda: wrong.messages.create(**ASKED))
