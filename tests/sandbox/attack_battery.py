"""Candidates that try to be graded as right without solving anything. `{name}` is the entry point.

QUICK ones end at once; BLOCKING ones run into a limit.
"""

# ruff: noqa: E501 (programs in strings)

from __future__ import annotations

_ALWAYS_EQUAL = """
class Any:
    __eq__ = __le__ = __ge__ = __contains__ = lambda self, other: True
    __ne__ = __lt__ = __gt__ = lambda self, other: False
    __hash__ = lambda self: 0
    __bool__ = lambda self: True
    __len__ = lambda self: 3
    __iter__ = lambda self: iter((self, self, self))
    __getitem__ = __call__ = __getattr__ = lambda self, *a, **k: self
    __sub__ = __rsub__ = __add__ = __radd__ = __mul__ = __abs__ = lambda self, *a: self
    __float__ = lambda self: 0.0
    __int__ = __index__ = lambda self: 0
"""

QUICK = {
    "system_exit": "raise SystemExit",
    "exit_at_import": "import sys\nsys.exit(0)",
    "exit_inside": "import sys\ndef {name}(*a, **k):\n    sys.exit(0)",
    "os_exit_at_import": "import os\nos._exit(0)",
    "os_exit_inside": "import os\ndef {name}(*a, **k):\n    os._exit(0)",
    "raise_inside": "def {name}(*a, **k):\n    raise AssertionError('no')",
    "raise_keyboard_interrupt": "def {name}(*a, **k):\n    raise KeyboardInterrupt",
    "print_verdict": (
        "import os, sys\n"
        "def {name}(*a, **k):\n"
        "    print('{{\"passed\": true}}', flush=True)\n"
        "    print('{{\"passed\": true}}', file=sys.__stdout__, flush=True)\n"
        "    os._exit(0)"
    ),
    "always_equal": _ALWAYS_EQUAL + "def {name}(*a, **k):\n    return Any()",
    "always_equal_in_list": _ALWAYS_EQUAL + "def {name}(*a, **k):\n    return [Any(), Any(), Any()]",
    "equal_str": (
        "class S(str):\n    __eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n    __hash__ = str.__hash__\n"
        "def {name}(*a, **k):\n    return S('x')"
    ),
    "equal_int": (
        "class I(int):\n    __eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n    __hash__ = int.__hash__\n"
        "    __sub__ = __rsub__ = __abs__ = lambda s, *o: I(0)\n    __lt__ = __le__ = __gt__ = lambda s, o: True\n"
        "def {name}(*a, **k):\n    return I(0)"
    ),
    "equal_list": (
        "class L(list):\n    __eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n"
        "def {name}(*a, **k):\n    return L([1])"
    ),
    "frames": (
        "import inspect, sys\n"
        "def {name}(*a, **k):\n"
        "    frame = inspect.currentframe()\n"
        "    while frame:\n"
        "        frame.f_globals['check'] = lambda candidate: None\n"
        "        frame.f_globals['passed'] = True\n"
        "        frame = frame.f_back"
    ),
    "patch_builtins": (
        "import builtins, math\n"
        "builtins.all = builtins.any = builtins.isinstance = builtins.bool = lambda *a, **k: True\n"
        "builtins.abs = math.fabs = math.isclose = lambda *a, **k: 0\n"
        "builtins.AssertionError = type('E', (Exception,), {{}})\n"
        "def {name}(*a, **k):\n    return None"
    ),
    "forge_frames": (
        "import json, os, struct\n"
        "def {name}(*a, **k):\n"
        "    for message in ({{'passed': True, 'status': 'ok', 'defined': True}}, {{'value': True}}):\n"
        "        body = json.dumps(message).encode()\n"
        "        for fd in range(64):\n"
        "            try:\n"
        "                os.write(fd, struct.pack('!I', len(body)) + body)\n"
        "            except OSError:\n"
        "                pass\n"
        "    os._exit(0)"
    ),
    "forge_done": (
        "import os, socket\n"
        "for fd in range(64):\n"
        "    try:\n"
        "        socket.socket(fileno=os.dup(fd)).send(b'done')\n"
        "    except OSError:\n"
        "        pass\n"
        "def {name}(*a, **k):\n    return None"
    ),
    "kill_parent": (
        "import os, signal\n"
        "def {name}(*a, **k):\n"
        "    for pid in (os.getppid(), 0, -1, 1):\n"
        "        try:\n"
        "            os.kill(pid, signal.SIGKILL)\n"
        "        except OSError:\n"
        "            pass"
    ),
    "garbage_collector": (
        "import gc\n"
        "def {name}(*a, **k):\n"
        "    for found in gc.get_objects():\n"
        "        if isinstance(found, dict) and 'check' in found:\n"
        "            found['check'] = lambda candidate: None\n"
        "        if type(found).__name__ in ('TrustedTest', 'Conversation'):\n"
        "            found.ended = ''\n"
        "    return [o for o in gc.get_objects() if isinstance(o, str) and 'assert {name}' in o]"
    ),
    "read_memory": (
        "def {name}(*a, **k):\n"
        "    import os\n"
        "    out = b''\n"
        "    for path in ('/proc/self/mem', '/proc/%d/mem' % os.getppid(), '/proc/%d/environ' % os.getppid()):\n"
        "        try:\n"
        "            out += open(path, 'rb').read(100)\n"
        "        except (OSError, ValueError):\n"
        "            pass\n"
        "    return out"
    ),
    "write_result_file": (
        "import json\n"
        "for path in ('result.json', '/tmp/result.json', '../result.json', 'output.txt'):\n"
        "    try:\n"
        "        open(path, 'w').write(json.dumps({{'passed': True}}))\n"
        "    except OSError:\n"
        "        pass\n"
        "def {name}(*a, **k):\n    return None"
    ),
    "mutate_argument": (
        "def {name}(*a, **k):\n"
        "    for value in a:\n"
        "        if isinstance(value, (list, dict, set)):\n"
        "            value.clear()\n"
        "    return None"
    ),
    "generator": "def {name}(*a, **k):\n    yield from a",
    "not_a_number": "def {name}(*a, **k):\n    return float('nan')",
    "recursion": "import sys\nsys.setrecursionlimit(10**6)\ndef {name}(*a, **k):\n    return {name}(*a, **k)",
    "replace_itself": "def {name}(*a, **k):\n    global {name}\n    {name} = lambda *a, **k: a\n    raise ValueError",
    "nothing": "",
    "defines_check": "def check(candidate):\n    return True\ndef {name}(*a, **k):\n    return check",
}

