"""What a fork server may read, and the command that starts it: its confinement, of one form per backend.

The list of readable paths is closed: the interpreter, the standard library without its site-packages, the system's
shared libraries, the importable packages and the folder `inside`. The rest of this project, and with it any bundled
gold or test, is not on it; the server finds its own modules and the packages by links in a folder made for it.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from grpo_aflow.sandbox.launcher import LaunchOrders

INSIDE = Path(__file__).resolve().with_name("inside")  # the modules that the server runs
SERVER_PACKAGE = "sandbox_inside"  # their name in there
_SYSTEM = (
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/dev/null",
)
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")


def interpreter() -> str:
    """The real interpreter behind a virtual environment's link."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def package_folders(names: Iterable[str]) -> dict[str, Path]:
    """Where each importable package lies, with the folder of its bundled libraries. Raises ValueError."""
    folders = {}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"packages: {name} is not an installed package; install it or take it off the list")
        folder = Path(next(iter(spec.submodule_search_locations))).resolve()
        folders[name] = folder
        libraries = folder.with_name(f"{folder.name}.libs")
        if libraries.is_dir():
            folders[libraries.name] = libraries
    return folders


def standard_library() -> dict[str, str]:
    """Entries of the standard library by name, without anything installed beside it."""
    excluded = {"site-packages", "dist-packages", "test", "idlelib"}
    folder = sysconfig.get_path("stdlib")
    return {entry.name: entry.path for entry in os.scandir(folder) if entry.name not in excluded}


def make_site(folder: Path, packages: dict[str, Path]) -> None:
    """Fill the folder that is the server's Python home: links to the standard library, the packages, these modules.

    A rule for a folder holds for all below it, so the real folder, which may hold site-packages, cannot be given; and
    an import needs a folder that it may list.
    """
    library = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    library.mkdir(parents=True)
    for name, path in standard_library().items():
        (library / name).symlink_to(path)
    for name, target in packages.items():
        (library / name).symlink_to(target)
    (library / SERVER_PACKAGE).symlink_to(INSIDE)


def readable_paths(packages: dict[str, Path]) -> list[str]:
    """Every path that the server may read besides its own folders."""
    paths = [interpreter(), f"{sys.prefix}/pyvenv.cfg", *_SYSTEM, str(INSIDE)]
    paths += standard_library().values()
    for folder in (*_LIBRARY_FOLDERS, f"{sys.base_prefix}/lib"):
        paths += glob.glob(f"{folder}/*-linux-gnu*") + glob.glob(f"{folder}/*.so*")
    paths += [str(path) for path in packages.values()]
    return sorted({path for path in paths if os.path.exists(path)})


def environment(work: Path, site: Path) -> dict[str, str]:
    """The server's whole environment: nothing of the host's."""
    single = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(work),
        "PYTHONHOME": str(site),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # the same program prints its sets in the same order on every server
        "PYTHONDONTWRITEBYTECODE": "1",
        # glibc would reserve 64 MB of address space for each thread. A few threads would use up the memory limit, and
        # Thread.start of Python 3.11 waits for ever for a thread that got no memory for its first steps.
        "MALLOC_ARENA_MAX": "1",
        **single,
    }


def server_command(settings_json: str) -> list[str]:
    """The fork server's command line.

    These switches are `-I` without its `-E`: the environment is ours entirely, and the Python home
    and the hash seed travel in it.
    """
    boot = f"from {SERVER_PACKAGE}.fork_server import main; main()"
    return [interpreter(), "-s", "-P", "-S", "-c", boot, settings_json]


def bubblewrap_command(program: str, orders: LaunchOrders, work: Path, disk_bytes: int) -> list[str]:
    """Wrap the server's command: new namespaces, read-only binds of the closed list, a memory-backed work folder."""
    arguments = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    for name, value in orders.env.items():
        arguments += ["--setenv", name, value]
    for path in orders.readable:
        if not path.startswith("/dev/"):
            arguments += ["--ro-bind", path, path]
    arguments += ["--dev", "/dev", "--size", str(4 * disk_bytes), "--tmpfs", str(work)]
    return [*arguments, "--chdir", str(work), "--", *orders.command]
