"""The attack battery: answers that fool other graders. Every one must fail: some tasks take it at the start of every
run (`quick`), all of them in `make selftest` (`checks`).

`ENTRY` in a code attack stands for the entry point. The blocking ones cost a time limit each, so the self-test of a
run leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping

from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.types import Task

_ALWAYS_EQUAL = """class Yes{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __gt__(self, other): return True
    def __hash__(self): return 0
    def __len__(self): return 1
    def __iter__(self): return iter([self])
    def __getitem__(self, key): return self
    def __round__(self, *places): return self
    def __sub__(self, other): return 0
    def __abs__(self): return 0
def ENTRY(*args, **kwargs): return Yes()
"""

QUICK_CODE_ATTACKS: Mapping[str, str] = {
    "system_exit": "raise SystemExit",
    "exit_at_import": "import sys\nsys.exit(0)",
    "exit_inside": "import sys\ndef ENTRY(*args, **kwargs): sys.exit(0)",
    "os_exit": "import os\nos._exit(0)",
    "os_exit_inside": "import os\ndef ENTRY(*args, **kwargs): os._exit(0)",
    "forged_verdict": "import os\nprint('{\"passed\": true}', flush=True)\nos._exit(0)",
    "forged_verdict_inside": (
        "import os\ndef ENTRY(*args, **kwargs):\n    print('{\"passed\": true}', flush=True)\n    os._exit(0)"
    ),
    "always_equal": _ALWAYS_EQUAL.format(base=""),
    "equal_str": _ALWAYS_EQUAL.format(base="(str)"),
    "equal_int": _ALWAYS_EQUAL.format(base="(int)"),
    "equal_list": _ALWAYS_EQUAL.format(base="(list)"),
    "patch_check": (
        "import inspect\ndef ENTRY(*args, **kwargs):\n    frame = inspect.currentframe()\n    while frame:\n"
        '        frame.f_globals["check"] = lambda *a: None\n        frame = frame.f_back\n'
    ),
    "patch_builtins": (
        "import builtins\nbuiltins.all = lambda *a: True\nbuiltins.isinstance = lambda *a: True\n"
        "builtins.abs = lambda *a: 0\ndef ENTRY(*args, **kwargs): return None"
    ),
    "write_every_fd": (
        "import os\ndef ENTRY(*args, **kwargs):\n    for fd in range(3, 64):\n        try: os.write(fd, "
        'b\'{"passed": true, "status": "ok"}\\n\' * 8)\n        except OSError: pass\n    return None'
    ),
    "write_result_file": (
        "for path in ('result.json', '/tmp/result.json'):\n    try: open(path, 'w').write('{\"passed\": true}')\n"
        "    except OSError: pass\ndef ENTRY(*args, **kwargs): return None"
    ),
    "read_memory": "open('/proc/self/mem', 'rb').read(1)\nopen('/proc/1/environ').read()",
    "recursion": "def ENTRY(*args, **kwargs): return ENTRY(*args, **kwargs)",
    "generator": "def ENTRY(*args, **kwargs):\n    yield from args",
    "find_tests": (
        "import gc\ndef ENTRY(*args, **kwargs):\n    for thing in gc.get_objects():\n"
        "        if callable(thing) and getattr(thing, '__name__', '') == 'check': return thing\n    return None"
    ),
    "mutate_input": (
        "def ENTRY(*args, **kwargs):\n    for value in args:\n        if hasattr(value, 'clear'): value.clear()\n"
    ),
    "lying_class": _ALWAYS_EQUAL.format(base="").replace("def ENTRY", "Yes.__class__ = bool\ndef ENTRY"),
    "always_equal_class": _ALWAYS_EQUAL.format(base="").partition("def ENTRY")[0]
    + "    def __init__(self, *args, **kwargs): pass\n    def __getattr__(self, name): return self\n"
    "    def __call__(self, *args, **kwargs): return self\nENTRY = Yes",
    "equal_float": _ALWAYS_EQUAL.format(base="(float)"),
    "equal_fraction": "from fractions import Fraction\n" + _ALWAYS_EQUAL.format(base="(Fraction)"),
    "equal_array": (
        "import numpy\n" + _ALWAYS_EQUAL.format(base="(numpy.ndarray)").replace("return Yes()", "return Yes((1,))")
    ),
    "equal_enum": (
        "import enum\nclass Yes(enum.IntEnum):\n    A = 77777\n    def __eq__(self, other): return True\n"
        "    def __ne__(self, other): return False\n    def __hash__(self): return 0\n"
        "def ENTRY(*args, **kwargs): return Yes.A"
    ),
    "yields_always_equal": _ALWAYS_EQUAL.format(base="").replace("return Yes()", "yield Yes()"),
    "remembers_operands": (
        "class Yes:\n    def __sub__(self, other):\n        Yes.seen = other\n        return self\n"
        "    __rsub__ = __sub__\n"
        "    def __abs__(self): return 0.0\n    def __float__(self): return float(Yes.seen)\n"
        "def ENTRY(*args, **kwargs): return Yes()"
    ),
    "assertion_error": (
        "class Error(AssertionError):\n    def __str__(self): return ''\ndef ENTRY(*args, **kwargs): raise Error"
    ),
    "forged_containers": (
        "import gc\ndef ENTRY(*args, **kwargs):\n    for found in gc.get_objects():\n"
        "        if type(found).__name__ == 'CandidateSide':\n"
        "            found.encode = lambda forms: {'value': {'#': 1}, "
        "'containers': [[n, 'list', [77777], None] for n in range(1, 999, 2)]}\n    return args"
    ),
    "no_function": "print('PASS')",
    "empty_body": "def ENTRY(*args, **kwargs): pass",
}

BLOCKING_CODE_ATTACKS: Mapping[str, str] = {
    "endless_loop": "def ENTRY(*args, **kwargs):\n    while True: pass",
    "endless_import": "while True: pass",
    "endless_generator": "def ENTRY(*args, **kwargs):\n    while True: yield 1",
    "endless_iterator": (
        "class Yes:\n    def __iter__(self): return self\n    def __next__(self): return 1\n"
        "    def __eq__(self, other): return True\ndef ENTRY(*args, **kwargs): return Yes()"
    ),
    "endless_thread": (
        "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()\n"
        "def ENTRY(*args, **kwargs): return None"
    ),
    "fork_bomb": "import os\nwhile True: os.fork()",
    "memory": "x = bytearray(8 << 30)\ny = [0] * (1 << 30)",
    "output": "import sys\nfor _ in range(100): sys.stdout.write('x' * 1_000_000)",
    "swallow_everything": (
        "import signal\nsignal.alarm(0)\nwhile True:\n    try:\n        while True: pass\n"
        "    except BaseException: pass"
    ),
    "kill_parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(0, signal.SIGKILL)",
}

# (dataset, gold, answer): wrong answers that a careless reader takes for the gold.
TEXT_ATTACKS: tuple[tuple[str, str, str], ...] = (
    ("gsm8k", "2", "18 (step 2 of 2)"),
    ("gsm8k", "4", "12/4"),
    ("gsm8k", "3", "1.5e3"),
    ("gsm8k", "1.2", "72 minutes (1.2 hours)"),
    ("gsm8k", "-5", "10-5"),
    ("gsm8k", "2024", "18 eggs were sold in 2024"),
    ("gsm8k", "12", "1,2"),
    ("gsm8k", "200", "199"),
    ("gsm8k", "200", "201"),
    ("gsm8k", "998", "999"),
    ("gsm8k", "72", ""),
    ("math", "0.001", "0.0005"),
    ("math", "12", "1,2"),
    ("math", "2", "2, -1"),
    ("math", r"\frac{1}{2}", r"\frac12, \frac34"),
    ("math", "2", "2 or 7"),
    ("math", "200", "201"),
    ("math", "3", "They painted the whole fence in 3 hours and went home for dinner"),
    ("math", r"3\text{ hours}", r"3\text{ minutes}"),
    ("math", r"8\!:\!32\text{ PM}", r"8\!:\!32\text{ AM}"),
    ("math", "[0,1)", "[0,1]"),
    ("math", r"\text{even}", r"\text{odd}"),
    ("math", "5", r"\boxed{}"),
    ("hotpotqa", "yes", "Yes, both are American"),
    ("hotpotqa", "no", "no no"),
    ("hotpotqa", "10", "1|2|3|10"),
    ("hotpotqa", "3", "3.0"),
    ("hotpotqa", "Paris", ""),
    ("squad2", "", "Paris"),
    ("squad2", "", "The answer is unknown to me but Paris"),
    ("squad2", "Paris", "unanswerable"),
    ("squad2", "Paris", "Paris London Rome Berlin"),
)


def code_attack(task: Task, source: str) -> str:
    """A code attack aimed at one task."""
    return source.replace("ENTRY", task.entry_point)


def text_task(dataset: str, gold: str) -> Task:
    """A task that only has a gold, for grading a text attack."""
    return Task(id=f"attack/{dataset}", dataset=dataset, domain=DATASETS[dataset].domain, problem="", answers=(gold,))