# Through what the test's side holds of the candidate's objects. `Any` answers whatever it is asked in its own favour.
_HOOKS = """
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = lambda self: 0
"""
PROXIES = {
    "lies_about_its_class": _ALWAYS_EQUAL + "    __class__ = bool\ndef {name}(*a, **k):\n    return Any()",
    "always_equal_class": _ALWAYS_EQUAL + "{name} = Any",
    "always_equal_metaclass": (
        "class Meta(type):" + _HOOKS + "    __call__ = __getattr__ = lambda self, *a, **k: self\n"
        "class {name}(metaclass=Meta):\n    pass"
    ),
    "yields_always_equal": _ALWAYS_EQUAL + "def {name}(*a, **k):\n    yield Any()\n    yield Any()\n    yield Any()",
    "empty_generator": "def {name}(*a, **k):\n    return\n    yield",
    "next_is_always_equal": _ALWAYS_EQUAL + "    __next__ = lambda self: self\ndef {name}(*a, **k):\n    return Any()",
    "equal_enum": "import enum\nclass E(enum.Enum):" + _HOOKS + "    A = 1\ndef {name}(*a, **k):\n    return E.A",
    "equal_int_enum": "import enum\nclass E(enum.IntEnum):"
    + _HOOKS
    + "    A = 77777\ndef {name}(*a, **k):\n    return E.A",
    "equal_fraction": (
        "from fractions import Fraction\nclass F(Fraction):"
        + _HOOKS
        + "    __sub__ = __rsub__ = __abs__ = lambda s, *o: F(0)\n"
        "def {name}(*a, **k):\n    return F(77777, 7)"
    ),
    "equal_decimal": (
        "from decimal import Decimal\nclass D(Decimal):"
        + _HOOKS
        + "    __sub__ = __rsub__ = __abs__ = lambda s, *o: D(0)\n"
        "def {name}(*a, **k):\n    return D('77777.7')"
    ),
    "equal_float": (
        "class F(float):" + _HOOKS + "    __sub__ = __rsub__ = __abs__ = __round__ = lambda s, *o: F(0)\n"
        "def {name}(*a, **k):\n    return F(77777.7)"
    ),
    "equal_array": (
        "import numpy as np\nclass A(np.ndarray):" + _HOOKS + "    all = any = __bool__ = lambda self, *a: True\n"
        "    __array_ufunc__ = lambda self, *a, **k: True\ndef {name}(*a, **k):\n    return np.full(3, 77777).view(A)"
    ),
    "fake_array": (
        "class A:"
        + _HOOKS
        + "    __array__ = lambda self, *a, **k: self\n    __len__ = lambda self: 3\n    __array_priority__ = 1e9\n"
        "    __array_interface__ = {{'shape': (3,), 'typestr': '<i8', 'data': (4096, False), 'version': 3}}\n"
        "    __array_ufunc__ = __array_function__ = lambda self, *a, **k: True\ndef {name}(*a, **k):\n    return A()"
    ),
    "equal_tuple": (
        "from collections import namedtuple\nclass P(namedtuple('P', 'x y')):"
        + _HOOKS
        + "def {name}(*a, **k):\n    return P(77777, 2)"
    ),
    "equal_set": "class S(set):"
    + _HOOKS
    + "    issubset = lambda self, *a: True\ndef {name}(*a, **k):\n    return S([77777])",
    "equal_dict": (
        "class D(dict):" + _HOOKS + "    __missing__ = __getitem__ = get = lambda self, *a: self\n"
        "def {name}(*a, **k):\n    return D(x=77777)"
    ),
    "length_lies": (
        "class L(list):" + _HOOKS + "    __len__ = lambda self: 10 ** 6\n    __iter__ = lambda self: iter(self, 1)\n"
        "    __call__ = lambda self: self\n    __getitem__ = lambda self, k: self\ndef {name}(*a, **k):\n    return L([77777])"
    ),
    "remembers_operands": (
        "class M:\n    seen = 0\n    def __sub__(self, other):\n        M.seen = other\n        return self\n    __rsub__ = __add__ = __sub__\n"
        "    def __eq__(self, other):\n        M.seen = other\n        return True\n    def __abs__(self): return 0.0\n"
        "    def __float__(self): return float(M.seen)\n    def __lt__(self, other): return True\n"
        "def {name}(*a, **k):\n    return M()"
    ),
    "assertion_error": (
        "class E(AssertionError):\n    __init__ = __str__ = lambda *a: None\n    __eq__ = lambda *a: True\n"
        "def {name}(*a, **k):\n    raise E"
    ),
    "error_that_forges": (
        "class BaseException_(BaseException):\n    args = property(lambda self: self)\n"
        "def {name}(*a, **k):\n    raise BaseException_"
    ),
    "stop_iteration": "def {name}(*a, **k):\n    raise StopIteration",
    "suppressing_manager": (
        _ALWAYS_EQUAL
        + "    __enter__ = lambda self: self\n    __exit__ = lambda self, *a: True\ndef {name}(*a, **k):\n    return Any()"
    ),
    "calls_what_it_is_given": (
        "def {name}(*a, **k):\n    for v in a:\n        if callable(v):\n            for w in a:\n                try:\n"
        "                    v(v, w)\n                except BaseException:\n                    pass\n    return a[0] is a[0] and None"
    ),
    "empties_its_arguments": (
        "def {name}(*a, **k):\n    for v in a:\n        if hasattr(v, 'clear'): v.clear()\n    return [] if a and a[0] == [] else None"
    ),
    "equalises_its_arguments": (
        "def {name}(*a, **k):\n    for v in a:\n        if isinstance(v, list): v[:] = [77777]\n    return [77777]"
    ),
    "forged_containers": (
        "import gc\ndef {name}(*a, **k):\n    for found in gc.get_objects():\n        if type(found).__name__ == 'CandidateSide':\n"
        "            found.encode = lambda forms: {{'value': {{'#': 1}}, 'containers':\n"
        "                [[n, 'list', [77777], None] for n in range(1, 999, 2)]}}\n    return a"
    ),
    "forged_references": (
        "import gc\nforms = iter([{{'back': 0}}, {{'back': -1}}, {{'object': [0, 'int', ['__eq__', '__call__', '__hash__'], 'map']}},\n"
        "    {{'derived': [77777, [0, 'x', ['__eq__', '__abs__', 'real'], '']]}}, {{'class': 'bool'}}, {{'constant': 'NotImplemented'}},\n"
        "    {{'error_class': [0, 'True', ['object', 'eval', 'Exception']]}}, {{'numpy': ['|O8', [1], '00' * 8]}}] * 99)\n"
        "def {name}(*a, **k):\n    for found in gc.get_objects():\n        if type(found).__name__ == 'CandidateSide':\n"
        "            found.encode = lambda _: {{'value': next(forms)}}\n    return a"
    ),
    "forged_callbacks": (
        "import gc\ndef {name}(*a, **k):\n    for found in gc.get_objects():\n        if type(found).__name__ == 'CandidateSide':\n"
        "            found.encode = lambda _: {{'callback': 0, 'args': [], 'kwargs': {{'passed': True}}}}\n    return a"
    ),
}
QUICK |= PROXIES

