"""POST /v1/completions as vLLM answers it."""

from typing import Any

from gateway.sim.answers import Answer, Choice, encode
from gateway.sim.chat import DONE
from gateway.sim.text import Channel, Piece


class CompletionDialect:
    """Text completions; `echo` holds, for each choice, the prompt to repeat in front of its text."""

    def __init__(self, answer: Answer, *, include_usage: bool, continuous_usage: bool, echo: list[str]) -> None:
        self._answer = answer
        self._include_usage = include_usage
        self._continuous_usage = continuous_usage
        self._echo = echo
        self._open_choices = len(answer.choices)
        self._common = b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,"choices":[' % (
            encode(f"cmpl-{answer.id}"),
            answer.created,
            encode(answer.model),
        )

    def preamble(self) -> bytes:
        """Return nothing: vLLM sends nothing before the first token."""
        return b""

    def opening(self) -> bytes:
        """Return the prompts if the request set `echo`."""
        return b"".join(
            self.delta(choice, Channel.CONTENT, self._echo[choice.index])
            for choice in self._answer.choices
            if self._echo[choice.index]
        )

    def delta(self, choice: Choice, channel: Channel, text: str) -> bytes:
        """Return one chunk."""
        return self._chunk(choice, text, b"null", b"null", b"")

    def ending(self, choice: Choice, last: Piece | None) -> bytes:
        """Return the chunk with the finish reason."""
        self._open_choices -= 1
        final = not self._open_choices and not self._include_usage
        script = choice.script
        text = last[1] if last else ""
        tail = self._fingerprint() if final else b""
        return self._chunk(choice, text, encode(script.finish), encode(script.stop_reason), tail)

    def closing(self) -> bytes:
        """Return the usage chunk if the client asked for it, and the terminator."""
        if not self._include_usage:
            return DONE
        usage = encode(self._answer.usage())
        return b'%b],"usage":%b%b}\n\n%b' % (self._common, usage, self._fingerprint(), DONE)

    def whole(self) -> dict[str, Any]:
        """Return the `text_completion` object."""
        answer = self._answer
        return {
            "id": f"cmpl-{answer.id}",
            "object": "text_completion",
            "created": answer.created,
            "model": answer.model,
            "choices": [
                {
                    "index": choice.index,
                    "text": self._echo[choice.index] + choice.said(Channel.CONTENT),
                    "logprobs": None,
                    "finish_reason": choice.script.finish,
                    "stop_reason": choice.script.stop_reason,
                    "token_ids": None,
                    "prompt_logprobs": None,
                    "prompt_token_ids": None,
                }
                for choice in answer.choices
            ],
            "service_tier": None,
            "system_fingerprint": answer.fingerprint,
            "usage": answer.whole_usage(),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
        }

    def _chunk(self, choice: Choice, text: str, finish: bytes, stop_reason: bytes, tail: bytes) -> bytes:
        return (
            b'%b{"index":%d,"text":%b,"logprobs":null,"finish_reason":%b,"stop_reason":%b,'
            b'"prompt_token_ids":null,"token_ids":null}]%b%b}\n\n'
            % (self._common, choice.index, encode(text), finish, stop_reason, self._usage(choice.sent), tail)
        )

    def _usage(self, completion_tokens: int) -> bytes:
        if not self._continuous_usage:
            return b""
        prompt = self._answer.prompt_tokens
        return b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
            prompt,
            prompt + completion_tokens,
            completion_tokens,
        )

    def _fingerprint(self) -> bytes:
        return b',"system_fingerprint":' + encode(self._answer.fingerprint)
