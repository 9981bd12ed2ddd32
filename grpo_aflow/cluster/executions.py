"""Workflows run and graded by several workers, each with an interpreter and a sandbox of its own.

A worker does not call the executor: it asks for each call (`Asked`) and is given the answer, so that cache, ledger,
prices and caps stay in the one process that owns them. An execution whose worker dies is run again on another; what had
been asked by then is waited for and comes out of the cache, unpaid. `AskingChat` is the worker's side of a call,
`Workers` the run's. Knows nothing of Ray.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from grpo_aflow.protocols import ChatModel, Environment
from grpo_aflow.run.places import Places, Start
from grpo_aflow.run.timing import Timeline
from grpo_aflow.types import CallContext, ChatReply, Completion, Message, Rollout, Task, WorkerDied

MAX_EXECUTIONS = 1000  # of one worker at once

MakeEnvironment = Callable[[ChatModel], Environment]
OpenEnvironments = Callable[[], AbstractContextManager[MakeEnvironment]]
"""Opens what environments stand on (a sandbox); called where a worker is to be. Blocking."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One executor call of an execution."""

    number: int  # within the execution
    messages: tuple[Message, ...]
    context: CallContext
    temperature: float
    max_tokens: int


Answer = ChatReply | Exception
"""What came of a call; an exception ends the execution, and the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """What a worker is to run."""

    id: int
    task: Task
    completion: Completion
    step: int
    member: int


class Worker(Protocol):
    """A process that runs workflows. Both methods raise WorkerDied where it is gone."""

    def execute(self, assignment: Assignment) -> AsyncGenerator[Asked | Rollout, None]:
        """The calls of the execution as they are asked for, side by side where it makes several at once; at last its
        rollout."""
        ...

    async def answer(self, assignment: int, number: int, answer: Answer) -> None: ...

    async def close(self) -> None: ...


# --- the worker's side ------------------------------------------------------------------------------------------------


class AskingChat:
    """Implements `protocols.ChatModel` for one execution: `asked` are its calls, which `answer` lets go on."""

    paused_s = 0.0  # is not known here, and no workflow asks for it

    def __init__(self) -> None:
        self.asked: asyncio.Queue[Asked] = asyncio.Queue()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[ChatReply]] = {}

    async def chat(
        self, messages: Sequence[Message], *, context: CallContext, temperature: float, max_tokens: int
    ) -> ChatReply:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait(
            Asked(
                number=number,
                messages=tuple(messages),
                context=context,
                temperature=temperature,
                max_tokens=max_tokens,
            )
        )
        try:
            return await self._waiting[number]
        finally:
            del self._waiting[number]

    def answer(self, number: int, answer: Answer) -> None:
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():  # the execution no longer wants it
            return
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)


class Executing:
    """A worker's executions. `execute` and `answer` are those of `Worker`."""

    def __init__(self, make: MakeEnvironment) -> None:
        self._make = make
        self._chats: dict[int, AskingChat] = {}

    async def execute(self, assignment: Assignment) -> AsyncGenerator[Asked | Rollout, None]:
        with self._chat(assignment.id) as chat:
            work = asyncio.ensure_future(
                self._make(chat).rollout(
                    assignment.task, assignment.completion, step=assignment.step, member=assignment.member
                )
            )
            asking: asyncio.Task[Asked] | None = None
            try:
                while True:
                    asking = asyncio.ensure_future(chat.asked.get())
                    await asyncio.wait({work, asking}, return_when=asyncio.FIRST_COMPLETED)
                    if not asking.done():
                        yield work.result()
                        return
                    yield asking.result()
            finally:
                for task in (work, asking):
                    if task is not None:
                        task.cancel()

    def answer(self, assignment: int, number: int, answer: Answer) -> None:
        if assignment in self._chats:  # else it has ended
            self._chats[assignment].answer(number, answer)

    @contextmanager
    def _chat(self, assignment: int) -> Iterator[AskingChat]:
        self._chats[assignment] = AskingChat()
        try:
            yield self._chats[assignment]
        finally:
            del self._chats[assignment]


# --- the run's side ---------------------------------------------------------------------------------------------------


class Workers:
    """Implements `protocols.Environment` on several workers. Make one with `open`."""

    def __init__(self, workers: Places[Worker], chat: ChatModel, timeline: Timeline) -> None:
        self._workers = workers
        self._chat = chat
        self._timeline = timeline
        self._room: dict[int, asyncio.Semaphore] = {}  # by place
        self._ids = itertools.count()

    @classmethod
    async def open(
        cls, number: int, start: Start[Worker], say: Callable[[str], None], *, chat: ChatModel, timeline: Timeline
    ) -> Workers:
        """Start all workers; where one does not start, none stays."""
        lost = "its executions are run again elsewhere"
        return cls(await Places.open("execution worker", lost, number, start, say), chat, timeline)

    async def rollout(self, task: Task, completion: Completion, *, step: int, member: int) -> Rollout:
        while True:
            place, worker = await self._workers.chosen()
            assignment = Assignment(id=next(self._ids), task=task, completion=completion, step=step, member=member)
            place.load += 1
            try:
                async with self._room.setdefault(place.number, asyncio.Semaphore(MAX_EXECUTIONS)):
                    with self._timeline.busy("executor"):
                        rollout = await self._run(worker, assignment)
                return replace(rollout, task=task, completion=completion)  # not a copy of them
            except WorkerDied as error:
                self._workers.died(place, worker, error)
            finally:
                place.load -= 1

    async def close(self) -> None:
        await self._workers.close()

    async def _run(self, worker: Worker, assignment: Assignment) -> Rollout:
        calls: list[asyncio.Task[None]] = []
        try:
            async with aclosing(worker.execute(assignment)) as stream:
                async for said in stream:
                    if isinstance(said, Rollout):
                        return said
                    calls.append(asyncio.create_task(self._call(worker, assignment.id, said)))
            raise WorkerDied("an execution ended without a rollout")
        except WorkerDied:
            await asyncio.gather(*calls)  # what is under way is paid already: kept, the next try finds it in the cache
            raise
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def _call(self, worker: Worker, assignment: int, asked: Asked) -> None:
        answer: Answer
        try:
            answer = await self._chat.chat(
                asked.messages, context=asked.context, temperature=asked.temperature, max_tokens=asked.max_tokens
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised by the execution that has asked
            answer = error
        with suppress(WorkerDied):  # then the stream of the execution ends with it
            await worker.answer(assignment, asked.number, answer)
