"""Channels of xApps on one side, subscriptions at E2 nodes on the other: merge, fan out, bound, expire. Pure.

A *channel* is what one xApp holds: a bounded queue of indications. A *subscription* is what the RIC holds at a node,
one for all channels that ask the same of it. A slow xApp loses the oldest of its own indications, counted, and nobody
else's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ric.e2.identities import RicRequestId
from ric.errors import TwinRicError

__all__ = [
    "Attachment", "Channel", "ChannelIdentity", "ChannelSpec", "MergedSubscription", "SubscriptionAction",
    "SubscriptionManager",
]  # fmt: skip

QUEUE_LENGTH = 256
LINGER_S = 2.0
MAX_CHANNELS = 16_384


class SubscriptionAction(NamedTuple):
    """One RIC action: id 0..255, type as on the E2AP wire (0 report, 1 insert, 2 policy), definition octets."""

    ric_action_id: int
    type: int
    definition: bytes


class ChannelIdentity(NamedTuple):
    """Who asks: asking again with the same identity continues the same channel."""

    app_id: str
    instance_id: str
    e2_node_id: str
    transaction_id: str


@dataclass(frozen=True)
class ChannelSpec:
    """What is asked of a node. Equal specs share one subscription at the node."""

    e2_node_id: str
    oid: str
    service_model: tuple[str, str]
    event_trigger: bytes
    actions: tuple[SubscriptionAction, ...]


@dataclass
class Channel:
    """One xApp's end. `wake` is called after something was queued and when the channel ends."""

    channel_id: str
    identity: ChannelIdentity
    spec: ChannelSpec
    wake: Callable[[], None]
    queue: deque[tuple[bytes, bytes]]
    subscription_id: str
    generation: int = 1
    dropped: int = 0
    is_attached: bool = True
    detached_s: float = 0.0
    error: TwinRicError | None = None
    is_closed: bool = False

    def take(self) -> tuple[bytes, bytes] | None:
        """The oldest indication (header, message), or None when there is none."""
        return self.queue.popleft() if self.queue else None


@dataclass
class MergedSubscription:
    """One subscription at a node and the channels that share it; `request` is None while the node does not have it."""

    subscription_id: str
    spec: ChannelSpec
    channels: dict[str, Channel] = field(default_factory=dict)
    request: RicRequestId | None = None
    ran_function_id: int = -1
    is_in_force: bool = False
    revision: int = 1


class Attachment(NamedTuple):
    """Result of :meth:`SubscriptionManager.attach`; `generation` tells this reader from a later one."""

    channel: Channel
    subscription: MergedSubscription
    generation: int


