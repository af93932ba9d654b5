"""LangChain's chat model for OpenAI-compatible servers."""

from asking import BAD_TEMPERATURE, BASE, KEY, MODEL, STOP, TOO_LONG, TOOLS, WRONG_KEY, ask
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI


def model(**options):
    """Return a model that asks this server, with some options changed."""
    fixed = {"model": MODEL, "temperature": 0, "seed": 1, "max_tokens": 16, "max_retries": 0}
    return ChatOpenAI(base_url=BASE, **({"api_key": KEY} | fixed | options))


ask("plain", lambda: model().invoke("hi"))
ask("stream", lambda: model().stream("hi"))
ask("tools", lambda: model(max_tokens=60).bind_tools(TOOLS, tool_choice="required").invoke("hi"))
ask("tools, stream", lambda: model(max_tokens=60).bind_tools(TOOLS, tool_choice="required").stream("hi"))
ask("stop", lambda: model().invoke("hi", stop=STOP))
ask("n=2", lambda: model(n=2, temperature=1).generate([[HumanMessage("hi")]]).generations[0])
ask("logprobs", lambda: model(logprobs=True, top_logprobs=2).invoke("hi"))
ask("usage in the stream", lambda: model(stream_usage=True).stream("hi"))
ask("unknown model", lambda: model(model="nope").invoke("hi"))
ask("prompt too long", lambda: model().invoke(TOO_LONG))
ask("bad parameter", lambda: model(temperature=BAD_TEMPERATURE).invoke("hi"))
ask("wrong key", lambda: model(api_key=WRONG_KEY).invoke("hi"))
