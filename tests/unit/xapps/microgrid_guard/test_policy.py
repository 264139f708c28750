import pytest

from ric.config import validate
from ric.errors import TwinRicError
from xapps.microgrid_guard.policy import POLICY_TYPE_ID, GuardPolicy


def test_policy_defaults_are_the_paper_s():
    policy = GuardPolicy()
    assert (policy.threshold, policy.tau_s, policy.consensus_delay_s) == (0.2, 1.0, 4.0)
    assert POLICY_TYPE_ID == "twinric_microgrid_guard_1.0.0"


@pytest.mark.parametrize(
    "body", [{"threshold": 0}, {"tau_s": -1}, {"mode": "off"}, {"treshold": 0.2}, {"release_ratio": 2}]
)
def test_policy_out_of_range_or_unknown_is_refused_by_field(body: dict[str, object]):
    with pytest.raises(TwinRicError, match=next(iter(body))):
        validate(GuardPolicy, body, "A1")
