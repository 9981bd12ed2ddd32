import asyncio

import pytest

from grpo_aflow.sampler.versions import ServedVersions
from grpo_aflow.types import BASE


async def test_a_version_is_removed_only_when_nobody_holds_it():
    versions: ServedVersions[str] = ServedVersions()
    versions.add(0, "zero")
    with versions.hold(0) as handle:
        assert handle == "zero"
        removal = asyncio.create_task(versions.remove(0))
        await asyncio.sleep(0.01)
        assert not removal.done()
        with pytest.raises(ValueError, match="version 0 is not served"), versions.hold(0):
            pass
    assert await asyncio.wait_for(removal, 1) == "zero"


async def test_a_version_that_is_not_held_goes_at_once():
    versions: ServedVersions[str] = ServedVersions()
    versions.add(3, "three")
    assert await asyncio.wait_for(versions.remove(3), 1) == "three"
    with pytest.raises(ValueError, match="version 3 is not served; served: none"):
        versions.handle(3)


def test_a_version_is_added_once_and_the_base_needs_no_adding():
    versions: ServedVersions[str] = ServedVersions()
    versions.add(1, "one")
    with pytest.raises(ValueError, match="version 1 is served already"):
        versions.add(1, "again")
    with pytest.raises(ValueError, match="at least 0"):
        versions.add(BASE, "base")
    with versions.hold(BASE) as handle:
        assert handle is None
