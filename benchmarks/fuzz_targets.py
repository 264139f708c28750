"""What `benchmarks.fuzz` throws malformed input at: every decoder and endpoint, each with valid seeds.

A target takes one input, some pieces of octets, and returns when it was taken, raises TwinRicError when it was refused;
anything else is a crash.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel

from benchmarks.fuzz_live import LiveE3, LiveServers
from benchmarks.fuzz_rest import RestApplication
from dapps.fault_alarm.app import FaultAlarmApp
from dapps.fault_alarm.model import load_classifier
from e2sim.e3_agent import E3Agent
from e2sim.scenario import parse_scenario
from rapps.demand_twin.app import DemandTwinApp
from rapps.storage_scheduling.app import StorageSchedulingApp
from ric.a1.bodies import parse_object
from ric.a1.policies import parse_type
from ric.app_policies import policy_type_object
from ric.bus import record
from ric.columns import Table, decode_table, encode_table
from ric.config import load_config, read_yaml, validate
from ric.e2.effects import Refused, RicIdentity
from ric.e2.procedures import NodeProcedures
from ric.e2.service_models import SERVICE_MODELS
from ric.e2.set_points import observe_set_points
from ric.e2sm import ccc, dapp, grid, kpm
from ric.e3.e3ap import FEEDER_FUNCTION_ID, Waveform, decode_pdu, decode_waveform, encode_pdu, encode_waveform
from ric.e3.session import E3Endpoints, E3Session
from ric.errors import TwinRicError
from ric.o1.alarms import decode_alarm
from ric.pb.libe3.e3ap.v1 import e3ap_pb2 as e3
from ric.pb.twinric.bus.v1.record_pb2 import Alarm, PerceivedSeverity
from ric.pb.twinric.columns.v1.columns_pb2 import Table as PbTable
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as e2
from ric.platform import RicConfig
from ric.runtime import App
from ric.schemas import GRID_SCHEMAS, IN_FORCE_SCHEMAS, TWIN_SCHEMAS
from ric.telemetry import Metrics
from xapps.hems_load.app import HemsLoadApp
from xapps.microgrid_guard.app import MicrogridGuardApp
from xapps.slice_bandwidth.app import SliceBandwidthApp

__all__ = ["SHARES", "Target", "make_target"]

Pieces = tuple[bytes, ...]
APPS: tuple[type[App[Any, Any, Any, Any]], ...] = (
    DemandTwinApp, StorageSchedulingApp, HemsLoadApp, SliceBandwidthApp, MicrogridGuardApp, FaultAlarmApp,
)  # fmt: skip
T0 = 1_700_000_000 * 10**9
NODE = "00101-e2000001"
SCENARIOS = Path(__file__).resolve().parent.parent / "e2sim" / "scenarios"


@dataclass(frozen=True)
class Target:
    """Valid seeds, and what takes an input; `text` inputs are mutated as JSON trees too."""

    seeds: Sequence[Pieces]
    take: Callable[[Pieces], object]
    text: bool = False


def _table(kind: str, number: int = 2) -> Table:
    schema = {**TWIN_SCHEMAS, **GRID_SCHEMAS, **IN_FORCE_SCHEMAS}[kind]
    columns = {}
    for name, quantity in schema.columns.items():
        low, high = max(quantity.low, -1e6), min(quantity.high, 1e6)
        width = quantity.width or 3
        values = np.linspace(low, high, number * width)
        columns[name] = values if quantity.width == 1 else values.reshape(number, width)
    quality = {next(iter(columns)): np.array([1] * number, np.uint8)}
    return Table(kind, tuple(f"id-{n}" for n in range(number)), columns, T0, quality, schema.version)


# E2 -------------------------------------------------------------------------------------------------------------------


def _node_pdus() -> list[e2.E2apPdu]:
    request = e2.RicRequestId(requestor_id=1, instance_id=1)
    setup = e2.E2SetupRequest(
        global_e2_node_id=e2.GlobalE2NodeId(plmn_id="00101", gnb_id=0xE2000001), keep_alive_ms=5_000,
        ran_functions=[e2.RanFunction(ran_function_id=2, oid=kpm.OID, revision=1)], component_configuration={"x": b"y"},
    )  # fmt: skip
    indication = e2.RicIndication(
        ric_request_id=request, ran_function_id=2, ric_action_id=0, indication_sn=3, header=b"h", message=b"m"
    )  # fmt: skip
    known: dict[str, Any] = {"e2_setup_request": setup, "ric_indication": indication}
    pdus = []
    for name in (field.name for field in e2.E2apPdu.DESCRIPTOR.oneofs_by_name["pdu"].fields):
        pdu = e2.E2apPdu(transaction_id=1)
        message = getattr(pdu, name)
        message.SetInParent()
        if name in known:
            message.CopyFrom(known[name])
        elif hasattr(message, "ric_request_id"):
            message.ric_request_id.CopyFrom(request)
        pdus.append(pdu)
    return pdus


def _e2ap() -> Target:
    octets = [pdu.SerializeToString() for pdu in _node_pdus()]
    setup = next(each.SerializeToString() for each in _node_pdus() if each.HasField("e2_setup_request"))

    def take(pieces: Pieces) -> object:
        node = NodeProcedures(RicIdentity("00101", 1), 0.0)
        if len(pieces) == 2:
            node.receive(setup, 0.0)
            node.request_subscription(2, b"", [])
            node.request_control(2, "call", b"", b"")
        effects = node.receive(pieces[-1], 1.0)
        refused = [effect for effect in effects if isinstance(effect, Refused)]
        if refused:
            raise refused[0].error
        return effects

    return Target([(b"", each) for each in octets] + [(each,) for each in octets], take)


def _e2sm() -> Target:
    items = (kpm.KpmItem("00101-1", "1-000001"), kpm.KpmItem("00101-1", "1-000001", "ue-1"))
    report = kpm.KpmReport(NODE, T0, 100, ("DRB.UEThpDl",), items, np.array([[1.0, 2.0]]))
    set_points = grid.GridControl(_table("storage_set_point"), T0, "OPTIMAL")
    ratios = (ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),)
    fleet = grid.GridReport(NODE, T0, {"storage_set_point": _table("storage_set_point")})
    homes = replace(fleet, tables={"home_report": _table("home_report")}, starts_ns={"home_report": T0})
    homes = replace(homes, in_force={"home_in_force": _table("home_in_force")})
    alarm = dapp.DAppReport(NODE, T0, 1, 1, Alarm.FromString(_alarm()))
    decoders: list[tuple[Callable[..., object], Pieces]] = [
        (kpm.decode_trigger, (kpm.encode_trigger(100),)),
        (kpm.decode_action, (kpm.encode_action(("DRB.UEThpDl",)),)),
        (kpm.decode_indication, kpm.encode_indication(report)),
        (ccc.decode_control, ccc.encode_control(ratios)),
        (ccc.decode_outcome, (ccc.encode_outcome(ratios),)),
        (grid.decode_trigger, (grid.encode_trigger(1_000),)),
        (grid.decode_action, (grid.encode_action(("home_report",)),)),
        (grid.decode_indication, grid.encode_indication(fleet)),
        (observe_set_points, grid.encode_indication(homes)),
        (grid.decode_outcome, (grid.encode_outcome(_table("storage_set_point")),)),
        (grid.decode_control, grid.encode_control(set_points)),
        (dapp.decode_indication, dapp.encode_indication(alarm)),
        *((model.settings, ccc.encode_control(ratios)) for model in SERVICE_MODELS.values()),
        *((model.settings, grid.encode_control(set_points)) for model in SERVICE_MODELS.values()),
        *((model.observe, kpm.encode_indication(report)) for model in SERVICE_MODELS.values() if model.observed_in),
    ]
    seeds = [(bytes([index]), *pieces) for index, (_, pieces) in enumerate(decoders)]

    def take(pieces: Pieces) -> object:
        decode, seed = decoders[pieces[0][0] % len(decoders) if pieces[0] else 0]
        arguments = (*pieces[1:], *(b"",) * len(seed))[: len(seed)]
        return decode(*arguments)

    return Target(seeds, take)


# E3 -------------------------------------------------------------------------------------------------------------------


def _e3_pdus() -> list[e3.E3Pdu]:
    pdus = []
    for field in e3.E3Pdu.DESCRIPTOR.oneofs_by_name["msg"].fields:
        pdu = e3.E3Pdu(id=7, timestamp=T0)
        message = getattr(pdu, field.name)
        message.SetInParent()
        for inner in message.DESCRIPTOR.fields:
            if inner.name in ("dapp_identifier", "ran_function_identifier", "sequence_id", "control_identifier"):
                setattr(message, inner.name, {"ran_function_identifier": FEEDER_FUNCTION_ID}.get(inner.name, 1))
            elif inner.type == inner.TYPE_STRING:
                setattr(message, inner.name, "1.0.0")
        pdus.append(pdu)
    return pdus


def _e3ap() -> Target:
    endpoints = E3Endpoints(*["tcp://127.0.0.1:0"] * 3)
    session = E3Session(endpoints, dapp_name="x", dapp_version="1", vendor="y", metrics=Metrics("fuzz"))
    session.dapp_identifier = 1
    samples = np.zeros((2, 6, 20), np.float32)
    wave = encode_waveform(Waveform(4_000, 1, T0, samples))
    loop = asyncio.new_event_loop()

    async def drop(*_: Any) -> None:
        return None

    agent = E3Agent(endpoints, "du-1", on_report=drop, on_control=drop, metrics=Metrics("fuzz"))
    agent._send = drop  # type: ignore[method-assign, assignment]  # no sockets: the network is not what is tested
    setup = next(each for each in _e3_pdus() if each.WhichOneof("msg") == "setup_request")

    def take(pieces: Pieces) -> object:
        way, octets = pieces
        if way == b"wave":
            return decode_waveform(octets)
        pdu = decode_pdu(octets)
        if way == b"dapp":
            session._take(pdu, lambda *_: None)
            return None
        if not agent._dapps:
            agent._accept(setup, e3.SetupResponse())
        if way == b"setup":
            agent._dapps.clear()
            agent._accept(pdu, e3.SetupResponse())
            return None
        for known in agent._dapps.values():
            known.last_sequence = 0
        return loop.run_until_complete(agent._take(pdu))

    pdus = [encode_pdu(each) for each in _e3_pdus()]
    ways = (b"dapp", b"agent", b"setup")
    return Target([*((way, each) for way in ways for each in pdus), (b"wave", wave)], take)


# Bus, columns, alarms -------------------------------------------------------------------------------------------------


def _alarm() -> bytes:
    return Alarm(
        managed_object="feeder/1", application="fault_alarm", specific_problem="ARCING", event_time_ns=T0,
        perceived_severity=PerceivedSeverity.PERCEIVED_SEVERITY_MAJOR, detected_time_ns=T0, detection_ms=4.0,
        numbers={"p": 0.9}, details={"a": "b"}, trace_id="ab" * 16,
    ).SerializeToString()  # fmt: skip


def _states() -> list[record.TwinState]:
    states: list[record.TwinState] = []
    for kind in TWIN_SCHEMAS:
        first = record.successor(
            None, twin_id=f"{kind}/{NODE}", kind=kind, table=_table(kind), now_ns=T0, valid_for_ms=5_000,
            producer="fuzz/1", trace_id="",
        )  # fmt: skip
        states.append(first)
    return states


def _bus() -> Target:
    ack = record.encode_ack(record.Ack("slice/n1", 3, record.AckStatus.REJECTED, "why", T0))
    values = [*((b"r", record.encode(state)) for state in _states()), (b"a", ack), (b"o", _alarm())]
    headers = record.cloudevents_headers("/fuzz", record.TWIN_EVENT_TYPE, T0, "ab" * 16)
    packed = b"\n".join(f"{name}\t{text}".encode() for name, text in headers.items())
    succession = record.Succession()

    def take(pieces: Pieces) -> object:
        way, octets = pieces
        if way == b"a":
            return record.decode_ack(octets)
        if way == b"o":
            return decode_alarm(octets)
        if way == b"h":
            lines = octets.decode(errors="replace").split("\n")
            return record.decode_headers(dict(line.partition("\t")[::2] for line in lines))
        state = record.decode(octets)
        return succession.admit(state, T0)

    return Target([*values, (b"h", packed)], take)


def _columns() -> Target:
    def take(pieces: Pieces) -> object:
        message = PbTable()
        try:
            message.ParseFromString(pieces[0])
        except Exception as error:
            raise TwinRicError("BUS-MALFORMED", "table", pieces[0][:16], "a table") from error
        return decode_table(message, TWIN_SCHEMAS, "BUS")

    return Target([(encode_table(_table(kind)).SerializeToString(),) for kind in TWIN_SCHEMAS], take)


# Text: policies, configuration, scenarios -----------------------------------------------------------------------------


def _policies() -> Target:
    models = [app.policy_type for app in APPS]
    types = [json.dumps(policy_type_object(app.policy_type, app.spec)).encode() for app in APPS]
    bodies = [json.dumps(model().model_dump(mode="json")).encode() for model in models]

    def take(pieces: Pieces) -> object:
        which, octets = pieces
        if which == b"type":
            return parse_type("fuzz", "fuzz_1.0.0", octets.decode(errors="replace"))
        body = parse_object(octets, "body")
        return validate(models[which[0] % len(models) if which else 0], body, "A1", unknown_code="A1-UNKNOWN-FIELD")

    seeds = [(bytes([index]), body) for index, body in enumerate(bodies)] + [(b"type", text) for text in types]
    return Target(seeds, take, text=True)


def _files() -> Target:
    """Configuration and scenarios as files: YAML first, then the model."""
    folder = Path(tempfile.mkdtemp(prefix="twinric-fuzz-"))
    file = folder / "input.yaml"
    models: list[type[BaseModel]] = [RicConfig, *(app.config_type for app in APPS)]
    scenario = yaml.safe_load((SCENARIOS / "smoke.yaml").read_text(encoding="utf-8"))
    seeds = [(b"s", json.dumps(scenario, default=str).encode()), (b"s", (SCENARIOS / "smoke.yaml").read_bytes())]
    seeds += [
        (bytes([index]), json.dumps(model().model_dump(mode="json")).encode()) for index, model in enumerate(models)
    ]

    def take(pieces: Pieces) -> object:
        which, octets = pieces
        file.write_bytes(octets)
        if which == b"s":
            return parse_scenario(read_yaml(file))
        return load_config(models[which[0] % len(models) if which else 0], file, "TWINRIC_FUZZ", {})

    return Target(seeds, take, text=True)


def _models() -> Target:
    """ONNX files, damaged."""
    file = Path(tempfile.mkdtemp(prefix="twinric-fuzz-")) / "model.onnx"
    whole = FaultAlarmApp.config_type().model_path.read_bytes()

    def take(pieces: Pieces) -> object:
        file.write_bytes(pieces[0])
        return load_classifier(file)

    return Target([(whole,)], take)


# REST through the ASGI application ------------------------------------------------------------------------------------


def _rest() -> Target:
    rest = RestApplication(APPS)
    seeds: list[Pieces] = []
    status, text = rest.loop.run_until_complete(rest.ask("GET", b"/openapi.json", b"", b""))
    assert status == 200
    bodies = {app.spec.policy_type_id: json.dumps(app.policy_type().model_dump(mode="json")) for app in APPS}
    for path, verbs in json.loads(text)["paths"].items():
        for verb in verbs:
            for type_id, body in bodies.items():
                filled = path.replace("{policyTypeId}", type_id).replace("{policyId}", "p1")
                filled = filled.replace("{eiJobId}", "job-1")
                query = b"notificationDestination=http://127.0.0.1:1/x" if verb == "put" else b"limit=5"
                seeds.append((verb.upper().encode(), filled.encode(), query, body.encode()))

    def take(pieces: Pieces) -> object:
        method, path, query, body = pieces
        verb = "".join(chr(each) for each in method if 65 <= each <= 90) or "GET"
        status, answer = rest.loop.run_until_complete(rest.ask(verb, b"/" + path.lstrip(b"/"), query, body))
        if status >= 500:
            raise RuntimeError(f"{verb} {path[:60]!r} answered {status}: {answer[:200]!r}")
        if status >= 400:
            raise TwinRicError("REST-RANGE", "request", status, "a request that is taken")
        return answer

    return Target(seeds, take, text=True)


def _servers() -> Target:
    """Every gRPC method as it listens, over loopback."""
    live = LiveServers()
    return Target(live.seeds(), live.take)


def _sockets() -> Target:
    """The E3 agent's ZeroMQ sockets."""
    live = LiveE3()
    pdus = [encode_pdu(each) for each in _e3_pdus()]
    return Target([(way, each) for way in (b"setup", b"inbound") for each in pdus], live.take)


_MAKERS: Mapping[str, Callable[[], Target]] = {
    "e2ap": _e2ap, "e2sm": _e2sm, "e3ap": _e3ap, "bus": _bus, "columns": _columns, "policies": _policies,
    "files": _files, "models": _models, "rest": _rest, "servers": _servers, "sockets": _sockets,
}  # fmt: skip
SHARES: Mapping[str, float] = {
    "e2ap": 0.24, "e2sm": 0.26, "e3ap": 0.215, "bus": 0.145, "columns": 0.07, "policies": 0.006, "files": 0.003,
    "models": 0.001, "rest": 0.03, "servers": 0.015, "sockets": 0.015,
}  # fmt: skip
"""Share of all inputs per target: what is cheap gets more."""


def make_target(name: str) -> Target:
    """The target of that name, in this process."""
    return _MAKERS[name]()
