"""A queueing model (SimPy) of the pipeline: engines, executor slots, learner ranks and the controller, step by step.

    python experiments/scaling/validate.py     against measured steps; writes validation.json
    python experiments/scaling/answers.py      what balances a 7B run, by this model; writes answers.json

An engine makes a token of every request under way in `sequence_s + requests * token_s` seconds, so that it is faster
in sum the more there are. Where engines and learner have the same cores, each of those at work gets its part of them.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import simpy

Process = Generator[simpy.Event, object, None]
Request = tuple[float, float]  # tokens: of the prompt as far as they are not cached, of the completion


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Of the stages; seconds and tokens."""

    sequence_s: float  # of a token of every request, however many there are
    token_s: float  # more for each request
    prefill: float = 0.0  # a token of the prompt, in tokens of a completion
    learned_s: float  # of a token that is learned from, on one rank
    publish_s: float  # optimizer step, adapter to all engines, check
    controller_s: float = 0.0  # of a rollout
    cores: float = math.inf  # that engines and learner have together
    engine_threads: int = 0
    learner_threads: int = 0
    beside: float = 1.0  # speed of each at work while others are, too: caches and memory have one bandwidth


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    staleness: int
    engines: int
    ranks: int
    slots: int  # executions at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    completion: float  # tokens
    latency_s: float = 0.0  # of an execution that is answered elsewhere
    waves: tuple[tuple[Request, ...], ...] = ()  # of calls that the policy's own engine answers; one after the other


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    prompt: float  # tokens, computed once
    rollouts: tuple[Rollout, ...]
    learned: float  # tokens; 0: no gradient


class Cores:
    """Processors that several servers have together: each at work gets an equal part, as far as its threads use it."""

    def __init__(self, number: float, beside: float = 1.0) -> None:
        self.number, self.beside = number, beside
        self.servers: list[Server] = []

    def speeds(self) -> dict[Server, float]:
        """Of each server at work: the part of its threads that runs. What one cannot use the others get."""
        left, speeds = self.number, dict[Server, float]()
        busy = sorted((server for server in self.servers if server.jobs), key=lambda server: server.threads)
        for others, server in zip(range(len(busy), 0, -1), busy, strict=True):
            part = min(server.threads, left / others)
            left -= part
            speeds[server] = part / server.threads if server.threads else 1.0
        beside = self.beside if len(busy) > 1 else 1.0
        return {server: beside * speed for server, speed in speeds.items()}

    def change(self, what: Callable[[], object]) -> None:
        """Let every server go on up to now at its old speed, do it, and go on from there at the new one."""
        for server in self.servers:
            server.advance()
        what()
        speeds = self.speeds()
        for server in self.servers:
            server.look_ahead(speeds.get(server, 0.0))


class Server:
    """Jobs that advance side by side, a unit of each in `unit_s(number of jobs)` seconds where the cores are free."""

    def __init__(self, env: simpy.Environment, cores: Cores, threads: int, unit_s: Callable[[int], float]) -> None:
        self.env, self.cores, self.threads, self.unit_s = env, cores, threads, unit_s
        self.jobs: list[tuple[float, int, simpy.Event]] = []  # by the clock at which each ends
        self.busy_s = 0.0
        self._clock, self._since, self._speed = 0.0, 0.0, 0.0  # units that a job has advanced
        self._numbers, self._looked = itertools.count(), 0
        cores.servers.append(self)

    def do(self, work: float) -> simpy.Event:
        """The event of `work` units being done."""
        done = self.env.event()
        self.cores.change(lambda: heapq.heappush(self.jobs, (self._clock + work, next(self._numbers), done)))
        return done

    def advance(self) -> None:
        passed = self.env.now - self._since
        self._clock += passed * self._speed
        self.busy_s += passed * bool(self.jobs)
        self._since = self.env.now

    def look_ahead(self, speed: float) -> None:
        """Go on at this speed and wake up when the next job ends, unless something changes before."""
        self._looked += 1
        self._speed = speed / self.unit_s(len(self.jobs)) if self.jobs else 0.0
        if not self.jobs:
            return
        looked = self._looked
        wait = self.env.timeout(max(0.0, self.jobs[0][0] - self._clock) / self._speed)
        wait.callbacks.append(lambda _: self._end(looked))  # type: ignore[union-attr]  # a new event has a list

    def _end(self, looked: int) -> None:
        if looked == self._looked:
            self.cores.change(self._finish)

    def _finish(self) -> None:
        ends = self.jobs[0][0]
        self._clock = max(self._clock, ends)  # by what rounding took
        while self.jobs and self.jobs[0][0] <= ends:
            heapq.heappop(self.jobs)[2].succeed()


