"""What the test holds of objects that stayed with the candidate.

A proxy offers what its object claims to offer (`special_methods`): it asks the candidate and hands on the answer,
which by then is a value of the test's own process or another proxy. It never lets the candidate answer a comparison: a
proxy equals itself and nothing else, whatever `__eq__`, `__hash__` or `__contains__` the candidate's class defines; and
an operator whose other operand comes from the test is not asked, because `abs(f(x) - 2.5) < 1e-6` would tell the
candidate what to answer. So two objects of the candidate with an `__eq__` of their own are unequal here; in one process
they may be equal, and so may an object that equals everything. An instance of a subclass of a built-in type (a
namedtuple, an IntEnum) *is* a value of that type here, compared by the type's own methods; only its further attributes
are asked for.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, NoReturn, Protocol, TypeVar

from . import special_methods
from .values import Form
from .wire import WireError

T = TypeVar("T")

Target = int | str  # an object by the candidate's index, or a global of its module by name


class Asker(Protocol):
    """The conversation with the candidate."""

    def ask(self, do: str, target: Target, name: str = "", *args: object, **kwargs: object) -> Any:
        """Have one thing done. Returns any value at all; raises what the candidate raised, or CandidateEnded."""
        ...


class StandIn(Protocol):
    """What knows which object of the candidate it stands for: a Proxy, or a value of a derived class."""

    _asker: Asker
    _target: Target


class Proxy:
    """An object of the candidate. Its classes are made by `proxy_of`, one for each set of claims."""

    __slots__ = ("__weakref__", "_asker", "_target")
    _asker: Asker
    _target: Target

    def __init__(self, asker: Asker, target: Target) -> None:
        object.__setattr__(self, "_asker", asker)
        object.__setattr__(self, "_target", target)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and self._target == other._target

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._target)

    def __getattr__(self, name: str) -> Any:
        return ask_attribute(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._asker.ask("set", self._target, name, value)

    def __delattr__(self, name: str) -> None:
        self._asker.ask("delete", self._target, name)

    def __contains__(self, item: object) -> bool:
        return any(item is found or item == found for found in iter(self))

    def __instancecheck__(self, instance: object) -> bool:
        target = target_of(instance)
        return target is not None and self._asker.ask("isinstance", target, "", self) is True

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an object of the candidate cannot be copied")


def ask_attribute(holder: StandIn, name: str) -> Any:
    """An attribute that the test's side has not got itself."""
    if name.startswith("__") and name.endswith("__") and name not in special_methods.ATTRIBUTES:
        raise AttributeError(name)
    return holder._asker.ask("get", holder._target, name)


def target_of(value: Any) -> Target | None:
    """Which object of the candidate `value` stands for, if it does."""
    kind = type(value)
    return value._target if issubclass(kind, Proxy) or _STANDS_FOR in vars(kind) else None


def _unary(name: str) -> Callable[[StandIn], object]:
    return lambda self: self._asker.ask("special", self._target, name)


def _with_arguments(name: str) -> Callable[..., object]:
    return lambda self, *args: self._asker.ask("special", self._target, name, *args)


