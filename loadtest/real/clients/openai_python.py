"""The official OpenAI SDK for Python."""

from asking import BAD_TEMPERATURE, BASE, CALLING, FIXED, KEY, MODEL, STOP, TOO_LONG, USAGE, WRONG_KEY, ask
from openai import OpenAI

client = OpenAI(base_url=BASE, api_key=KEY, max_retries=0)
wrong = OpenAI(base_url=BASE, api_key=WRONG_KEY, max_retries=0)
chat, raw = client.chat.completions.create, client.chat.completions.with_raw_response.create
TEXT = {"model": MODEL, "prompt": "hi", "temperature": 0, "seed": 1, "max_tokens": 8}
RESPONSE = {"model": MODEL, "input": "hi", "temperature": 0, "max_output_tokens": 16}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo"]}}, "required": ["city"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}

ask("plain", lambda: chat(**FIXED))
ask("stream", lambda: chat(**FIXED, stream=True))
ask("tools", lambda: chat(**(FIXED | CALLING)))
ask("tools, stream", lambda: chat(**(FIXED | CALLING), stream=True))
ask("stop", lambda: chat(**FIXED, stop=STOP))
ask("n=2", lambda: chat(**(FIXED | {"temperature": 1}), n=2))
ask("n=2, stream", lambda: chat(**(FIXED | {"temperature": 1}), n=2, stream=True))
ask("logprobs", lambda: chat(**FIXED, logprobs=True, top_logprobs=2))
ask("logprobs, stream", lambda: chat(**FIXED, logprobs=True, top_logprobs=2, stream=True))
ask("usage in the stream", lambda: chat(**FIXED, **USAGE))
ask("JSON schema", lambda: chat(**FIXED, response_format=FORMAT))
ask("header fields", lambda: {"headers": dict.fromkeys(raw(**FIXED).headers, True)})
ask("header fields, stream", lambda: {"headers": dict.fromkeys(raw(**FIXED, stream=True).headers, True)})
ask("completions", lambda: client.completions.create(**TEXT))
ask("completions, stream", lambda: client.completions.create(**TEXT, stream=True))
ask("responses", lambda: client.responses.create(**RESPONSE))
ask("responses, stream", lambda: client.responses.create(**RESPONSE, stream=True))
ask("models", lambda: client.models.list().data)
ask("one model", lambda: client.models.retrieve(MODEL))
ask("embeddings", lambda: client.embeddings.create(model=MODEL, input="hi"))
ask("unknown model", lambda: chat(**(FIXED | {"model": "nope"})))
ask("unknown model, stream", lambda: chat(**(FIXED | {"model": "nope"}), stream=True))
ask("prompt too long", lambda: chat(**(FIXED | {"messages": TOO_LONG})))
ask("prompt too long, stream", lambda: chat(**(FIXED | {"messages": TOO_LONG}), stream=True))
ask("bad parameter", lambda: chat(**(FIXED | {"temperature": BAD_TEMPERATURE})))
ask("bad type", lambda: chat(**(FIXED | {"max_tokens": "many"})))
ask("wrong key", lambda: wrong.chat.completions.create(**FIXED))
ask("wrong key, stream", lambda: wrong.chat.completions.create(**FIXED, stream=True))
