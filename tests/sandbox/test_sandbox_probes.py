"""What generated code must not be able to do. Each probe tries it for real, and is a failure when it cannot try."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandbox_cases import footprint

from grpo_aflow.sandbox.pool import SandboxPool
from grpo_aflow.types import CodeStatus

pytestmark = pytest.mark.slow


def attempt(runner: SandboxPool, body: str, timeout_s: float = 10.0) -> str:
    """Run `body` inside a function; "done" when it went through, else the name of what it raised."""
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    source = f"""
def solve():
    try:
{lines}
    except BaseException as error:
        return type(error).__name__
    return 'done'
"""
    result = runner.run(source, call="solve", timeout_s=timeout_s)
    assert result.status is CodeStatus.OK, result
    return result.value


def test_the_probe_itself_can_succeed(runner: SandboxPool) -> None:
    assert attempt(runner, "open('own', 'w').write('x')\nassert open('own').read() == 'x'") == "done"
    assert attempt(runner, "import threading\nt = threading.Thread(target=print)\nt.start(); t.join()") == "done"
    assert attempt(runner, "import tempfile\ntempfile.TemporaryFile().write(b'x')") == "done"


@pytest.mark.parametrize(
    "body",
    [
        "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 53))",
        "import socket\nsocket.socket(socket.AF_UNIX).connect('/run/x')",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1', timeout=1)",
    ],
)
def test_network_is_denied(runner: SandboxPool, body: str) -> None:
    assert attempt(runner, body) in ("PermissionError", "URLError")


def test_reading_is_denied(runner: SandboxPool, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    own_sources = Path(__file__).parents[2] / "grpo_aflow"
    for path in (secret, "/etc/passwd", "/etc/shadow", Path(__file__), own_sources / "types.py"):
        assert attempt(runner, f"open({str(path)!r}).read()") == "PermissionError", path
    for folder in (Path.home(), tmp_path, "/tmp", "/proc", "/root", own_sources, own_sources / "tasks"):
        if Path(folder).is_dir():
            assert attempt(runner, f"import os\nos.listdir({str(folder)!r})") == "PermissionError", folder


def test_environments_are_out_of_reach(runner: SandboxPool) -> None:
    for pid in ("1", "self", str(os.getpid())):
        body = f"open('/proc/{pid}/environ').read()"
        assert attempt(runner, body) in ("PermissionError", "FileNotFoundError"), pid
    body = "import os\nopen(f'/proc/{os.getppid()}/environ').read()"
    assert attempt(runner, body) in ("PermissionError", "FileNotFoundError")
    body = "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb').read()"
    assert attempt(runner, body) in ("PermissionError", "FileNotFoundError")


def test_environment_is_clean(runner: SandboxPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")  # the servers were started without it in any case
    result = runner.run("import os\nprint(*os.environ)")
    assert result.status is CodeStatus.OK
    assert "OPENAI_API_KEY" not in result.stdout
    allowed = {"HOME", "PATH", "LANG", "TMPDIR", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE"}
    names = set(result.stdout.splitlines()[-1].split())
    assert {name for name in names if not name.endswith("_NUM_THREADS")} <= allowed | {"MALLOC_ARENA_MAX"}


def test_writing_is_denied(runner: SandboxPool, tmp_path: Path) -> None:
    for path in (
        tmp_path / "x",
        "/tmp/x",
        "/etc/x",
        "/dev/shm/x",
        "../x",
        Path.home() / "x",
        "/proc/self/oom_score_adj",
    ):
        assert attempt(runner, f"open({str(path)!r}, 'w').write('1')") in ("PermissionError", "FileNotFoundError"), path
    assert list(tmp_path.iterdir()) == []
    source = Path(__file__).parents[2] / "grpo_aflow" / "sandbox" / "inside" / "child.py"
    assert attempt(runner, f"open({str(source)!r}, 'a')") == "PermissionError"
    assert attempt(runner, f"import os\nos.unlink({str(source)!r})") == "PermissionError"


@pytest.mark.parametrize(
    "body",
    [
        "import os\nos.execv('/bin/true', ['true'])",
        "import subprocess\nsubprocess.run(['/bin/true'])",
        "import os\nassert os.system('true') == 0",
        "import os\nos.fork()",
        "import os\nos.posix_spawn('/bin/true', ['true'], {})",
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
        "import ctypes\nassert ctypes.CDLL(None).fork() >= 0",
        "import ctypes\nassert ctypes.CDLL(None).vfork() >= 0",
        "import os\nos.setsid()",
        "import os\nos.setpgid(0, 0)",
        "import os\nos.memfd_create('x')",
        "import os\nos.mkfifo('x')",
        "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_AS, (1, 1))",
        "import os\nos.sched_setaffinity(0, {0})",
        "import os\nos.chroot('.')",
        "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "import ctypes, os\nassert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0",
        "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
        "import ctypes\nassert ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0",
        "import ctypes\nassert ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0",
    ],
)
def test_system_call_is_denied(runner: SandboxPool, body: str) -> None:
    assert attempt(runner, body) in ("PermissionError", "OSError", "AssertionError", "ModuleNotFoundError")


def test_limits_cannot_be_changed(runner: SandboxPool) -> None:
    body = "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))"
    assert attempt(runner, body) == "ValueError"  # what Python makes of EPERM here
    assert attempt(runner, "import resource\nassert resource.getrlimit(resource.RLIMIT_CPU)[0] == 121") == "done"


def test_signals_reach_nobody_else(runner: SandboxPool) -> None:
    for pid in ("os.getppid()", str(os.getpid()), "1", "0", "-1"):
        for number in (0, 9):
            assert attempt(runner, f"import os\nos.kill({pid}, {number})") == "PermissionError", (pid, number)
    assert attempt(runner, "import os, signal\nsignal.signal(10, print)\nos.kill(os.getpid(), 10)") == "done"


def test_two_gigabytes_are_refused(runner: SandboxPool) -> None:
    assert runner.run("x = bytearray(2 << 30)").status is CodeStatus.LIMIT
    assert attempt(runner, "x = bytearray(2 << 30)") == "MemoryError"
    grow = "x = []\nwhile True:\n    x.append(bytearray(1 << 20))"
    assert runner.run(grow).status is CodeStatus.LIMIT
    assert attempt(runner, "import mmap\nmmap.mmap(-1, 2 << 30)") in ("OSError", "MemoryError")


def test_fork_bomb_makes_no_process(runner: SandboxPool) -> None:
    runner.run("1")
    before = footprint(runner)
    result = runner.run("import os\nwhile True:\n    os.fork()", timeout_s=2.0)
    assert result.status in (CodeStatus.ERROR, CodeStatus.LIMIT)
    assert "PermissionError" in result.error
    assert footprint(runner) == before


@pytest.mark.parametrize("stack_bytes", [0, 65536], ids=["usual_stacks", "small_stacks"])
def test_thread_bomb_is_ended(runner: SandboxPool, stack_bytes: int) -> None:
    """By the limit on threads, or on the memory of their stacks, long before its time is over."""
    bomb = (
        f"import threading, time\nthreading.stack_size({stack_bytes})\n"
        "while True:\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    assert runner.run(bomb, timeout_s=20.0).status is CodeStatus.LIMIT


def test_threads_within_the_limit_run(runner: SandboxPool) -> None:
    source = (
        "import threading, time\n"
        "def solve():\n    threads = [threading.Thread(target=time.sleep, args=(0.5,)) for _ in range(40)]\n"
        "    for thread in threads: thread.start()\n"
        "    for thread in threads: thread.join()\n"
        "    return len(threads)"
    )
    assert runner.run(source, call="solve").value == "40"


def test_output_is_capped(runner: SandboxPool) -> None:
    for code in ("print('x' * (100 << 20))", "for _ in range(10**6):\n    print('x' * 100)"):
        result = runner.run(code)
        assert result.status is CodeStatus.LIMIT
        assert len(result.stdout) <= 1 << 20
    assert runner.run("def solve(): return 'x' * (100 << 20)", call="solve").status is CodeStatus.LIMIT
    raw = runner.run(
        "import os\nfor _ in range(100):\n    os.write(1, b'x' * (1 << 20))\n    os.write(2, b'x' * (1 << 20))"
    )
    assert (raw.status, raw.stdout) == (CodeStatus.OK, "")
    channel = runner.run("import os\nos.write(4, b'x' * (100 << 20))", timeout_s=0.5)
    assert channel.status is not CodeStatus.OK or len(channel.value + channel.stdout) <= 1 << 20


def test_files_are_capped(runner: SandboxPool) -> None:
    assert runner.run("open('x', 'wb').write(b'x' * (64 << 20))").status is CodeStatus.LIMIT
    many = "n = 0\nwhile True:\n    open(str(n), 'wb').write(b'x' * (1 << 20))\n    n += 1"
    assert runner.run(many, timeout_s=5.0).status is CodeStatus.LIMIT
    assert runner.run("kept = [open(str(n), 'w') for n in range(1000)]").status is CodeStatus.LIMIT
    deep = "import os\nfor _ in range(900):\n    os.mkdir('d')\n    os.chdir('d')\nos.chmod('.', 0)"
    assert runner.run(deep, timeout_s=5.0).status is CodeStatus.OK
    assert runner.run("import os\nprint(os.listdir('.'))").stdout == "[]\n"


def test_exit_without_a_result_is_no_success(runner: SandboxPool) -> None:
    for code in ("import os\nos._exit(0)", "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)"):
        result = runner.run(code + "\ndef solve(): return 1", call="solve")
        assert result.status is CodeStatus.ERROR
        assert result.value == ""


def test_endless_loops_end_at_the_deadline(runner: SandboxPool) -> None:
    loops = (
        "while True: pass",
        "import threading, time\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\ntime.sleep(60)",
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass",  # noqa: E501
        "import time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass",
    )
    for code in loops:
        assert runner.run(code, timeout_s=0.3).status is CodeStatus.TIMEOUT


def test_calls_share_nothing(runner: SandboxPool) -> None:
    assert runner.run(
        "import builtins, math, os\nbuiltins.left = 1\nmath.left = 1\nopen('left', 'w').write('1')"
    ).status
    code = "import builtins, math, os\nprint(hasattr(builtins, 'left'), hasattr(math, 'left'), os.listdir('.'))"
    assert runner.run(code).stdout == "False False []\n"
