import lzma
from pathlib import Path

import numpy as np
import pytest

from e2sim.recordings import read_recording
from ric.errors import TwinRicError

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
    assert recording.at(100.0) == (300, 100)
    assert recording.at(100.5) == (600, 100)
    assert recording.at(100.75) == (300, 100)


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
        (HEADER + "r1,2,embb,0,0,1\n", "dl_mbps > 0"),
    ],
    ids=["column absent", "not a number", "negative", "infinite", "short row", "empty", "idle"],
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
