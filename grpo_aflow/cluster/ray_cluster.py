"""`cluster=ray`: engines, learner ranks and execution workers as processes that Ray places.

Ray is imported when the cluster is opened.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpo_aflow.cluster.needs import Node, described, missing, needed
from grpo_aflow.cluster.settings import RaySettings
from grpo_aflow.types import InfrastructureError, UserError

if TYPE_CHECKING:
    from grpo_aflow.cluster.placement import Cluster

START_MS = 120_000  # for Ray's own processes to come up on a machine that is busy; by itself it gives them 15 s
ANSWER_S = 10.0  # for a head node to take a connection
OBJECT_STORE_BYTES = 2 << 30  # of a Ray on this machine: an adapter of a 7B model, and the one before; taken when used


@dataclass(frozen=True, kw_only=True, slots=True)
class Ray(RaySettings):
    """The option."""

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Cluster]:
        """Start Ray here, or connect to the one at `address`; what was started is ended with the run."""
        with connected(self):
            from grpo_aflow.cluster.ray_placement import RayCluster

            cluster = RayCluster(self, say)
            try:
                yield cluster
            finally:
                await cluster.close()

    def look(self) -> str:
        """See `config.schema.ClusterConfig`."""
        with connected(self) as nodes:
            return f"needs {needed(self.needs)}; nodes: {described(nodes)}"


@contextmanager
def connected(settings: RaySettings) -> Iterator[list[Node]]:
    """Within the block this process is part of the cluster, whose nodes have room for what is needed."""
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            "cluster=ray needs Ray, which is not installed: in the project's folder, pip install -e '.[ray]'"
        )
    nodes = _connect(settings.address)
    try:
        if short := missing(settings.needs, nodes):
            raise UserError(
                f"cluster=ray: there is room for {short} only ({described(nodes)}); lower cluster.num_engines, "
                "cluster.num_ranks, cluster.num_workers or what each of them takes, or add nodes"
            )
        yield nodes
    finally:
        _disconnect()


def _connect(address: str | None) -> list[Node]:
    """Connect this process, and return the nodes that live."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own: dict[str, Any] = {}
    if address is not None and (reason := _unreachable(address)):  # Ray itself tries for minutes
        raise _no_ray_at(address, reason)
    if address is None:
        own = {
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_system_config": {"agent_register_timeout_ms": START_MS},
        }
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # Ray raises a bare one when its processes do not come up
        ray.shutdown()
        first = " ".join(str(error).split()) or type(error).__name__
        if "Version mismatch" in first:
            raise UserError(
                f"cluster=ray: {first}; install the same versions of Ray and Python here and on all nodes"
            ) from error
        if address is None:
            raise InfrastructureError(
                f"cluster=ray: Ray does not start here ({first}); its processes must come up within "
                f"{START_MS // 1000} s, so try again when the machine is less busy; its logs are in "
                "/tmp/ray/session_latest/logs"
            ) from error
        raise _no_ray_at(address, first) from error
    finally:  # Ray puts its own in their place, where it can: in the main thread
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return [
        Node(
            name=node["NodeManagerAddress"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def _unreachable(address: str) -> str:
    """Why no connection to a `host:port` comes about; "" where one does, and for an address that names no port."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return ""
    try:
        with socket.create_connection((host.rpartition("/")[2].strip("[]"), int(port)), timeout=ANSWER_S):
            return ""
    except (OSError, OverflowError) as error:
        return str(error)


def _no_ray_at(address: str, reason: str) -> UserError:
    return UserError(
        f"cluster=ray: no Ray answers at cluster.address={address} ({reason}); start one there (ray start --head), "
        "or give cluster.address=null for one on this machine"
    )


def _disconnect() -> None:
    """Leave the cluster; one that was started here ends."""
    import ray

    ray.shutdown()
