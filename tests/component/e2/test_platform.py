"""Starting and stopping the RIC's E2 side."""

import pytest

from ric.clock import WallClock
from ric.e2.platform import E2Platform
from ric.errors import TwinRicError
from ric.telemetry import Metrics


async def test_platform_address_in_use_is_named_and_nothing_stays_bound(house) -> None:
    second = E2Platform(Metrics("ric"), WallClock())
    with pytest.raises(TwinRicError, match="CONFIG-RANGE xapp_address"):
        await second.start("127.0.0.1:0", f"127.0.0.1:{house.ports.xapps}")
    ports = await second.start("127.0.0.1:0", "127.0.0.1:0")
    assert 0 < ports.nodes != ports.xapps
    await second.stop()


async def test_platform_beyond_the_loopback_needs_tls_or_the_flag() -> None:
    platform = E2Platform(Metrics("ric"), WallClock())
    with pytest.raises(TwinRicError, match="CONFIG-RANGE xapp_address"):
        await platform.start("127.0.0.1:0", "0.0.0.0:0")
    await platform.start("127.0.0.1:0", "0.0.0.0:0", allow_plain_text=True)
    await platform.stop()


async def test_platform_stop_ends_streams_and_lets_nodes_return_after_a_restart(house) -> None:
    node = await house.node()
    await house.platform.stop()
    await house.until(lambda: not node.connection.is_connected)
    house.ports = await house.platform.start(f"127.0.0.1:{house.ports.nodes}", f"127.0.0.1:{house.ports.xapps}")
    await node.connection.connected(10.0)
    assert list(house.platform.termination.nodes) == [node.name]
