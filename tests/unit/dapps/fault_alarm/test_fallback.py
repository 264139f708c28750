"""The relay: thresholds, what it is blind to, and that it answers to anything."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dapps.fault_alarm.fallback import threshold_relay
from dapps.fault_alarm.model import NOMINAL_V
from dapps.fault_alarm.policy import FaultAlarmPolicy
from dapps.fault_alarm.state import CYCLE, FTUS, Memory, State
from ric.decision import Reason
from ric.e3.e3ap import Waveform

POLICY = FaultAlarmPolicy()
REASON = Reason("MODEL_MISSING")
WINDOWS = 20


def balanced(current_a=70.0):
    angle = 2 * np.pi * np.arange(20 * WINDOWS) / CYCLE - 2 * np.pi / 3 * np.arange(3)[:, None]
    three = np.concatenate([current_a * np.sqrt(2) * np.sin(angle), NOMINAL_V * np.sin(angle)])
    return np.broadcast_to(three, (FTUS, 6, 20 * WINDOWS)).astype(np.float32)


def findings(samples):
    items = tuple(
        Waveform(4_000, n, n * 5_000_000, samples[:, :, 20 * n : 20 * n + 20]) for n in range(samples.shape[2] // 20)
    )
    decision = threshold_relay(State(items, Memory.empty()), POLICY, REASON)
    assert decision.reason == REASON
    return [(finding.kind, finding.section) for finding in decision.findings]


def test_relay_load_current_is_no_fault():
    assert findings(balanced()) == []


def test_relay_overcurrent_is_a_short_circuit_in_the_section_it_reaches():
    samples = balanced()
    samples[:2, :2, 240:] *= 15
    assert findings(samples) == [("PHASE_TO_PHASE", 2)]


def test_relay_residual_voltage_is_an_earth_fault():
    samples = balanced()
    samples[:, 3, 240:] = 0.0
    assert [kind for kind, _ in findings(samples)] == ["PHASE_TO_GROUND"]


def test_relay_open_conductor_is_not_seen():
    """Its limit, stated in the app card."""
    samples = balanced()
    samples[2:, 0, 240:] = 0.0
    assert findings(samples) == []


@given(arrays(np.float32, (FTUS, 6, 20), elements=st.floats(-1e6, 1e6, width=32)))
def test_relay_never_fails(window):
    findings(np.concatenate([balanced()[:, :, :320], window, window], axis=2))
