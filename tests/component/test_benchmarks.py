"""Each benchmark of a control loop runs, briefly, and writes what it says; no time is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORT_RUNS = {
    "hems_fleet": (
        ["--homes", "60", "--checked", "6", "--cycles", "1", "--milp", "1", "--growth"],
        {"cycle_s", "cold_s", "peak_rss_mb", "homes_per_s_ratio_vs_highs_warm", "newton_steps_warm"},
    ),
    "hems_fleet_cap": (["--homes", "60", "--joint", "4"], {"cycle_3_s", "homes_with_a_share", "fairness"}),
    "hems_shards": (
        ["--homes", "40", "--in-process"],
        {"cycle_s", "octets_per_cycle", "time_over_one_process"},
    ),
    "hems_year": (
        ["--homes", "4", "--days", "2", "--processes", "1"],
        {"cost_eur", "peak_kw", "self_consumption", "homes", "days"},
    ),
    "a1_rest": (
        ["--policies", "100", "--puts", "80"],
        {"puts_per_s", "p50_ms", "p99_ms", "one_client_p99_ms", "put_to_enforced_ms", "ratio_vs_bare_fastapi"},
    ),
    "bus": (
        ["--twins", "400", "--seconds", "2", "--after", "3"],
        {"updates_per_s", "p99_s", "published", "newest_agree"},
    ),
    "fuzz": (["--inputs", "1500"], {"inputs", "malformed", "targets"}),
    "e2_loop": (["--rounds", "3"], {"p50_ms", "p99_ms", "ratio_vs_bare_grpc"}),
    "e2_scale": (
        ["--nodes", "6", "--subscribers", "2", "--seconds", "2", "--no-search"],
        {"indications_sent", "node_side_subscriptions", "p99_delivery_ms", "cpu_cores", "rss_mb"},
    ),
    "e2_throughput": (["--seconds", "1", "--load", "records"], {"ue_records_per_s", "records_ratio_vs_bare_grpc"}),
    "conflict_check": (["--controls", "50"], {"p50_ms", "fleet_p50_ms", "live_holds"}),
    "e3_loop": (["--windows", "400"], {"p50_ms", "p99_ms", "p999_ms", "ratio_vs_bare_zeromq"}),
    "slice_decision": (["--decisions", "50"], {"p50_ms", "p99_ms", "cpu_p50_ms"}),
    "slice_rl": (
        [
            "--seeds",
            "2",
            "--nodes",
            "2",
            "--simulator-nodes",
            "3",
            "--periods",
            "6",
            "--decisions",
            "20",
            "--suites",
            "default_policy",
            "fault",
            "coupled",
        ],
        {"gap_closed", "gap_closed_simulator_fault", "gap_closed_coupled", "p99_ms", "train_min"},
    ),
    "slice_budgets": (
        ["--seeds", "1", "--nodes", "1", "--seconds", "0.2", "--situations", "fault"],
        {"budgets", "budgets_met_at_100_ms", "budgets_met_at_10_ms", "fault_control_p99_ms_at_10_ms"},
    ),
    "slice_env": (["--nodes", "256", "--periods", "3"], {"env_steps_per_s", "ratio_vs_one_by_one"}),
    "slice_fault": (
        ["--alarms", "5", "--seeds", "1", "--periods", "8"],
        {"p50_ms", "p99_ms", "simulated_control_surge_mean_ms"},
    ),
    "demo": (["--scenario", "smoke"], {"wall_s", "peak_rss_mb"}),
}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", SHORT_RUNS)
def test_benchmark_short_run_writes_its_figures(name, tmp_path):
    options, figures = SHORT_RUNS[name]
    path = tmp_path / "result.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--json", str(path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=110)
    result = json.loads(path.read_text())
    assert set(result) == {"figures", "machine", "baseline"}
    assert figures <= set(result["figures"])
    assert all(result["figures"][figure] > 0 for figure in figures)
    assert result["baseline"]
