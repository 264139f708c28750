"""An xApp in forty lines: gives monitoring one slot more while its queue is long."""

from dataclasses import dataclass

from ric.app_spec import AppConfig, AppSpec, Ric
from ric.config import FrozenModel
from ric.decision import Reason
from ric.e2sm import ccc, kpm
from ric.launch import main
from ric.runtime import App

MONITORING = "1-000003"


class Policy(FrozenModel):
    long_queue_mbit: float = 50.0
    """Backlog from which monitoring gets more [Mbit]. Acts on the next decision."""


@dataclass(frozen=True)
class Decision:
    node: str
    slots: int
    reason: Reason
    source_time_ns: int


class HelloApp(App[AppConfig, Policy, kpm.KpmReport, Decision]):
    """Says hello to the monitoring slice."""

    spec = AppSpec("hello", Ric.NEAR_RT, 100.0, "example_hello_1.0.0", frozenset({"e2"}))
    config_type, policy_type, report = AppConfig, Policy, None

    async def connect(self):
        trigger, action = kpm.encode_trigger(100), kpm.encode_action()
        self.runtime.follow_e2((kpm.NAME, kpm.VERSION), trigger=trigger, action=action, handler=self.on_report)

    def on_report(self, node, header, payload):
        self.report = kpm.decode_indication(header, payload)
        return self.report.source_time_ns

    def observe(self, now_ns):
        return self.report

    def decide(self, state, policy):
        row = [item.s_nssai for item in state.items].index(MONITORING)
        queue_mbit = float(state.of("TWINRIC.QueueDl")[row])
        slots = 6 if queue_mbit > policy.long_queue_mbit else 5
        return Decision(state.e2_node_id, slots, Reason("QUEUE", {"queue_mbit": queue_mbit}), state.source_time_ns)

    def fallback(self, state, policy, reason):
        return state and Decision(state.e2_node_id, 5, reason, state.source_time_ns)

    async def act(self, decision):
        ratio = ccc.SliceRatio(s_nssai=MONITORING, rrm_policy_dedicated_ratio=decision.slots * ccc.SLOT_PERCENT)
        header, payload = ccc.encode_control((ratio,))
        await self.links.need_e2().control(decision.node, (ccc.NAME, ccc.VERSION), header, payload)


if __name__ == "__main__":
    main(HelloApp)
