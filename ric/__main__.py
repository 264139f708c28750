"""The `twinric` command. Apps and simulator are found by entry points, so the RIC imports none of them."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from ric.a1.client import A1pClient
from ric.bus.bus import COMPACTED_TOPICS, TWIN_REPORTED, open_bus
from ric.bus.record import decode
from ric.clock import to_s
from ric.config import read_yaml
from ric.errors import TwinRicError, nearest
from ric.security_cli import audit_cli, certs
from ric.telemetry import Metrics, configure_logging
from ric.up import HOST, Ports, Supervisor, check_free, processes_of

__all__ = ["main"]

APPS, TOOLS = "twinric.apps", "twinric.tools"
BENCHMARKS = (
    "a1_rest", "bus", "conflict_check", "demo", "e2_loop", "e2_scale", "e2_throughput", "e3_loop", "fault_detection",
    "fuzz", "hems_fleet", "hems_fleet_cap", "hems_shards", "hems_year", "microgrid_guard", "slice_decision",
    "slice_env", "slice_fault", "slice_rl",
)  # fmt: skip

cli = typer.Typer(
    name="twinric",
    help="Smart-grid digital twins on an O-RAN: rApps, xApps and dApps in one closed loop.",
    epilog="Start with `twinric demo`: one simulated day, a report in out/demo.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
policy_cli = typer.Typer(help="A1 policies: list, put, delete, status.", no_args_is_help=True)
cli.add_typer(policy_cli, name="policy")
explain_cli = typer.Typer(help="Why a device does what it does, in plain words.", no_args_is_help=True)
cli.add_typer(explain_cli, name="explain")
cli.add_typer(audit_cli, name="audit")
cli.command("certs")(certs)
PIPE_WIDTH = 240
"""Columns of a table that no terminal limits, so that a pipe gets whole ids."""
out = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)

Result = TypeVar("Result")
A1Url = Annotated[str, typer.Option("--a1", help="A1-P v2 base address of the RIC.", envvar="TWINRIC_A1_URL")]
TokenFile = Annotated[Path | None, typer.Option(help="File that holds a bearer token.", envvar="TWINRIC_TOKEN_FILE")]
BusUrl = Annotated[str, typer.Option("--bus", help="Twin bus, kafka://host:port.", envvar="TWINRIC_BUS_URL")]
DEFAULT_A1 = "http://127.0.0.1:9000"
A1_URL = re.compile(r"https?://[\w.\-\[\]:]+/?")


def _tool(name: str) -> Callable[..., Any]:
    """A function of the simulator. Raises TwinRicError when the simulator is not installed."""
    for entry in entry_points(group=TOOLS):
        if entry.name == name:
            loaded: Callable[..., Any] = entry.load()
            return loaded
    raise TwinRicError("CONFIG-MISSING", "simulator", name, "the simulator's packages", "pip install 'twinric[e2sim]'")


def _apps() -> list[EntryPoint]:
    return sorted(entry_points(group=APPS), key=lambda entry: entry.name)


@cli.command()
def demo(
    out_dir: Annotated[Path, typer.Option("--out", help="Where report.html and summary.json go.")] = Path("out/demo"),
    scenario: Annotated[str, typer.Option(help="Shipped scenario or a YAML file.")] = "demo",
    quiet: Annotated[bool, typer.Option(help="No live progress.")] = False,
) -> None:
    """Run one simulated day through all three RICs in this process, with and without the apps, and report the gain."""
    configure_logging("ERROR", json=False)
    raise typer.Exit(_tool("demo")(scenario, out_dir, quiet=quiet))


@cli.command()
def up(
    scenario: Annotated[str, typer.Option(help="Shipped scenario or a YAML file.")] = "smoke",
    bus: BusUrl = "kafka://127.0.0.1:9092",
    speed: Annotated[float, typer.Option(help="Simulated seconds per second.", min=0.01, max=10_000)] = 1.0,
    data: Annotated[Path | None, typer.Option(help="Folder for settings, logs and stored policies.")] = None,
    restart: Annotated[bool, typer.Option(help="Restart a process that dies.")] = True,
    port_base: Annotated[
        int, typer.Option(help="First of 14 ports in a row; 0 takes the usual ones.", min=0, max=65_000)
    ] = 0,
) -> None:
    """Start the RIC, the simulator and every app as processes of their own; Ctrl-C stops them."""
    if not bus.startswith("kafka://"):
        remedy = "`make kafka` starts a broker; processes share no memory."
        raise TwinRicError("CONFIG-RANGE", "--bus", bus, "kafka://host:port", remedy)
    if status := _tool("sim")(["check", scenario]):
        raise typer.Exit(status)
    configure_logging("INFO", json=False)
    folder = data or Path(tempfile.mkdtemp(prefix="twinric-"))
    apps = [(entry.name, entry.module.removesuffix(".app")) for entry in _apps()]
    ports = Ports.from_base(port_base) if port_base else Ports()
    check_free(ports.taken(len(apps)))
    told = _told(scenario, folder / "config" / "scenario.yaml")
    processes = processes_of(apps, told, scenario=scenario, bus_url=bus, speed=speed, data=folder, ports=ports)
    supervisor = Supervisor(processes, folder / "log", restart)
    a1_url = f"http://{HOST}:{ports.a1_rest}"
    out.print(
        f"{len(processes)} processes; logs in {folder / 'log'}; policies at {a1_url}; Ctrl-C stops them", soft_wrap=True
    )
    status = asyncio.run(_supervise(supervisor))
    if supervisor.fault:
        _complain(supervisor.fault)
    raise typer.Exit(status)


def _told(scenario: str, file: Path) -> dict[str, dict[str, Any]]:
    """By app the settings that a scenario asks for, since no interface tells of them; `file` takes them all."""
    if status := _tool("sim")(["settings", "--scenario", scenario, "--out", str(file)]):
        raise typer.Exit(status)
    values, told = read_yaml(file), dict[str, dict[str, Any]]()
    for entry in _apps() if values else ():
        try:
            fields = entry.load().config_type.model_fields
        except ImportError:
            continue  # not installed whole: its process says so
        told[entry.name] = {name: value for name, value in values.items() if name in fields}
    return told


async def _supervise(supervisor: Supervisor) -> int:
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, supervisor.stop)
    return await supervisor.run()


@cli.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def sim(context: typer.Context) -> None:
    """The E2 simulator by itself; `twinric sim --help` shows its commands."""
    raise typer.Exit(_tool("sim")(context.args))


@cli.command()
def serve(config: Annotated[Path | None, typer.Option(help="YAML settings of the RIC.")] = None) -> None:
    """The RIC itself: E2 and A1 terminations, alarms."""
    from ric.platform import serve_platform  # imported here: the other commands need no servers

    serve_platform(config)


@cli.command()
def apps() -> None:
    """The installed apps: RIC, budget and A1 policy type of each."""
    table = RichTable("app", "RIC", "budget", "A1 policy type", "start it with")
    for entry in _apps():
        module = entry.module.removesuffix(".app")
        try:
            spec = entry.load().spec
        except ImportError as error:
            table.add_row(entry.name, "", "", f"not installed: {error}", escape(f"pip install 'twinric[{entry.name}]'"))
            continue
        table.add_row(spec.name, spec.ric.value, f"{spec.budget_ms:g} ms", spec.policy_type_id, f"python -m {module}")
    out.print(table)


@policy_cli.command("list")
def policy_list(a1: A1Url = DEFAULT_A1, token_file: TokenFile = None) -> None:
    """Every policy with its type and status."""

    async def rows(client: A1pClient) -> list[tuple[str, str, str]]:
        found = []
        for type_id in await client.policy_types():
            for policy_id in await client.list_policies(type_id):
                status = await client.policy_status(type_id, policy_id)
                found.append((type_id, policy_id, _status_text(status)))
        return found

    table = RichTable("policy type", "policy", "status")
    for row in _with_client(a1, token_file, rows):
        table.add_row(*row)
    out.print(table)


@policy_cli.command("types")
def policy_types(a1: A1Url = DEFAULT_A1, token_file: TokenFile = None) -> None:
    """The policy types that apps have registered."""
    for type_id in _with_client(a1, token_file, lambda client: client.policy_types()):
        out.print(type_id)


@policy_cli.command("put")
def policy_put(
    type_id: str,
    policy_id: str,
    body: Annotated[str, typer.Argument(help="Policy as a JSON object, or @FILE.")],
    a1: A1Url = DEFAULT_A1,
    token_file: TokenFile = None,
) -> None:
    """Create or replace a policy."""
    try:
        text = Path(body[1:]).read_text(encoding="utf-8") if body.startswith("@") else body
        value = json.loads(text)
    except (OSError, ValueError) as error:
        raise TwinRicError("A1-MALFORMED", "BODY", body, "a JSON object or @FILE that holds one") from error
    _with_client(a1, token_file, lambda client: client.put_policy(type_id, policy_id, value))
    out.print(f"stored {policy_id}; `twinric policy status {type_id} {policy_id}` tells when it is enforced")


@policy_cli.command("delete")
def policy_delete(type_id: str, policy_id: str, a1: A1Url = DEFAULT_A1, token_file: TokenFile = None) -> None:
    """Delete a policy."""
    _with_client(a1, token_file, lambda client: client.delete_policy(type_id, policy_id))
    out.print(f"deleted {policy_id}")


@policy_cli.command("status")
def policy_status(type_id: str, policy_id: str, a1: A1Url = DEFAULT_A1, token_file: TokenFile = None) -> None:
    """Whether the policy is enforced and, if not, why."""
    out.print(_status_text(_with_client(a1, token_file, lambda client: client.policy_status(type_id, policy_id))))


def _status_text(status: dict[str, Any]) -> str:
    return " ".join(str(status[key]) for key in ("enforceStatus", "enforceReason") if status.get(key))


def _with_client(url: str, token_file: Path | None, work: Callable[[A1pClient], Coroutine[Any, Any, Result]]) -> Result:
    token = _token(token_file)

    async def run() -> Result:
        async with aclosing(A1pClient(_checked(url), token=token)) as client:
            return await work(client)

    return asyncio.run(run())


def _checked(url: str) -> str:
    if not A1_URL.fullmatch(url):
        raise TwinRicError("CONFIG-RANGE", "--a1", url, "http://host:port or https://host:port")
    return url


def _token(file: Path | None) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip() if file else None
    except (OSError, UnicodeDecodeError) as error:
        raise TwinRicError("CONFIG-MISSING", "--token-file", str(file), "a readable text file") from error


@cli.command()
def twins(
    bus: BusUrl = "kafka://127.0.0.1:9092",
    topic: Annotated[str, typer.Option(help="twin.reported, twin.desired or twin.forecast.")] = TWIN_REPORTED,
) -> None:
    """The newest revision of every twin on the bus."""
    if topic not in COMPACTED_TOPICS:
        accepted = f"one of {', '.join(COMPACTED_TOPICS)}"
        raise TwinRicError("BUS-RANGE", "--topic", topic, accepted, nearest(topic, COMPACTED_TOPICS))

    async def newest() -> list[tuple[str, ...]]:
        link = open_bus(bus, Metrics("cli"), client_id="twinric-cli")
        await link.start()
        try:
            states = [decode(message.value) for message in (await link.latest(topic)).values()]
        finally:
            await link.stop()
        return [
            (s.twin_id, str(s.revision), _instant(s.source_time_ns), str(len(s.table)), s.producer)
            for s in sorted(states, key=lambda state: state.twin_id)
        ]

    table = RichTable("twin", "revision", "source time", "entities", "producer")
    for row in asyncio.run(newest()):
        table.add_row(*row)
    out.print(table)


@cli.command()
def alarms(
    a1: A1Url = DEFAULT_A1,
    history: Annotated[bool, typer.Option(help="Cleared alarms too.")] = False,
    token_file: TokenFile = None,
) -> None:
    """The active alarms of all apps."""
    rows = _overview("/o1/v1/alarms", a1, token_file, {"state": "history" if history else "active"})
    table = RichTable("managed object", "problem", "severity", "application", "since")
    for row in rows:
        table.add_row(
            row["managedObject"], row["specificProblem"], row["perceivedSeverity"], row["application"], row["eventTime"]
        )
    out.print(table)


@cli.command()
def conflicts(
    a1: A1Url = DEFAULT_A1,
    app: Annotated[str, typer.Option(help="Only decisions that this app won or lost.")] = "",
    token_file: TokenFile = None,
) -> None:
    """The newest conflicts between xApps: who asked for what, who won, and why."""
    table = RichTable("time", "app", "node", "parameter", "outcome", "winner", "why")
    for row in _overview("/twinric/v1/conflicts", a1, token_file, {}):
        if app and app not in (row["app"], row["winner"], *row["losers"]):
            continue
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in row["numbers"].items())
        kind = row["details"].get("conflict", "")
        more = len(row["parameters"]) - 1
        outcome = "failed" if row["reason"] == "EFFECT_NOT_SEEN" else "admitted" if row["admitted"] else "refused"
        table.add_row(
            _instant(row["timeNs"]), row["app"], row["e2NodeId"],
            row["parameters"][0] + (f" (+{more})" if more else ""),
            outcome + (f", {kind}" if kind else ""), row["winner"],
            f"{row['reason']}: {numbers}",
        )  # fmt: skip
    out.print(table)


@explain_cli.command("home")
def explain_home(
    home_id: str,
    device: Annotated[str, typer.Option(help="ev, battery, heat, generation or an appliance; all without it.")] = "",
    a1: A1Url = DEFAULT_A1,
    token_file: TokenFile = None,
) -> None:
    """What each device of a home does now, since when, and why."""
    rows = _overview("/twinric/v1/explanations", a1, token_file, {"subject": home_id, "device": device})
    if not rows:
        what = f"{home_id}/{device}" if device else home_id
        raise TwinRicError("CONFIG-RANGE", "HOME_ID", what, "a home (and device) that an app has decided on")
    for row in rows:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in row["numbers"].items())
        out.print(f"[bold]{row['e2NodeId']} {row['subject']} {row['device']}[/]: {escape(row['text'])}", soft_wrap=True)
        since, as_of = _instant(row["sinceNs"]), _instant(row["asOfNs"])
        out.print(f"  {row['code']} since {since}, as of {as_of}: {numbers}", soft_wrap=True, highlight=False)


def _overview(path: str, a1: str, token_file: Path | None, query: dict[str, str]) -> list[dict[str, Any]]:
    """The rows at `path` of the RIC's REST server. Raises TwinRicError (A1-UNREACHABLE)."""
    token = _token(token_file)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(f"{_checked(a1).rstrip('/')}{path}", params=query, headers=headers, trust_env=False)
        answer.raise_for_status()
        return list(answer.json())
    except (httpx.HTTPError, ValueError) as error:
        raise TwinRicError("A1-UNREACHABLE", "--a1", a1, "the address of a running RIC", str(error)) from error


@cli.command()
def bench(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHMARKS)}.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the figures go.")] = None,
) -> None:
    """Run a benchmark from a checkout of the repository."""
    if name not in BENCHMARKS:
        raise TwinRicError("CONFIG-RANGE", "NAME", name, "a benchmark", nearest(name, BENCHMARKS))
    sys.argv = [name, *(["--json", str(json_file)] if json_file else [])]
    sys.path.insert(0, str(Path.cwd()))
    try:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    except ModuleNotFoundError as error:
        raise TwinRicError("CONFIG-MISSING", "benchmarks", str(Path.cwd()), "a checkout of the repository") from error


def _instant(time_ns: int) -> str:
    return datetime.fromtimestamp(to_s(time_ns), UTC).isoformat(timespec="seconds")


def _complain(text: str) -> None:
    Console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point: errors are told in one line each, without a traceback."""
    try:
        cli()
    except TwinRicError as error:
        _complain(str(error))
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
