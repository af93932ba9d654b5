"""Who asks: one class for each way in which an OpenAI-shaped API is used."""

from collections.abc import Mapping
from typing import Any

import gevent
from gevent import GreenletExit
from locust import User, task

from loadtest.report.recording import OK
from loadtest.users.client import Answer
from loadtest.users.load import load_of
from loadtest.users.prompts import text
from loadtest.users.recorder import Call
from loadtest.users.streaming import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Dialect, chat_text

EMBEDDINGS = "/v1/embeddings"
_SESSION = "x-session-id"
_CLASS = "x-gateway-class"


class GatewayUser(User):
    """A user with a tenant's key and a class of service, who asks, waits for the answer, and thinks.

    Make your own with one: set `row`, the name of its rows, and call `ask` in a task.
    """

    abstract = True
    row = ""
    by_name = False
    """Whether it runs only where it is named on the command line."""

    def on_start(self) -> None:
        """Draw who this is."""
        self.load = load_of(self.environment)
        self.plan = self.load.plan
        self.number = self.load.number(type(self).__name__)
        self.rng = self.plan.chance(self.number)
        self.key = self.rng.choice(self.plan.keys)
        self.service_class = self.rng.choice(self.plan.classes)
        self.arrive()

    def arrive(self) -> None:
        """Wait for a part of a think time: users that start together would else ask in the same millisecond."""
        gevent.sleep(self.rng.random() * self.wait_time())

    def wait_time(self) -> float:
        """Draw the seconds until the next request."""
        return self.plan.think.draw(self.rng)

    def ask(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        dialect: Dialect | None = None,
        headers: Mapping[str, str] | None = None,
        due: float | None = None,
        keep: bool = False,
    ) -> Answer:
        """Ask, and note what came of it; `due` is when this should have been sent, if not now."""
        told = dict(headers or {})
        if self.key.secret:
            told["authorization"] = f"Bearer {self.key.secret}"
        if self.service_class:
            told[_CLASS] = self.service_class
        try:
            answer = self.load.client.ask(path, body, told, dialect=dialect, keep=keep)
        except GreenletExit:
            self.load.recorder.left += 1
            raise
        self.load.recorder.settle(Call(self.row, path, self.key.tenant, self.service_class, due), answer)
        return answer

    def streamed(self, **more: Any) -> dict[str, Any]:
        """Return a body that asks for a stream of exactly as many tokens as are drawn, and for their count."""
        lengths = {"max_tokens": self.plan.output.whole(self.rng), "ignore_eos": True}
        return {"model": self.plan.model, "stream": True, "stream_options": {"include_usage": True}, **lengths, **more}

    def prompt(self) -> str:
        """Draw a prompt."""
        return text(self.plan.prompt.whole(self.rng), self.rng)


class ChatUser(GatewayUser):
    """Asks one question after the other, each in a chat of its own."""

    row = "chat"
    weight = 6

    @task
    def chat(self) -> None:
        """Ask."""
        self.ask(CHAT.path, self.streamed(messages=[{"role": "user", "content": self.prompt()}]), dialect=CHAT)


class CompletionsUser(GatewayUser):
    """Has text continued."""

    row = "completions"
    weight = 1

    @task
    def complete(self) -> None:
        """Ask."""
        self.ask(COMPLETIONS.path, self.streamed(prompt=self.prompt()), dialect=COMPLETIONS)


class EmbeddingsUser(GatewayUser):
    """Has texts embedded, a few at once."""

    row = "embeddings"
    weight = 1

    @task
    def embed(self) -> None:
        """Ask."""
        inputs = [self.prompt() for _ in range(self.rng.randint(1, 4))]
        self.ask(EMBEDDINGS, {"model": self.plan.model, "input": inputs})


class SessionUser(GatewayUser):
    """Talks: each turn carries all turns before it, after a system prompt that every session of the run has.

    So an engine that kept the beginning of a prompt computes little of it again, if its gateway sends the session back.
    """

    row = "session"
    weight = 2
    _messages: list[dict[str, str]]

    def on_start(self) -> None:
        """Learn the system prompt."""
        super().on_start()
        self._system = text(self.plan.prefix_tokens, self.plan.chance("prefix"))
        self._conversations = 0
        self._turns = 0

    @task
    def turn(self) -> None:
        """Take the next turn, or start over after the last one, or when one failed."""
        if not self._turns:
            self._begin()
        self._turns -= 1
        self._messages.append({"role": "user", "content": self.prompt()})
        headers = {_SESSION: f"{self.number}-{self._conversations}"}
        answer = self.ask(CHAT.path, self.streamed(messages=self._messages), dialect=CHAT, headers=headers, keep=True)
        self._messages.append({"role": "assistant", "content": chat_text(answer.said)})
        if answer.outcome != OK:
            self._turns = 0

    def _begin(self) -> None:
        self._conversations += 1
        self._turns = self.plan.turns.whole(self.rng)
        self._messages = [{"role": "system", "content": self._system}]


class ResponsesUser(GatewayUser):
    """Asks through the Responses API."""

    row = "responses"
    by_name = True

    @task
    def respond(self) -> None:
        """Ask."""
        limit = {"max_output_tokens": self.plan.output.whole(self.rng)}
        self.ask(
            RESPONSES.path,
            {"model": self.plan.model, "input": self.prompt(), "stream": True, **limit},
            dialect=RESPONSES,
        )


class MessagesUser(GatewayUser):
    """Asks as Anthropic's clients do."""

    row = "messages"
    by_name = True

    @task
    def message(self) -> None:
        """Ask."""
        messages = [{"role": "user", "content": self.prompt()}]
        limit = {"max_tokens": self.plan.output.whole(self.rng)}
        self.ask(
            MESSAGES.path, {"model": self.plan.model, "messages": messages, "stream": True, **limit}, dialect=MESSAGES
        )
