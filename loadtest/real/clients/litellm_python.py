"""LiteLLM as a library, which takes the server for OpenAI's."""

import litellm
from asking import BAD_TEMPERATURE, BASE, CALLING, FIXED, KEY, MODEL, STOP, TOO_LONG, USAGE, WRONG_KEY, ask

litellm.telemetry = False
litellm.suppress_debug_info = True


def chat(**changes):
    """Ask once, with some options changed."""
    place = {"model": f"openai/{MODEL}", "api_base": BASE, "api_key": KEY, "num_retries": 0, "max_retries": 0}
    return litellm.completion(**(FIXED | place | changes))


ask("plain", lambda: chat())
ask("stream", lambda: chat(stream=True))
ask("tools", lambda: chat(**CALLING))
ask("tools, stream", lambda: chat(**CALLING, stream=True))
ask("stop", lambda: chat(stop=STOP))
ask("n=2", lambda: chat(n=2, temperature=1))
ask("logprobs", lambda: chat(logprobs=True, top_logprobs=2))
ask("usage in the stream", lambda: chat(**USAGE))
ask("usage in the stream, as vLLM", lambda: chat(**USAGE, model=f"hosted_vllm/{MODEL}"))
ask("unknown model", lambda: chat(model="openai/nope"))
ask("prompt too long", lambda: chat(messages=TOO_LONG))
ask("bad parameter", lambda: chat(temperature=BAD_TEMPERATURE))
ask("wrong key", lambda: chat(api_key=WRONG_KEY))