def _exit(self: StandIn, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
    value = self._asker.ask("special", self._target, "__exit__", kind, error, None)
    return _may_suppress(error) and bool(value)


async def _async_exit(self: StandIn, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
    value = await self._asker.ask("special", self._target, "__aexit__", kind, error, None)
    return _may_suppress(error) and bool(value)


def _may_suppress(error: BaseException | None) -> bool:
    """A context manager of the candidate may swallow what the test raised itself; never a failed assertion, nor what
    the candidate raised or a proxy refused in the middle of one."""
    by_the_candidate = getattr(error, "__notes__", None)
    return isinstance(error, Exception) and not (
        by_the_candidate or isinstance(error, (AssertionError, TypeError, AttributeError))
    )


def _binary(name: str) -> Callable[[StandIn, object], object]:
    def method(self: StandIn, other: object) -> object:
        if not isinstance(other, Proxy):
            return NotImplemented
        return self._asker.ask("special", self._target, name, other)

    return method


def _call(self: StandIn, /, *args: object, **kwargs: object) -> object:
    return self._asker.ask("call", self._target, "", *args, **kwargs)


def _await(self: StandIn) -> Generator[None, None, object]:
    return self._asker.ask("await", self._target)
    yield  # makes this a generator, as `await` wants one; it awaits nothing on this side


def _method(name: str) -> Callable[..., object]:
    return lambda self, *args, **kwargs: self._asker.ask("call", self._target, name, *args, **kwargs)


_METHODS: dict[str, Callable[..., object]] = {
    "__call__": _call,
    "__await__": _await,
    "__exit__": _exit,
    "__aexit__": _async_exit,
    **{name: _unary(name) for name in special_methods.UNARY},
    **{name: _with_arguments(name) for name in special_methods.WITH_ARGUMENTS},
    **{name: _binary(name) for name in special_methods.BINARY},
}
# A value of a built-in type keeps that type's own truth, arithmetic and order.
_OF_THE_TYPE = {*special_methods.BINARY, "__bool__", "__abs__", "__neg__", "__pos__", "__invert__"}
_DERIVED_METHODS = _METHODS.keys() - _OF_THE_TYPE
# Methods of built-in types that compare: the type's own decide, whatever a subclass makes of them.
_PREDICATES = frozenset(
    ("issubset", "issuperset", "isdisjoint", "startswith", "endswith", "count", "index", "find", "rfind", "rindex")
)
_STANDS_FOR = "_stands_for_an_object_of_the_candidate"  # marks the classes that `derived_class` made


@functools.lru_cache(maxsize=1000)
def _proxy_class(name: str, claims: frozenset[str]) -> type[Proxy]:
    methods = {claim: _METHODS[claim] for claim in claims if claim in _METHODS}
    return type(name, (Proxy,), {"__slots__": (), "__module__": "solution", **methods})


@functools.lru_cache(maxsize=1000)
def derived_class(base: type, name: str, claims: frozenset[str]) -> Any:
    """A subclass of a built-in type whose values know the candidate's object."""
    methods = {claim: _METHODS[claim] for claim in claims & _DERIVED_METHODS}
    methods |= {claim: _method(claim) for claim in claims if not claim.startswith("__") and claim not in _PREDICATES}
    own = {"__getattr__": ask_attribute, "__setattr__": Proxy.__setattr__, "__module__": "solution", _STANDS_FOR: True}
    return type(name, (base,), {**own, **methods})


def read_reference(body: Form) -> tuple[int, str, frozenset[str], str]:
    """The parts of a reference. Raises WireError."""
    index, name, claims, sort = body
    if type(index) is not int or not isinstance(name, str) or not isinstance(sort, str):
        raise WireError("not a reference")
    return index, name[:100].replace("\0", ""), frozenset(map(str, claims)), sort


def attach(value: T, asker: Asker, target: Target) -> T:
    """Tell a value of a derived class which object it stands for."""
    object.__setattr__(value, "_asker", asker)
    object.__setattr__(value, "_target", target)
    return value


def proxy_of(asker: Asker, target: Target, name: str, claims: frozenset[str], sort: str) -> object:
    """What stands for an object that the candidate describes so."""
    proxy = _proxy_class(name, claims)(asker, target)
    if sort == "generator":
        return _generator(proxy)
    if sort == "coroutine":
        return _coroutine(proxy)
    if sort == "async_generator":
        return _async_generator(proxy)
    if sort == "map":
        return map(_same, _Items(proxy))
    if sort == "filter":
        return filter(_always, _Items(proxy))
    if sort == "chain":
        return itertools.chain(_Items(proxy))
    return proxy


def _same(value: object) -> object:
    return value


def _always(_: object) -> bool:
    return True


class _Items:
    """Iterates a proxy without asking for its iterator: it is one."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        return self.proxy._asker.ask("special", self.proxy._target, "__next__")


def _generator(proxy: Proxy) -> Generator[object, object, object]:
    sent: object = None
    while True:
        try:
            if sent is None:
                item = proxy._asker.ask("special", proxy._target, "__next__")
            else:
                item = proxy._asker.ask("call", proxy._target, "send", sent)
        except StopIteration as stop:
            return stop.value
        sent = yield item


async def _coroutine(proxy: Proxy) -> object:
    return proxy._asker.ask("await", proxy._target)


async def _async_generator(proxy: Proxy) -> AsyncIterator[object]:
    while True:
        try:
            step = proxy._asker.ask("special", proxy._target, "__anext__")
            item = await step
        except StopAsyncIteration:
            return
        yield item


@functools.lru_cache(maxsize=1000)
def error_class(index: int, name: str, base: type[BaseException]) -> type[BaseException]:
    """The class of the candidate's exceptions of one class, below the library's own that it is below there."""
    return type(name, (base,), {"__module__": "solution", "__str__": _text_of_error})


def _text_of_error(error: BaseException) -> str:
    text = vars(error).get(TEXT)
    return text if isinstance(text, str) else super(type(error), error).__str__()


TEXT = "__text__"  # the attribute that holds what the candidate's own `__str__` said


def read_error_class(body: Form) -> type[BaseException]:
    """A class of exceptions that this side has too, or one made to stand for the candidate's. Raises WireError."""
    index, name, bases = body
    classes = [kind for module, base in bases if (kind := _library_error(module, base)) is not None]
    if type(index) is not int or not isinstance(name, str) or not classes:
        raise WireError("not a class of exceptions")
    if issubclass(classes[0], BaseExceptionGroup):
        classes = [Exception]
    base: Any = classes[0]  # mypy takes no class for hashable, as a cached function wants it
    exact = bases[0] == [base.__module__, base.__name__]
    return base if exact else error_class(index, name[:100].replace("\0", ""), base)


def _library_error(module: object, name: object) -> type[BaseException] | None:
    """The exception of that name in a module of the standard library or numpy that is loaded here.

    Loaded ones suffice, since a test that expects the exception has imported its module, and nothing is imported at
    a candidate's word.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if module.partition(".")[0] not in LIBRARIES - _STEERING or module not in sys.modules:
        return None
    kind = vars(sys.modules[module]).get(name)
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


LIBRARIES = frozenset({*sys.stdlib_module_names, "numpy"})
# Their exceptions steer a test: `unittest.SkipTest` would have it skipped, and so not failed.
_STEERING = frozenset({"unittest", "doctest", "__main__"})


def global_proxy(asker: Asker, name: str) -> Proxy:
    """The function or class that the candidate defines under a name, whatever it is bound to when it is used."""
    return _proxy_class(name, frozenset({"__call__"}))(asker, name)