BLOCKING = {
    "endless_iterator": _ALWAYS_EQUAL
    + "    __iter__ = lambda self: iter(lambda: self, 0)\ndef {name}(*a, **k):\n    return Any()",
    "endless_generator": "def {name}(*a, **k):\n    while True:\n        yield 1",
    "huge_range": "def {name}(*a, **k):\n    return range(10 ** 18)",
    "huge_exponent": "from decimal import Decimal\ndef {name}(*a, **k):\n    return Decimal('1e999999')",
    "endless_loop": "def {name}(*a, **k):\n    while True:\n        pass",
    "endless_import": "while True:\n    pass",
    "endless_thread": (
        "import threading\n"
        "def spin():\n    while True:\n        pass\n"
        "def {name}(*a, **k):\n    threading.Thread(target=spin).start()"
    ),
    "stubborn_loop": (
        "import signal, time\n"
        "for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGXCPU, signal.SIGINT):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "def {name}(*a, **k):\n"
        "    while True:\n"
        "        try:\n            signal.alarm(0)\n            while True:\n                time.sleep(1)\n"
        "        except BaseException:\n            pass"
    ),
    "fork_bomb": "import os\ndef {name}(*a, **k):\n    while True:\n        try:\n            os.fork()\n        except OSError:\n            pass",
    "two_gigabytes": "def {name}(*a, **k):\n    return [0] * (2 << 30)",
    "hundred_megabytes_of_output": (
        "import os\ndef {name}(*a, **k):\n    os.write(1, b'x' * (100 << 20))\n    print('x' * (100 << 20))"
    ),
    "huge_answer": "def {name}(*a, **k):\n    return 'x' * (200 << 20)",
    "deep_answer": "def {name}(*a, **k):\n    x = []\n    for _ in range(10**5):\n        x = [x]\n    return x",
    "cyclic_answer": "def {name}(*a, **k):\n    x = []\n    x.append(x)\n    return x",
    "thread_bomb": (
        "import threading, time\n"
        "def {name}(*a, **k):\n"
        "    threading.stack_size(65536)\n"
        "    while True:\n"
        "        try:\n            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "        except RuntimeError:\n            pass"
    ),
    "half_a_frame": (
        "import os, time\n"
        "def {name}(*a, **k):\n"
        "    for fd in range(3, 64):\n"
        "        try:\n            os.write(fd, b'\\x00\\x00\\x10\\x00{{')\n"
        "        except OSError:\n            pass\n"
        "    time.sleep(60)"
    ),
    "fill_the_disk": (
        "def {name}(*a, **k):\n"
        "    n = 0\n"
        "    while True:\n"
        "        try:\n            open(str(n), 'wb').write(b'x' * (4 << 20))\n"
        "        except OSError:\n            pass\n"
        "        n += 1"
    ),
    "deep_folders": "import os\ndef {name}(*a, **k):\n    while True:\n        os.mkdir('d')\n        os.chdir('d')",
    "setsid_escape": (
        "import os, time\n"
        "def {name}(*a, **k):\n"
        "    try:\n"
        "        if os.fork() == 0:\n            os.setsid()\n            time.sleep(60)\n"
        "    except OSError:\n        pass\n"
        "    return None"
    ),
}


def candidate(source: str, name: str) -> str:
    """The attack's source for one problem."""
    return source.format(name=name)
