import lzma
from pathlib import Path

import numpy as np
import pytest
import yaml

from e2sim.network import Network
from e2sim.recordings import read_recording
from e2sim.scenario import parse_scenario
from ric.errors import TwinRicError

PACKETS = "t_s,uplink,bytes\n"
HEADER = "run,ue,traffic_class,sample,dl_mbps,ul_mbps\n"
ROWS = "r1,2,embb,0,1.0,0.5\nr1,3,mmtc,0,2.0,0.5\nr1,2,embb,1,3.0,0.0\nr2,2,urllc,0,6.0,1.0\n"
DATA = Path(__file__).parents[4] / "shared/data/oran_tractor_kpm/kpm_250ms.csv.xz"


def written(tmp_path, text, name="kpm.csv"):
    path = tmp_path / name
    if name.endswith(".xz"):
        path.write_bytes(lzma.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["kpm.csv", "kpm.csv.xz"])
def test_recording_sums_ues_and_scales_the_mean(tmp_path, name):
    recording = read_recording(written(tmp_path, HEADER + ROWS, name), start_s=100.0, mean_mbps=400.0)
    np.testing.assert_allclose(recording.rates_mbps, [[300, 100], [300, 0], [600, 100]])
    got = recording.at(np.array([100.0, 100.5, 100.75]))
    np.testing.assert_allclose(got, [[300, 100], [600, 100], [300, 100]])


def test_recording_of_packets_keeps_volume_and_direction(tmp_path):
    """3 s with 1,000 octets down at 0.005 s and 2.5 s, 500 up at 3 s: the copies keep the ratio of the volumes."""
    rows = "t_s,uplink,protocol,bytes\n0.005,0,UDP,1000\n2.5,0,TCP,1000\n3.0,1,TCP,500\n"
    recording = read_recording(written(tmp_path, rows), start_s=0.0, mean_mbps=100.0)
    assert recording.sample_s == 0.01
    assert recording.rates_mbps.shape == (301, 2)
    np.testing.assert_allclose(recording.rates_mbps.mean(axis=0), [100.0, 25.0])
    assert (recording.rates_mbps[:, 0] > 0).sum() == 2 * 16


def test_recording_of_one_class(tmp_path):
    recording = read_recording(written(tmp_path, HEADER + ROWS), start_s=0, mean_mbps=2, traffic_class="embb")
    np.testing.assert_allclose(recording.rates_mbps, [[1, 0.5], [3, 0]])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("run,sample\nr,0\n", "traffic_class"),
        (HEADER + "r1,2,embb,x,1,1\n", ":2"),
        (HEADER + "r1,2,embb,0,-1,1\n", ":2"),
        (HEADER + "r1,2,embb,0,inf,1\n", ":2"),
        (HEADER + "r1,2,embb\n", ":2"),
        (HEADER, "0 samples"),
        (HEADER + "r1,2,embb,0,0,1\n", "downlink volume"),
        ("t_s,uplink\n0,0\n", "bytes"),
        (PACKETS + "0.1,0,x\n", ":2"),
        (PACKETS + "0.1,2,40\n", ":2"),
        (PACKETS + "-1,0,40\n", ":2"),
        (PACKETS + "1e30,0,40\n", ":2"),
        (PACKETS + "0.1,1,40\n", "downlink volume"),
        (PACKETS, "0 samples"),
    ],
    ids=[
        "column absent",
        "not a number",
        "negative",
        "infinite",
        "short row",
        "empty",
        "idle",
        "no size",
        "size not a number",
        "no direction",
        "before the start",
        "endless",
        "uplink only",
        "no packets",
    ],
)
def test_recording_fault_is_named(tmp_path, text, says):
    with pytest.raises(TwinRicError) as error:
        read_recording(written(tmp_path, text), start_s=0, mean_mbps=1)
    assert error.value.code == "SCENARIO-INVALID"
    assert says in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"not xz"], ids=["absent", "not text", "not xz"])
def test_recording_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / ("kpm.csv.xz" if content == b"not xz" else "kpm.csv")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TwinRicError) as error:
        read_recording(path, start_s=0, mean_mbps=1)
    assert error.value.code == "CONFIG-MISSING"


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_file(), reason="the data set oran_tractor_kpm is not beside the checkout")
def test_recording_reads_the_measured_set():
    recording = read_recording(DATA, start_s=0, mean_mbps=11_000, rows=20_000)
    assert len(recording.rates_mbps) > 1_000
    assert recording.rates_mbps[:, 0].mean() == pytest.approx(11_000)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_file(), reason="the data set oran_tractor_kpm is not beside the checkout")
@pytest.mark.parametrize("trace", ["embb_04_10", "mmtc_04_10"])
def test_recording_reads_the_measured_packets(trace):
    recording = read_recording(DATA.parent / "packets" / f"{trace}.csv.xz", start_s=0, mean_mbps=8_000)
    assert recording.rates_mbps[:, 0].mean() == pytest.approx(8_000)
    assert recording.rates_mbps[:, 0].std() > 500


def test_how_to_page_shows_a_scenario_that_works(tmp_path):
    page = (Path(__file__).parents[3] / "docs/how-to/replay-traffic.md").read_text(encoding="utf-8")
    document = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    slices = document["nodes"][0]["slices"]
    slices[0]["recording"]["file"] = str(written(tmp_path, HEADER + "r1,2,urllc,0,2.0,0.5\n"))
    packets = "t_s,uplink,protocol,bytes\n0.005,0,UDP,1000\n2.5,1,TCP,1000\n"
    slices[2]["recording"]["file"] = str(written(tmp_path, packets, "packets.csv.xz"))
    network = Network(parse_scenario(document))
    (sample,) = network.advance(network.scenario.start_s + 0.1)
    assert sample.ran.stats.offered_mbit[0, 0] == pytest.approx(1_100, rel=0.3)
