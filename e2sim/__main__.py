"""The simulator by itself: run a scenario against a RIC, check one, make data sets."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import yaml

from e2sim.desired_agent import DesiredAgent
from e2sim.e2_agent import E2Agents
from e2sim.engine import Engine, stop_on_signals
from e2sim.feeder_agent import FeederAgent
from e2sim.history import PRODUCER, hand_over_history
from e2sim.network import Network
from e2sim.operator import Operator
from e2sim.reference import scenario_reference
from e2sim.scenario import load_scenario
from e2sim.told import told
from ric.a1.client import A1pClient
from ric.bus.bus import Twins, open_bus
from ric.clock import SimClock, WallClock
from ric.columns import Table
from ric.config import validate
from ric.e3.session import E3Endpoints
from ric.errors import TwinRicError
from ric.security import TlsFiles, TlsMaterial, load_tls
from ric.telemetry import Metrics, configure_logging

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. Faults of input are printed without a traceback."""
    parser = _parser()
    options = parser.parse_args(sys.argv[1:] if arguments is None else list(arguments))
    try:
        status: int = options.command(options)
    except TwinRicError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="twinric sim", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a scenario against a RIC, in real time or faster")
    run.add_argument("--scenario", required=True, help="YAML file, or a shipped scenario: demo, smoke")
    run.add_argument("--ric", default="127.0.0.1:36421", help="host:port of the RIC's E2 termination")
    run.add_argument("--speed", type=float, default=1.0, help="simulated seconds per second; 0 runs as fast as it goes")
    run.add_argument("--wait-s", type=float, default=60.0, help="how long to wait for the RIC at the start")
    run.add_argument("--hold", action="store_true", help="stay connected after the scenario's end, until SIGTERM")
    run.add_argument("--a1", default="", help="http://host:port of the RIC's A1-P: put the scenario's policies there")
    run.add_argument("--bus", default="", help="twin bus, for nodes with desired_by_bus")
    for name in ("setup", "inbound", "outbound"):
        run.add_argument(f"--e3-{name}-endpoint", default="", help=f"ZeroMQ {name} endpoint of the E3 agent")
    for name, meaning in (("certificate", "certificate"), ("key", "private key"), ("ca", "authority of the RIC")):
        run.add_argument(f"--tls-{name}-file", type=Path, help=f"mTLS towards the RIC: {meaning} (PEM)")
    run.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    run.set_defaults(command=_run)
    history = commands.add_parser("history", help="put the demand of the two days before a scenario on the twin bus")
    history.add_argument("--scenario", required=True, help="YAML file, or a shipped scenario: demo, smoke")
    history.add_argument("--bus", required=True, help="twin bus, kafka://host:port")
    history.set_defaults(command=_history)
    check = commands.add_parser("check", help="check a scenario and name every fault in it")
    check.add_argument("scenario", help="YAML file, or a shipped scenario")
    check.set_defaults(command=_check)
    settings = commands.add_parser("settings", help="write what apps have to be told of a scenario, as YAML")
    settings.add_argument("--scenario", required=True, help="YAML file, or a shipped scenario")
    settings.add_argument("--out", type=Path, help="file; standard output without it")
    settings.set_defaults(command=_settings)
    reference = commands.add_parser("reference", help="write docs/reference/scenario.md from the model")
    reference.add_argument("--out", type=Path, help="file; standard output without it")
    reference.set_defaults(command=_reference)
    microgrids = commands.add_parser("microgrids", help="make the runs that microgrid_guard trains on")
    microgrids.add_argument("--out", type=Path, required=True)
    microgrids.add_argument("--seeds", type=int, default=16, help="number of runs")
    microgrids.add_argument("--minutes", type=float, default=20.0, help="length of a run")
    microgrids.set_defaults(command=_microgrids)
    waveforms = commands.add_parser("waveforms", help="make the labelled windows that fault_alarm trains on")
    waveforms.add_argument("--out", type=Path, required=True)
    waveforms.add_argument("--seed", type=int, default=1)
    waveforms.add_argument("--batches", type=int, default=18, help="batches of runs")
    waveforms.add_argument("--batch", type=int, default=256, help="runs per batch")
    waveforms.add_argument("--duration-s", type=float, default=0.16, help="length of a run [s]")
    waveforms.set_defaults(command=_waveforms)
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.speed < 0:
        raise TwinRicError("CONFIG-RANGE", "--speed", options.speed, ">= 0")
    configure_logging(options.log_level)
    scenario = load_scenario(options.scenario)
    return asyncio.run(_serve(Network(scenario), options))


