"""`twinric certs` and `twinric audit`: certificates for mTLS, and the proof that the audit log is whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from ric.certificates import LEAF_DAYS, LOOPBACK_HOSTS, CertificateAuthority
from ric.clock import WallClock
from ric.errors import TwinRicError
from ric.sdl import STORE_FILE, Sdl

__all__ = ["audit_cli", "certs"]

PEERS = {"ric": (), "e2sim": ("node",), "app": ("xapp",)}
"""Peers that get a certificate when none is named, and their roles."""
audit_cli = typer.Typer(help="The audit log: verify, head, list.", no_args_is_help=True)
out = Console(soft_wrap=True, highlight=False, markup=False)
DataDir = Annotated[Path, typer.Option("--data", help="data_dir of the RIC (out/up/ric after `twinric up`).")]
_HEAD = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


def certs(
    folder: Annotated[Path, typer.Option("--out", help="Folder of the authority and its certificates.")],
    name: Annotated[
        list[str] | None, typer.Option(help="Peer that gets a certificate; repeat. Else ric, e2sim, app.")
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address the peers serve at; repeat. Else the loopback.")
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="What the named peers may call: node, xapp, admin; repeat. Else anything.")
    ] = None,
    days: Annotated[float, typer.Option(help="Days that the certificates are valid.", min=0.001)] = LEAF_DAYS,
) -> None:
    """Make a test authority and certificates for mTLS; an authority that is there already issues more of them."""
    authority = CertificateAuthority(folder)
    for peer in name or PEERS:
        roles = tuple(role or (() if name else PEERS[peer]))
        files = authority.issue(peer, tuple(host or LOOPBACK_HOSTS), days=days, roles=roles)
        setting = {key: str(path.resolve()) for key, path in files.model_dump().items()}
        out.print(f"# {peer}\n{yaml.safe_dump({'tls': setting}, sort_keys=False)}", end="")


def _opened(data: Path) -> Sdl:
    path = data / STORE_FILE
    if not path.is_file():
        raise TwinRicError("CONFIG-MISSING", "--data", str(data), f"a folder that holds {STORE_FILE}")
    return Sdl(path, WallClock())


@audit_cli.command("verify")
def verify(
    data: DataDir,
    head: Annotated[
        str, typer.Option(help="NUMBER:HASH kept elsewhere; shows a log that was cut or rewritten before it.")
    ] = "",
) -> None:
    """Check every row against the hash chain; prints the head to keep elsewhere. Exits 2 where it does not match."""
    anchor = _HEAD.fullmatch(head)
    if head and anchor is None:
        raise TwinRicError("CONFIG-RANGE", "--head", head, "NUMBER:HASH as `twinric audit verify` printed it")
    sdl = _opened(data)
    try:
        newest = sdl.verify_audit((int(anchor[1]), bytes.fromhex(anchor[2])) if anchor else None)
    finally:
        sdl.close()
    out.print(f"{newest.number} rows match; head {newest}" if newest.number else "the log is empty")


@audit_cli.command("list")
def list_rows(
    data: DataDir,
    after: Annotated[int, typer.Option(help="Rows numbered above this.", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="At most so many rows.", min=1, max=100_000)] = 100,
) -> None:
    """Rows of the log, one JSON object per line."""
    sdl = _opened(data)
    try:
        rows = sdl.audit_rows(after=after, limit=limit)
    finally:
        sdl.close()
    for row in rows:
        entry = row.entry
        shown = {"number": row.number, "timeNs": row.time_ns, "actor": entry.actor, "action": entry.action}
        out.print(json.dumps({**shown, "subject": entry.subject, "details": entry.details, "hash": row.hash.hex()}))