class Run:
    """The run as processes of SimPy; `groups[step]` are a step's."""

    def __init__(self, costs: Costs, plan: Plan, groups: Sequence[Sequence[Group]]) -> None:
        self.costs, self.plan, self.groups = costs, plan, groups
        self.env = simpy.Environment()
        cores = Cores(costs.cores, costs.beside)
        self.engines = [
            Server(self.env, cores, costs.engine_threads, lambda n: costs.sequence_s + n * costs.token_s)
            for _ in range(plan.engines)
        ]
        self.learner = Server(self.env, cores, costs.learner_threads, lambda _: costs.learned_s)
        self.slots = simpy.Resource(self.env, plan.slots)
        self.ranks = simpy.Resource(self.env, plan.ranks)
        self.controller = simpy.Resource(self.env, 1)
        self.sampled_at: list[float] = [0.0] * len(groups)  # the last completion of a step
        self.ends: list[float] = []
        self.env.process(self._loop())
        self.env.run()

    def step_s(self) -> float:
        """Mean seconds of a step, without those in which the pipeline fills or empties."""
        first, last = self.plan.staleness + 1, len(self.groups) - self.plan.staleness
        return (self.ends[last - 1] - self.ends[first - 1]) / (last - first)

    def _loop(self) -> Process:
        launched: dict[int, list[tuple[Group, simpy.Process]]] = {}
        for step in range(len(self.groups)):
            for ahead in range(step, min(len(self.groups), step + self.plan.staleness + 1)):
                if ahead not in launched:
                    launched[ahead] = [
                        (group, self.env.process(self._group(ahead, i, group)))
                        for i, group in enumerate(self.groups[ahead])
                    ]
            learned = [self.env.process(self._learn(*pair)) for pair in launched.pop(step)]
            yield self.env.all_of(learned)
            yield self.env.timeout(self.costs.publish_s)
            self.ends.append(self.env.now)

    def _group(self, step: int, index: int, group: Group) -> Process:
        engine = self.engines[index % len(self.engines)]
        yield engine.do(group.prompt * self.costs.prefill)
        yield self.env.all_of([self.env.process(self._rollout(step, engine, rollout)) for rollout in group.rollouts])

    def _rollout(self, step: int, engine: Server, rollout: Rollout) -> Process:
        yield engine.do(rollout.completion)
        self.sampled_at[step] = self.env.now
        with self.controller.request() as turn:
            yield turn
            yield self.env.timeout(self.costs.controller_s)
        with self.slots.request() as slot:
            yield slot
            yield self.env.timeout(rollout.latency_s)
            for wave in rollout.waves:
                prefill = self.costs.prefill
                yield self.env.all_of([engine.do(prompt * prefill + completion) for prompt, completion in wave])

    def _learn(self, group: Group, ready: simpy.Process) -> Process:
        yield ready
        with self.ranks.request() as rank:
            yield rank
            if group.learned:
                yield self.learner.do(group.learned)


def drawn(
    number: int,
    groups: int,
    size: int,
    *,
    prompt: float,
    completion: float,
    learned: float,
    latency_s: float,
    seed: int,
) -> list[list[Group]]:
    """`number` steps of equal groups whose executions take lognormal seconds."""
    draw, sigma = random.Random(seed), 0.5

    def rollout() -> Rollout:
        return Rollout(completion=completion, latency_s=latency_s * draw.lognormvariate(-sigma * sigma / 2, sigma))

    return [
        [Group(prompt=prompt, rollouts=tuple(rollout() for _ in range(size)), learned=learned) for _ in range(groups)]
        for _ in range(number)
    ]
