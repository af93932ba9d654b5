"""What signals mean before anything is there that could handle them."""

import os
import signal
from collections.abc import Sequence
from types import FrameType

NOT_THE_END = (
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGQUIT,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGIO,
    signal.SIGPWR,
)
"""Signals that end a process by default, and are not meant to end a gateway."""
_STOP = (signal.SIGTERM, signal.SIGINT)


def early(command: Sequence[str]) -> None:
    """Prepare the commands that run until they are told to stop for signals that come while they start.

    A request to stop is followed at once, with the status that it has later. For the gateway the others wait until it
    has started: SIGHUP is a reload then.
    """
    if not {"serve", "sim", "demo"}.intersection(command):
        return
    is_gateway = "serve" in command
    for number in _STOP if is_gateway else requests_to_stop():
        signal.signal(number, _end)
    if is_gateway:
        hold()
        return
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def requests_to_stop() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a command in a terminal to stop: not SIGHUP where it is ignored, as under nohup."""
    return _STOP if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*_STOP, signal.SIGHUP)


def hold() -> None:
    """Let signals that do not mean to end the process wait until `release`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, NOT_THE_END)


def release() -> None:
    """Take the signals that wait, and those to come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_THE_END)


def hold_all() -> None:
    """Let requests to stop wait too, until `release_all`, which may come in the next program in this process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*NOT_THE_END, *_STOP))


def release_all() -> None:
    """Take requests to stop too, which a program before this one in the same process has held."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*NOT_THE_END, *_STOP))


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)  # nothing has been begun that would have to be ended
