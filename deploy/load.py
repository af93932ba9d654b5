"""Keep a few streams going at a gateway: `python load.py URL MODEL [REQUESTS]`; without a number, for ever."""

import itertools
import json
import random
import sys
import threading
import time
import urllib.request
from http.client import HTTPException

STREAMS = 4


def main(url: str, model: str, requests: int = 0) -> None:
    """Send so many requests, or for ever; what fails is told and not sent again."""
    numbers = iter(range(requests)) if requests else itertools.count()
    threads = [threading.Thread(target=stream, args=(url, model, numbers)) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stream(url: str, model: str, numbers: "itertools.count[int]") -> None:
    """Send one request after the other, with pauses."""
    for number in numbers:
        prompt = f"Request {number}. " + "Tell me about tides. " * random.randint(1, 40)
        body = {"model": model, "stream": True, "max_tokens": random.randint(8, 64)}
        body["messages"] = [{"role": "user", "content": prompt}]
        data, head = json.dumps(body).encode(), {"content-type": "application/json"}
        try:
            with urllib.request.urlopen(urllib.request.Request(url + "/v1/chat/completions", data, head)) as answer:
                for _ in answer:
                    pass
        except (OSError, HTTPException) as error:
            print(error, file=sys.stderr, flush=True)
            time.sleep(1.0)
        time.sleep(random.expovariate(4.0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
