import pytest

from e2sim.ran.catalogue import CATALOGUE, DEFAULT_TERMINALS

# DESIGN section 4: end-to-end latency [ms] and rate [Mb/s] where the paper's table gives one.
PAPER = {
    "primary_frequency_control": (50, None), "distributed_voltage_control": (100, None),
    "differential_protection": (5, 2.5), "precise_load_control": (50, 0.028), "distributed_energy_storage": (10, 0.1),
    "advanced_metering": (100, 1), "der_microgrids": (3, 5.4), "fisr": (5, 10), "fault_location": (140, 100),
    "dg_fault_management": (30, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_catalogue_holds_the_papers_figures(name):
    service, (latency_ms, rate_mbps) = CATALOGUE[name], PAPER[name]
    assert service.latency_ms == latency_ms
    assert rate_mbps is None or service.dl_mbps == rate_mbps


@pytest.mark.parametrize("service", CATALOGUE.values(), ids=CATALOGUE)
def test_catalogue_rows_state_source_and_doubt(service):
    assert service.source
    assert service.doubt
    assert (service.name in PAPER) == ("Table 1" in service.source)
    assert service.role in DEFAULT_TERMINALS
    assert 0 <= service.quiet_share <= service.fault_share <= 1
    assert (service.period_ms > 0) == (service.pattern in ("periodic", "polling", "push"))
    assert (service.fault_burst_kbit > 0) == (service.pattern == "fault")


def test_default_terminals_ride_on_the_slice_of_their_service():
    for role, counts in DEFAULT_TERMINALS.items():
        assert {CATALOGUE[name].role for name in counts} == {role}
