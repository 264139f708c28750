import numpy as np
import pytest

from e2sim.ran.encryption import Encryption


def test_encryption_figures_by_hand():
    """ESP: two passes of 40 us and 1,000 octets at 0.5 ns; 56 octets more."""
    assert Encryption.IPSEC.latency_ms(1_000.0) == pytest.approx(2 * (40 + 0.5) / 1e3)
    assert Encryption.IPSEC.growth(1_000.0) == pytest.approx(1.056)
    assert Encryption.MACSEC.growth(64.0) == pytest.approx(1.5)
    assert Encryption.NONE.latency_ms(1_000.0) == 0
    assert Encryption.NONE.growth(1_000.0) == 1


@pytest.mark.parametrize("kind", [Encryption.MACSEC, Encryption.IPSEC], ids=lambda kind: kind.value)
def test_small_packets_pay_more_volume_and_less_time(kind):
    octets = np.array([100.0, 1_400.0])
    assert kind.growth(octets)[0] > kind.growth(octets)[1] > 1
    assert 0 < kind.latency_ms(octets)[0] < kind.latency_ms(octets)[1]
