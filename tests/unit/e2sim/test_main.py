import pytest

from e2sim.__main__ import main


def test_check_accepts_a_shipped_scenario(capsys):
    assert main(["check", "smoke"]) == 0
    assert "Valid" in capsys.readouterr().out


def test_check_names_faults_without_a_traceback(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text("seed: -1\nstart: 2016-06-15T00:00:00Z\nduration_s: 60\nnodes: [{gnb_id: 1}]\n", encoding="utf-8")
    assert main(["check", str(path)]) == 2
    assert "SCENARIO-INVALID seed = -1" in capsys.readouterr().err


def test_run_refuses_a_negative_speed(capsys):
    assert main(["run", "--scenario", "smoke", "--speed", "-1"]) == 2
    assert "--speed" in capsys.readouterr().err


def test_reference_writes_the_page(tmp_path):
    out = tmp_path / "scenario.md"
    assert main(["reference", "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8").startswith("# The scenario file")


def test_unknown_command_is_a_usage_error():
    with pytest.raises(SystemExit) as error:
        main(["fly"])
    assert error.value.code == 2
