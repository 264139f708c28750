"""Merging, fan-out, bounds and life cycle of subscriptions."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.e2.identities import RicRequestId
from ric.e2.subscription_manager import (
    Attachment,
    Channel,
    ChannelIdentity,
    ChannelSpec,
    SubscriptionAction,
    SubscriptionManager,
)  # fmt: skip
from ric.errors import TwinRicError

NODE = "00101-e2000001"
REQUEST = RicRequestId(1, 1)
LOST = TwinRicError("E2-LOST", "peer", "x", "y")


def spec(trigger: bytes = b"1 s", node: str = NODE) -> ChannelSpec:
    return ChannelSpec(node, "1.2.3", ("kpm", "v2"), trigger, (SubscriptionAction(0, 0, b""),))


def identity(app: str, transaction: str = "t", node: str = NODE) -> ChannelIdentity:
    return ChannelIdentity(app, "1", node, transaction)


def nothing() -> None:
    return


def attach(
    manager: SubscriptionManager, app: str, asked: ChannelSpec | None = None, wake: Callable[[], None] = nothing
) -> Attachment:
    asked = asked or spec()
    return manager.attach(identity(app, node=asked.e2_node_id), asked, wake)


def opened(manager: SubscriptionManager, *apps: str) -> list[Channel]:
    attachments = [attach(manager, app) for app in apps]
    manager.requested(attachments[0].subscription, REQUEST)
    manager.admitted(attachments[0].subscription)
    return [attachment.channel for attachment in attachments]


def drained(channel: Channel) -> list[bytes]:
    taken = []
    while (item := channel.take()) is not None:
        taken.append(item[1])
    return taken


def deliver(manager: SubscriptionManager, node: str, request: RicRequestId, header: bytes, message: bytes) -> int:
    subscription = manager.at_request(node, request)
    return 0 if subscription is None else manager.deliver(subscription, header, message)


def test_subscription_manager_equal_specs_share_one_subscription() -> None:
    manager = SubscriptionManager()
    first, second, other = attach(manager, "a"), attach(manager, "b"), attach(manager, "c", spec(b"2 s"))
    assert first.subscription is second.subscription
    assert first.channel is not second.channel
    assert other.subscription is not first.subscription


def test_subscription_manager_delivers_to_every_sharer() -> None:
    manager = SubscriptionManager()
    woken: list[str] = []
    one = attach(manager, "a", wake=lambda: woken.append("a"))
    two = attach(manager, "b", wake=lambda: woken.append("b"))
    manager.requested(one.subscription, REQUEST)
    assert deliver(manager, NODE, REQUEST, b"h", b"m") == 0
    assert (one.channel.take(), two.channel.take()) == ((b"h", b"m"), (b"h", b"m"))
    assert woken == ["a", "b"]


def test_subscription_manager_slow_xapp_drops_only_its_own_oldest() -> None:
    manager = SubscriptionManager(queue_length=3)
    slow, fast = opened(manager, "slow", "fast")
    kept = []
    for number in range(5):
        deliver(manager, NODE, REQUEST, b"", bytes([number]))
        kept += drained(fast)
    assert kept == [bytes([number]) for number in range(5)]
    assert drained(slow) == [b"\x02", b"\x03", b"\x04"]
    assert (slow.dropped, fast.dropped) == (2, 0)


@given(st.lists(st.one_of(st.just("deliver"), st.sampled_from(["a", "b", "c"])), max_size=60), st.integers(1, 5))
def test_subscription_manager_every_indication_is_read_dropped_or_queued(steps: list[str], length: int) -> None:
    manager = SubscriptionManager(queue_length=length)
    channels = dict(zip("abc", opened(manager, "a", "b", "c"), strict=True))
    read: dict[str, list[int]] = {name: [] for name in channels}
    delivered = dropped = 0
    for step in steps:
        if step == "deliver":
            dropped += deliver(manager, NODE, REQUEST, b"", delivered.to_bytes(2, "big"))
            delivered += 1
        elif (item := channels[step].take()) is not None:
            read[step].append(int.from_bytes(item[1], "big"))
    for name, channel in channels.items():
        queued = [int.from_bytes(item, "big") for item in drained(channel)]
        assert len(read[name]) + channel.dropped + len(queued) == delivered
        assert read[name] + queued == sorted(set(read[name] + queued))
    assert dropped == sum(channel.dropped for channel in channels.values())


def test_subscription_manager_same_transaction_continues_the_channel() -> None:
    manager = SubscriptionManager()
    (channel,) = opened(manager, "a")
    deliver(manager, NODE, REQUEST, b"", b"kept")
    manager.detach(channel, channel.generation, 10.0)
    again = attach(manager, "a")
    assert again.channel is channel
    assert drained(channel) == [b"kept"]
    assert manager.expire(1e9) == []


def test_subscription_manager_replaced_reader_is_woken_and_cannot_detach() -> None:
    manager = SubscriptionManager()
    woken: list[str] = []
    first = attach(manager, "a", wake=lambda: woken.append("first"))
    second = attach(manager, "a", wake=lambda: woken.append("second"))
    assert woken == ["first"]
    assert second.generation != first.generation
    manager.detach(first.channel, first.generation, 0.0)
    assert second.channel.is_attached


def test_subscription_manager_same_transaction_other_spec_is_refused() -> None:
    manager = SubscriptionManager()
    attach(manager, "a")
    with pytest.raises(TwinRicError, match="transaction_id"):
        attach(manager, "a", spec(b"2 s"))


def test_subscription_manager_last_leaver_ends_the_subscription() -> None:
    manager = SubscriptionManager()
    one, two = opened(manager, "a", "b")
    assert manager.remove(one.identity) is None
    orphan = manager.remove(two.identity)
    assert orphan is not None
    assert orphan.request == REQUEST
    assert deliver(manager, NODE, REQUEST, b"", b"") == 0
    assert list(manager.subscriptions()) == []
    assert one.is_closed


def test_subscription_manager_remove_of_an_unknown_channel_is_refused() -> None:
    with pytest.raises(TwinRicError, match="E2-REQUEST-UNKNOWN"):
        SubscriptionManager().remove(identity("a"))


def test_subscription_manager_detached_channel_lingers_then_expires() -> None:
    manager = SubscriptionManager(linger_s=2.0)
    (channel,) = opened(manager, "a")
    manager.detach(channel, channel.generation, 10.0)
    assert manager.expire(11.9) == []
    assert [each.request for each in manager.expire(12.0)] == [REQUEST]
    assert list(manager.channels()) == []


def test_subscription_manager_refusal_ends_every_waiting_channel() -> None:
    manager = SubscriptionManager()
    one, two = attach(manager, "a"), attach(manager, "b")
    manager.requested(one.subscription, REQUEST)
    manager.refused(one.subscription, LOST)
    assert one.channel.error is two.channel.error is LOST
    assert list(manager.channels()) == []
    assert attach(manager, "a").channel is not one.channel


def test_subscription_manager_lost_node_tells_its_xapps_and_takes_up_what_returns() -> None:
    manager = SubscriptionManager(linger_s=5.0)
    (channel,) = opened(manager, "a")
    elsewhere = attach(manager, "a", spec(node="00101-2"))
    manager.node_lost(NODE, LOST, 10.0)
    assert channel.error is LOST
    assert elsewhere.channel.error is None
    assert deliver(manager, NODE, REQUEST, b"", b"") == 0
    (waiting,) = manager.node_ready(NODE)
    assert channel.error is None
    newer = RicRequestId(1, 9)
    manager.requested(waiting, newer)
    deliver(manager, NODE, newer, b"", b"back")
    assert drained(channel) == [b"back"]


def test_subscription_manager_lost_node_that_stays_away_leaves_nothing() -> None:
    manager = SubscriptionManager(linger_s=5.0)
    opened(manager, "a", "b")
    manager.node_lost(NODE, LOST, 10.0)
    assert manager.expire(15.0) == []  # nothing is left to delete at the node
    assert list(manager.channels()) == list(manager.subscriptions()) == []
    assert manager.node_ready(NODE) == []


def test_subscription_manager_reset_node_is_subscribed_again_with_open_channels() -> None:
    manager = SubscriptionManager()
    (channel,) = opened(manager, "a")
    (again,) = manager.node_reset(NODE)
    assert again.request is None
    assert channel.is_attached
    assert channel.error is None
