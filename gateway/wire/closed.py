"""What stands in for a parser once its connection is lost.

A connection and its parser hold each other, and what does so waits for the garbage collector, which seldom comes.
"""

from typing import Final

import httptools

REQUESTS: Final = httptools.HttpRequestParser(object())
ANSWERS: Final = httptools.HttpResponseParser(object())