async def _serve(network: Network, options: argparse.Namespace) -> int:
    agents = E2Agents(network, options.ric, metrics=Metrics("e2sim"), tls=_tls(options))
    engine = Engine(network, agents, WallClock(), speed=options.speed or None)
    given = E3Endpoints()
    endpoints = E3Endpoints(
        options.e3_setup_endpoint or given.setup, options.e3_inbound_endpoint or given.inbound,
        options.e3_outbound_endpoint or given.outbound,
    )  # fmt: skip
    feeders = FeederAgent.of(network, agents, endpoints)
    engine.hooks.append(feeders.play)
    stop_on_signals(engine)
    async with AsyncExitStack() as stack:
        if options.a1:
            client = await stack.enter_async_context(aclosing(A1pClient(options.a1)))
            engine.hooks.append(Operator(network.scenario, client).play)
        if DesiredAgent.wanted(network):
            await _act_on_desired(engine, options.bus, stack)
        stack.push_async_callback(agents.stop)
        stack.push_async_callback(feeders.stop)
        await feeders.start()
        if not await engine.stopped_before(agents.start(options.wait_s)):
            await engine.run()
        if options.hold:
            await engine.stopped()
    return 0


async def _act_on_desired(engine: Engine, url: str, stack: AsyncExitStack) -> None:
    """Let the nodes that are told over the bus be so, until `stack` closes. Raises TwinRicError without a bus."""
    if not url.startswith("kafka"):
        accepted = "kafka://host:port, as nodes of this scenario are desired_by_bus"
        raise TwinRicError("CONFIG-RANGE", "--bus", url, accepted, "Processes share no memory.")
    metrics, network = Metrics("e2sim"), engine.network
    bus = open_bus(url, metrics, client_id="e2sim-desired")
    stack.push_async_callback(bus.stop)
    await bus.start()
    clock = SimClock(network.now_s)  # the homes' own time: what the topic holds may be of another run
    engine.hooks.append(lambda _, end_s: clock.advance_to(end_s))
    agent = DesiredAgent(network, Twins(bus, clock, metrics, "e2sim/desired"))
    stack.push_async_callback(agent.stop)
    await agent.start()


def _tls(options: argparse.Namespace) -> TlsMaterial | None:
    files = {name: getattr(options, f"tls_{name}") for name in TlsFiles.model_fields}
    given = {name: file for name, file in files.items() if file is not None}
    return load_tls(validate(TlsFiles, given, "CONFIG")) if given else None


def _history(options: argparse.Namespace) -> int:
    if options.bus.startswith("memory"):
        raise TwinRicError("CONFIG-RANGE", "--bus", options.bus, "kafka://host:port", "Processes share no memory.")
    configure_logging("WARNING")
    network = Network(load_scenario(options.scenario))
    published = asyncio.run(_publish_history(network, options.bus))
    sys.stdout.write("".join(f"demand_history/{node_id}: {len(table)} homes\n" for node_id, table in published.items()))
    return 0


async def _publish_history(network: Network, url: str) -> dict[str, Table]:
    metrics = Metrics("e2sim")
    bus = open_bus(url, metrics, client_id="e2sim-history")
    try:
        await bus.start()
        return await hand_over_history(network, Twins(bus, WallClock(), metrics, PRODUCER))
    finally:
        await bus.stop()


def _check(options: argparse.Namespace) -> int:
    scenario = load_scenario(options.scenario)
    steps = sum(1 for _ in scenario.instants())
    sys.stdout.write(
        f"{scenario.name}: {len(scenario.nodes)} nodes, {scenario.duration_s:g} s in {steps} steps. Valid.\n"
    )
    return 0


def _settings(options: argparse.Namespace) -> int:
    return _write(yaml.safe_dump(told(load_scenario(options.scenario))), options.out)


def _reference(options: argparse.Namespace) -> int:
    return _write(scenario_reference(), options.out)


def _write(text: str, file: Path | None) -> int:
    if file is None:
        sys.stdout.write(text)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return 0


def _microgrids(options: argparse.Namespace) -> int:
    from e2sim.grid.microgrids import generate_runs

    sys.stdout.write(f"{generate_runs(options.out, tuple(range(options.seeds)), options.minutes)}\n")
    return 0


def _waveforms(options: argparse.Namespace) -> int:
    from e2sim.grid.waveforms import generate_events

    size = {"batches": options.batches, "batch": options.batch, "duration_s": options.duration_s}
    sys.stdout.write(f"{generate_events(options.out, seed=options.seed, **size)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
