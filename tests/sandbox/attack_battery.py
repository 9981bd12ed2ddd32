"""Candidates that try to be graded as right without solving anything. `{name}` is the entry point.

QUICK ones end at once and are tried on every problem; BLOCKING ones run into a limit and are tried on ten.
"""

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
        "        if type(found).__name__ in ('Test', 'Conversation'):\n"
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

BLOCKING = {
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
    "fork_bomb": "import os\ndef {name}(*a, **k):\n    while True:\n        try:\n            os.fork()\n        except OSError:\n            pass",  # noqa: E501
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
