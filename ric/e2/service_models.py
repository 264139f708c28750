"""The service models that the RIC knows by name: what a control sets, and how to see that it took effect. Pure.

A service model that is not listed is used by its object identifier as name; its controls then count as one setting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from ric.e2.identities import OID
from ric.e2.observations import UNKNOWN_SPAN, Observation, Seen, Span
from ric.e2.set_points import observe_set_points, set_points_of, verify_set_points
from ric.e2sm import ccc, dapp, grid, kpm
from ric.errors import TwinRicError, nearest

__all__ = ["SERVICE_MODELS", "ServiceModel", "ServiceModelId", "model_of", "oid_of"]

ServiceModelId: TypeAlias = tuple[str, str]
"""Name and version, for example ("oran-e2sm-kpm", "v2")."""

SLOTS = "TWINRIC.FlexeSlots"

Settings: TypeAlias = Mapping[str, object]
"""What one control sets: parameter key -> value."""


@dataclass(frozen=True)
class ServiceModel:
    """One service model: its names, `settings` of a control, and `verify` of header, settings, message and outcome:
    when the control is in force; raises E2-UNVERIFIED where it is not.

    `quantities`: those settings that are amounts, in the parameter's unit. `observe` reads them from the indications of
    the service model `observed_in` (object identifier; empty: nowhere); it raises TwinRicError for what it cannot read.
    """

    name: str
    version: str
    oid: str
    ran_function_id: int
    settings: Callable[[bytes, bytes], Settings]
    verify: Callable[[bytes, Settings, bytes, bytes], Span]
    quantities: Callable[[Settings], Mapping[str, float]] = lambda _: {}
    observed_in: str = ""
    observe: Callable[[bytes, bytes], Observation] = lambda _header, _message: Observation(0, {})


def _whole(header: bytes, payload: bytes) -> Settings:
    return {"(whole function)": (header, payload)}


def _unchecked(header: bytes, settings: Settings, payload: bytes, outcome: bytes) -> Span:  # noqa: ARG001
    return UNKNOWN_SPAN


def _slice_settings(header: bytes, payload: bytes) -> Settings:
    return {f"slice {ratio.s_nssai}": ratio for ratio in ccc.decode_control(header, payload)}


def _verify_slices(header: bytes, settings: Settings, payload: bytes, outcome: bytes) -> Span:  # noqa: ARG001
    if payload == outcome:
        return UNKNOWN_SPAN
    wanted = {ratio.s_nssai: ratio for ratio in ccc.decode_outcome(payload, "control_message")}
    in_force = {ratio.s_nssai: ratio for ratio in ccc.decode_outcome(outcome)}
    for name, ratio in wanted.items():
        if in_force.get(name) != ratio:
            raise TwinRicError("E2-UNVERIFIED", f"slice {name}", in_force.get(name, "(absent)"), str(ratio))
    return UNKNOWN_SPAN


def _slice_percents(settings: Settings) -> Mapping[str, float]:
    return {
        key: float(ratio.rrm_policy_dedicated_ratio)
        for key, ratio in settings.items()
        if isinstance(ratio, ccc.SliceRatio)
    }


def _slices_reported(header: bytes, message: bytes) -> Observation:
    """Dedicated ratios [%] as a KPM report has them: slots in force, by slice; nothing where it leaves them out."""
    report = kpm.decode_indication(header, message)
    if SLOTS not in report.measurement_names:
        return Observation(report.source_time_ns, {})
    slots, time_ns = report.of(SLOTS).tolist(), report.source_time_ns
    rows = zip(report.items, slots, strict=True)
    percents = {
        f"slice {item.s_nssai}": Seen(each * ccc.SLOT_PERCENT, time_ns) for item, each in rows if not item.ue_id
    }
    return Observation(time_ns, percents)


def _set_points(header: bytes, payload: bytes) -> Settings:
    return set_points_of(header, payload)


def _set_points_in_force(header: bytes, settings: Settings, payload: bytes, outcome: bytes) -> Span:  # noqa: ARG001
    return verify_set_points(header, _powers(settings), outcome)


def _powers(settings: Settings) -> Mapping[str, float]:
    return cast(Mapping[str, float], settings)


SERVICE_MODELS: Mapping[ServiceModelId, ServiceModel] = {
    (kpm.NAME, kpm.VERSION): ServiceModel(kpm.NAME, kpm.VERSION, kpm.OID, kpm.RAN_FUNCTION_ID, _whole, _unchecked),
    (ccc.NAME, ccc.VERSION): ServiceModel(
        ccc.NAME,
        ccc.VERSION,
        ccc.OID,
        ccc.RAN_FUNCTION_ID,
        _slice_settings,
        _verify_slices,
        _slice_percents,
        kpm.OID,
        _slices_reported,
    ),
    (grid.NAME, grid.VERSION): ServiceModel(
        grid.NAME,
        grid.VERSION,
        grid.OID,
        grid.RAN_FUNCTION_ID,
        _set_points,
        _set_points_in_force,
        _powers,
        grid.OID,
        observe_set_points,
    ),
    (dapp.NAME, dapp.VERSION): ServiceModel(
        dapp.NAME, dapp.VERSION, dapp.OID, dapp.RAN_FUNCTION_ID, _whole, _unchecked
    ),
}


def model_of(service_model: ServiceModelId) -> ServiceModel:
    """The service model with that name and version, or one made for an object identifier given as name.

    Raises TwinRicError (E2-FUNCTION-UNKNOWN) naming the nearest.
    """
    known = SERVICE_MODELS.get(service_model)
    if known is not None:
        return known
    name, version = service_model
    if OID.fullmatch(name):
        return ServiceModel(name, version, name, -1, _whole, _unchecked)
    shown = [" ".join(each) for each in SERVICE_MODELS]
    accepted = "a known name and version, or an object identifier as name"
    raise TwinRicError(
        "E2-FUNCTION-UNKNOWN", "service_model", f"{name} {version}", accepted, nearest(f"{name} {version}", shown)
    )


def oid_of(service_model: ServiceModelId) -> str:
    """Object identifier of a service model. Raises TwinRicError (E2-FUNCTION-UNKNOWN)."""
    return model_of(service_model).oid