class SubscriptionManager:
    """All channels and subscriptions of the RIC. Calls return what is now due at the nodes; the caller does it."""

    def __init__(self, *, queue_length: int = QUEUE_LENGTH, linger_s: float = LINGER_S) -> None:
        self._queue_length = queue_length
        self._linger_s = linger_s
        self._channels: dict[ChannelIdentity, Channel] = {}
        self._subscriptions: dict[ChannelSpec, MergedSubscription] = {}
        self._by_request: dict[tuple[str, RicRequestId], MergedSubscription] = {}
        self._numbers = {"channel": 0, "subscription": 0}

    # Channels ---------------------------------------------------------------------------------------------------------

    def attach(self, identity: ChannelIdentity, spec: ChannelSpec, wake: Callable[[], None]) -> Attachment:
        """The channel of `identity`, new or as it stands; a reader that held it is told that it was replaced.

        Raises TwinRicError: E2-STATE when the identity holds a channel with another spec, LIMIT-RATE when there are too
        many channels.
        """
        channel = self._channels.get(identity)
        if channel is None:
            return self._new_channel(identity, spec, wake)
        if channel.spec != spec:
            raise TwinRicError(
                "E2-STATE", "transaction_id", identity.transaction_id, "a new id for another subscription",
                "Unsubscribe first, or keep the trigger and the actions.",
            )  # fmt: skip
        channel.generation += 1
        channel.is_attached = True
        channel.error = None
        replaced, channel.wake = channel.wake, wake
        replaced()
        return Attachment(channel, self._subscriptions[spec], channel.generation)

    def _new_channel(self, identity: ChannelIdentity, spec: ChannelSpec, wake: Callable[[], None]) -> Attachment:
        if len(self._channels) >= MAX_CHANNELS:
            raise TwinRicError("LIMIT-RATE", "channels", len(self._channels), f"at most {MAX_CHANNELS} channels")
        subscription = self._subscriptions.get(spec)
        if subscription is None:
            subscription = MergedSubscription(self._number("subscription"), spec)
            self._subscriptions[spec] = subscription
        queue: deque[tuple[bytes, bytes]] = deque(maxlen=self._queue_length)
        channel = Channel(self._number("channel"), identity, spec, wake, queue, subscription.subscription_id)
        self._channels[identity] = channel
        subscription.channels[channel.channel_id] = channel
        return Attachment(channel, subscription, channel.generation)

    def _number(self, kind: str) -> str:
        self._numbers[kind] += 1
        return f"{kind}-{self._numbers[kind]}"

    def detach(self, channel: Channel, generation: int, now_s: float) -> None:
        """The reader left; the channel lingers for its return. A reader that was replaced changes nothing."""
        if channel.generation == generation and channel.is_attached:
            channel.is_attached = False
            channel.detached_s = now_s

    def remove(self, identity: ChannelIdentity) -> MergedSubscription | None:
        """End a channel; the subscription to delete at the node, if that was its last one.

        Raises TwinRicError (E2-REQUEST-UNKNOWN).
        """
        channel = self._channels.pop(identity, None)
        if channel is None:
            raise TwinRicError("E2-REQUEST-UNKNOWN", "transaction_id", identity.transaction_id, "an open channel")
        channel.is_closed = True
        channel.wake()
        subscription = self._subscriptions[channel.spec]
        del subscription.channels[channel.channel_id]
        if subscription.channels:
            return None
        return self._drop(subscription)

    def expire(self, now_s: float) -> list[MergedSubscription]:
        """End channels whose reader has been away for longer than the linger time; subscriptions to delete at nodes."""
        limit_s = now_s - self._linger_s
        gone = [c.identity for c in self._channels.values() if not c.is_attached and c.detached_s <= limit_s]
        orphans = [self.remove(identity) for identity in gone]
        return [subscription for subscription in orphans if subscription is not None]

    def _drop(self, subscription: MergedSubscription) -> MergedSubscription | None:
        """Forget a subscription; itself when the node has it."""
        del self._subscriptions[subscription.spec]
        if subscription.request is None:
            return None
        self._by_request.pop((subscription.spec.e2_node_id, subscription.request), None)
        return subscription

    # Subscriptions at nodes -------------------------------------------------------------------------------------------

    def requested(self, subscription: MergedSubscription, request: RicRequestId, ran_function_id: int = -1) -> None:
        """The subscription was sent to a RAN function under `request`; indications may come from now on."""
        subscription.request = request
        subscription.ran_function_id = ran_function_id
        subscription.revision += 1
        self._by_request[subscription.spec.e2_node_id, request] = subscription

    def admitted(self, subscription: MergedSubscription) -> None:
        """The node has it in force."""
        subscription.is_in_force = True
        subscription.revision += 1

    def refused(self, subscription: MergedSubscription, error: TwinRicError) -> None:
        """The node does not take it; every channel that waits for it ends with `error`."""
        self._unbind(subscription)
        for channel in list(subscription.channels.values()):
            self._channels.pop(channel.identity, None)
            channel.error = error
            channel.wake()
        subscription.channels.clear()
        self._subscriptions.pop(subscription.spec, None)

    def at_request(self, e2_node_id: str, request: RicRequestId) -> MergedSubscription | None:
        """The subscription that the node has under `request`."""
        return self._by_request.get((e2_node_id, request))

    @staticmethod
    def deliver(subscription: MergedSubscription, header: bytes, message: bytes) -> int:
        """Queue an indication at every channel of `subscription`; returns how many older ones that pushed out."""
        dropped = 0
        for channel in subscription.channels.values():
            if len(channel.queue) == channel.queue.maxlen:
                channel.dropped += 1
                dropped += 1
            channel.queue.append((header, message))
            channel.wake()
        return dropped

    def node_reset(self, e2_node_id: str) -> list[MergedSubscription]:
        """The node forgot its subscriptions; those to request again. Channels stay open."""
        return self._unbind_all(e2_node_id)

    def function_lost(self, subscription: MergedSubscription) -> None:
        """The RAN function that the subscription was with is gone; it is to be requested again. Channels stay open."""
        self._unbind(subscription)

    def node_lost(self, e2_node_id: str, error: TwinRicError, now_s: float) -> None:
        """Tell every channel at the node. Their readers end; what comes back in time finds its channel again."""
        for subscription in self._unbind_all(e2_node_id):
            for channel in subscription.channels.values():
                channel.error = error
                if channel.is_attached:
                    channel.is_attached = False
                    channel.detached_s = now_s
                channel.wake()

    def node_ready(self, e2_node_id: str) -> list[MergedSubscription]:
        """Subscriptions to request at a node that has (again) set up, for the channels that outlived its absence."""
        waiting = [each for each in self._at(e2_node_id) if each.request is None]
        for subscription in waiting:
            for channel in subscription.channels.values():
                channel.error = None
        return waiting

    def _unbind_all(self, e2_node_id: str) -> list[MergedSubscription]:
        found = self._at(e2_node_id)
        for subscription in found:
            self._unbind(subscription)
        return found

    def _unbind(self, subscription: MergedSubscription) -> None:
        if subscription.request is not None:
            self._by_request.pop((subscription.spec.e2_node_id, subscription.request), None)
        subscription.request = None
        subscription.is_in_force = False
        subscription.revision += 1

    def _at(self, e2_node_id: str) -> list[MergedSubscription]:
        return [each for each in self._subscriptions.values() if each.spec.e2_node_id == e2_node_id]

    # Administration ---------------------------------------------------------------------------------------------------

    def channels(self) -> Iterator[Channel]:
        """Every channel."""
        return iter(self._channels.values())

    def subscriptions(self) -> Iterator[MergedSubscription]:
        """Every subscription."""
        return iter(self._subscriptions.values())

    def subscription_of(self, channel: Channel) -> MergedSubscription | None:
        """The subscription that a channel shares, while it is open."""
        return self._subscriptions.get(channel.spec)
