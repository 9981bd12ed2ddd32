"""A process of its own that compares two answers as AFlow's scorer does; `pool` starts it and speaks to it.

It runs as a plain script, `python -I worker.py`, because sympy knows no bounds and the text that it is given was
written by a model: the process has a clean environment, limited memory and a CPU limit for every request.

The process imports sympy once and forks a child that answers; a child that has to be killed is replaced within
milliseconds. The child reads JSON lines and ends when the input ends, which is also what happens when the trainer is
killed; the parent ends with it.
"""

import contextlib
import json
import math
import os
import re
import resource
import time
from collections.abc import Iterable
from typing import Any

MEMORY_BYTES = 3 << 30
CPU_SECONDS = 4
_AFLOW_SAFE = re.compile(r"(?:sqrt|pi|[a-z]|\d|[\s+\-*/().])+")


def aflow(gold: str, answer: str) -> bool:
    """AFlow's symbolic comparison as it behaves without the antlr parser: sympy's own parser, then simplify.

    That parser evaluates Python, so anything beyond numbers, operators and one-letter names counts as unparsable.
    """
    import sympy
    from sympy.parsing.sympy_parser import parse_expr

    def parse(text: str) -> Any:  # sympy has no types
        return parse_expr(text) if _AFLOW_SAFE.fullmatch(text) else text

    left, right = parse(answer), parse(gold)
    with contextlib.suppress(Exception):
        if sympy.simplify(left - right) == 0:
            return True
    with contextlib.suppress(Exception):
        return math.isclose(float(sympy.N(left)), float(sympy.N(right)), abs_tol=1e-3)
    return False


def answer_requests() -> None:
    """One JSON line in, one out, until the input ends."""
    print(json.dumps({"ready": os.getpid()}), flush=True)
    with os.fdopen(os.dup(0), "rb", buffering=0) as requests:
        _answer_each(requests)


def _answer_each(requests: Iterable[bytes]) -> None:
    for line in requests:
        request = json.loads(line)
        # A stuck C loop holds the interpreter, so no Python timer would fire: the kernel ends the process instead.
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + CPU_SECONDS + 1, resource.RLIM_INFINITY))
        started = time.monotonic()
        try:
            equal = aflow(request["gold"], request["answer"])
        except (Exception, RecursionError, MemoryError):  # noqa: BLE001 - whatever a parser says of it, it is not equal
            equal = False
        print(json.dumps({"equal": equal, "seconds": time.monotonic() - started}), flush=True)


def main() -> None:
    """Limits first, then the slow imports, then the requests."""
    import logging

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    aflow("1/2", "2/4")
    while True:
        child = os.fork()
        if child == 0:
            answer_requests()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            return


if __name__ == "__main__":
    main()
