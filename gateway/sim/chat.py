"""POST /v1/chat/completions as vLLM answers it."""

from typing import Any

from gateway.sim.answers import Answer, Choice, encode
from gateway.sim.text import Channel, Piece

DONE = b"data: [DONE]\n\n"
_PLAIN_TAIL = b'},"logprobs":null,"finish_reason":null,"token_ids":null}]'
_OPENING = (
    b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
    b'%b,"prompt_token_ids":null,"prompt_text":null}\n\n'
)


class ChatDialect:
    """Chat completions; `reasoning_field` is `reasoning` or, as in older versions, `reasoning_content`."""

    def __init__(
        self, answer: Answer, *, include_usage: bool, continuous_usage: bool, reasoning_field: str, tool_ids: list[str]
    ) -> None:
        self._answer = answer
        self._include_usage = include_usage
        self._continuous_usage = continuous_usage
        self._reasoning = reasoning_field
        self._reasoning_key = encode(reasoning_field)
        self._tool_ids = tool_ids
        self._open_choices = len(answer.choices)
        self._common = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % (
            encode(f"chatcmpl-{answer.id}"),
            answer.created,
            encode(answer.model),
        )
        self._heads = [b'%b{"index":%d,' % (self._common, choice.index) for choice in answer.choices]

    def preamble(self) -> bytes:
        """Return nothing: vLLM sends nothing before the first token."""
        return b""

    def opening(self) -> bytes:
        """Return one chunk for each choice, with the role only."""
        usage = self._usage(0)
        return b"".join(head + _OPENING % usage for head in self._heads)

    def delta(self, choice: Choice, channel: Channel, text: str) -> bytes:
        """Return one chunk."""
        return b'%b"delta":{%b%b%b}\n\n' % (
            self._heads[choice.index],
            self._field(choice, channel, text),
            _PLAIN_TAIL,
            self._usage(choice.sent),
        )

    def ending(self, choice: Choice, last: Piece | None) -> bytes:
        """Return the chunk with the finish reason."""
        self._open_choices -= 1
        final = not self._open_choices and not self._include_usage
        script = choice.script
        return b'%b"delta":{%b},"logprobs":null,"finish_reason":%b,"stop_reason":%b,"token_ids":null}]%b%b}\n\n' % (
            self._heads[choice.index],
            self._field(choice, *last) if last else b"",
            encode(script.finish),
            encode(script.stop_reason),
            self._usage(choice.sent),
            self._fingerprint() if final else b"",
        )

    def closing(self) -> bytes:
        """Return the usage chunk if the client asked for it, and the terminator."""
        if not self._include_usage:
            return DONE
        usage = encode(self._answer.usage())
        return b'%b],"usage":%b%b}\n\n%b' % (self._common, usage, self._fingerprint(), DONE)

    def whole(self) -> dict[str, Any]:
        """Return the `chat.completion` object."""
        answer = self._answer
        return {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion",
            "created": answer.created,
            "model": answer.model,
            "choices": [self._whole_choice(choice) for choice in answer.choices],
            "service_tier": None,
            "system_fingerprint": answer.fingerprint,
            "usage": answer.whole_usage(),
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def _whole_choice(self, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": choice.said(Channel.CONTENT),
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
        }
        if choice.calls_tool:
            message["content"] = None
            message["tool_calls"] = [
                {
                    "id": self._tool_ids[choice.index],
                    "type": "function",
                    "function": {
                        "name": choice.said(Channel.TOOL_NAME),
                        "arguments": choice.said(Channel.TOOL_ARGUMENTS),
                    },
                }
            ]
        message[self._reasoning] = choice.said(Channel.REASONING) or None
        return {
            "index": choice.index,
            "message": message,
            "logprobs": None,
            "finish_reason": choice.script.finish,
            "stop_reason": choice.script.stop_reason,
            "token_ids": None,
            "routed_experts": None,
        }

    def _field(self, choice: Choice, channel: Channel, text: str) -> bytes:
        match channel:
            case Channel.CONTENT:
                return b'"content":' + encode(text)
            case Channel.REASONING:
                return b"%b:%b" % (self._reasoning_key, encode(text))
            case Channel.TOOL_NAME:
                return b'"content":null,"tool_calls":[{"id":%b,"type":"function","index":0,"function":{"name":%b}}]' % (
                    encode(self._tool_ids[choice.index]),
                    encode(text),
                )
            case Channel.TOOL_ARGUMENTS:
                return b'"content":null,"tool_calls":[{"index":0,"function":{"arguments":%b}}]' % encode(text)

    def _usage(self, completion_tokens: int) -> bytes:
        if not self._continuous_usage:
            return b""
        prompt = self._answer.prompt_tokens
        return (
            b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"completion_tokens_details":null}'
            % (prompt, prompt + completion_tokens, completion_tokens)
        )

    def _fingerprint(self) -> bytes:
        return b',"system_fingerprint":' + encode(self._answer.fingerprint)
