"""Bodies as careless clients send them, by httpx: numbers as text, values out of range, unknown fields."""

import json

import httpx
from asking import BASE, FIXED, KEY, MODEL, ask

client = httpx.Client(headers={"authorization": f"Bearer {KEY}"}, timeout=300, trust_env=False)
TEXT = {"model": MODEL, "prompt": "hi", "temperature": 0, "seed": 1, "max_tokens": 8}
PARTS = [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": " there"}]}]
CHANGES = {
    "max_tokens": ("8", "8.0", 8.0, 8.5, 8e0, 0, -1, None, True, "", [8], 10**30),
    "max_completion_tokens": ("8", 8, 0),
    "n": ("2", 2.0, 0, -1, None, True),
    "stream": ("true", "yes", 1, 0, None, "maybe"),
    "top_logprobs": ("2", 21, -2),
    "logprobs": ("true", 1, None),
    "stop": (None, [], "", ["a"] * 20),
    "temperature": ("0", None, 9, "hot"),
    "seed": ("1", None, 1.5),
    "user": ("someone", None, 5),
    "messages": ([], None, "hi", PARTS, [{"role": "nobody", "content": "hi"}], [{"role": "user"}]),
    "model": (None, 5, "", ["tiny"]),
    "tools": ([], None),
    "response_format": ({"type": "json_object"}, {"type": "text"}, {"type": "poem"}),
    "unknown_field": ("x", {"deep": [1]}),
}
OF_TEXTS = {
    "prompt": (["hi", "ho"], [1, 2, 3], [[1, 2], [3]], "", [], None),
    "n": (2,),
    "echo": (True,),
    "logprobs": (1, "1"),
    "best_of": (2, "2"),
    "suffix": ("end",),
}
OF_STREAMS = (None, {}, {"include_usage": "true"}, {"include_usage": 1}, {"include_usage": True, "x": 1}, [])
CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}


def post(path, body):
    """Return what came of it, a stream as its events."""
    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = client.post(f"{BASE}{path}", content=content, headers={"content-type": "application/json"})
    kind = answer.headers.get("content-type")
    if kind and kind.startswith("text/event-stream"):
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        return [json.loads(line) if line != "[DONE]" else {"done": True} for line in lines]
    return {"status": answer.status_code, "type": kind, "body": answer.json()}


def sent(path, body):
    return lambda: post(path, body)


for name, values in CHANGES.items():
    for value in values:
        more = {"logprobs": True} if name == "top_logprobs" else {"temperature": 1} if name == "n" else {}
        ask(f"chat, {name} {json.dumps(value)[:40]}", sent("/chat/completions", FIXED | more | {name: value}))
    ask(f"chat without {name}", sent("/chat/completions", {key: each for key, each in FIXED.items() if key != name}))
for name, values in OF_TEXTS.items():
    for value in values:
        body = TEXT | ({"temperature": 1} if name in {"n", "best_of"} else {}) | {name: value}
        ask(f"text, {name} {json.dumps(value)[:40]}", sent("/completions", body))
for value in (*OF_STREAMS, CONTINUOUS):
    body = FIXED | {"stream": True, "stream_options": value}
    ask(f"stream_options {json.dumps(value)}", sent("/chat/completions", body))
ask("stream_options without a stream", sent("/chat/completions", FIXED | {"stream_options": CONTINUOUS}))
ask("no JSON", sent("/chat/completions", b"{"))
ask("an empty body", sent("/chat/completions", b""))
ask("a list", sent("/chat/completions", b"[]"))
ask("not UTF-8", sent("/chat/completions", b'{"model": "\xff"}'))
