"""Control of stages and light over one WebSocket, also during a run: for scripts that react to what is tracked.

The connection is the control: nobody else has it while the socket is open,
and it ends when the socket closes, also when the script crashed. Commands are
answered in their order.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bathyscope_errors import BathyscopeError
from service.api.access import Access, Identity
from service.api.audit import AuditTrail
from service.api.auth import sender
from service.api.dependencies import Engine, LiveViews
from service.api.microscope import StageMove, as_engine_values
from service.api.problems import problem
from service.api.quantities import Line
from service.api.roles import allows
from service.api.stream import admitted
from service.files.access_keys import Role
from service.protocol.clients import EngineClient
from service.protocol.errors import EngineAway, EngineRefusal
from service.whole_numbers import WHOLE

__all__ = ["CONTROL_REFUSED", "router"]

CONTROL_REFUSED = 4409
"""Close code: another client has control, or it was taken away (4000 + the HTTP status)."""

_RENEW_S = 1.0
"""The engine takes control back after five of these."""

_CHANGE_TIMEOUT_S = 60.0
"""Long enough for slow drives and filter wheels."""

_GREETING_S = 5.0

_ROLE: Role = "operate"

_PATH = "/api/v1/control"

router = APIRouter(prefix="/api/v1")


class ControlRequest(BaseModel):
    """The first message of a client, or the second one after its access key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Line = Field(min_length=1, description="Who asks for control, for people.")


class ControlCommand(StageMove):
    """Where the stages go, and how the light is switched; what is absent stays."""

    id: Annotated[int, Field(ge=0, le=2**53), WHOLE] = Field(
        description="Number of the command; the answer repeats it."
    )
    channel: Line | None = Field(default=None, description="Preset of the light.")
    shutter: Literal["open", "closed"] | None = Field(default=None, description="State of the shutter.")


@router.websocket(_PATH.removeprefix(router.prefix))
async def control(socket: WebSocket, live: LiveViews, engine: Engine) -> None:
    """Control of stages and light: a request with a name, then commands, each answered."""
    identity, key = await admitted(socket, live)
    if identity is None:
        return
    if not allows(identity.role, _ROLE):
        await _note(socket, identity, None, 403)
        await _refuse(socket, _LesserRole(identity))
        return
    access: Access = socket.app.state.access
    own, wanted = secrets.token_hex(8), None
    try:
        async with asyncio.timeout(_GREETING_S):
            wanted = ControlRequest.model_validate_json(await socket.receive_text())
        begun = await engine.request("control.begin", {"id": own, "name": wanted.name})
    except (EngineAway, EngineRefusal) as refusal:
        await _note(socket, identity, wanted, problem(refusal.kind, refusal.problem, refusal.remedy).status_code)
        await _refuse(socket, refusal)
        return
    except (TimeoutError, ValueError, KeyError) as error:
        await _refuse(socket, _Malformed(f"The first message is not {{'name': ...}} ({error})."))
        return
    except WebSocketDisconnect:
        return
    noting = asyncio.create_task(_note(socket, identity, wanted, 101))  # a locked database delays no command
    renewing = asyncio.create_task(_renew(socket, engine, own, lambda: access.identify(key)))
    try:
        await socket.send_text(json.dumps({"type": "control", **begun}))
        await _carry_out(socket, engine, own)
    except WebSocketDisconnect:
        return
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await _end(engine, own)
        await asyncio.gather(noting, return_exceptions=True)


class _LesserRole(BathyscopeError):
    """A key that does not allow control."""

    kind = "role"

    def __init__(self, identity: Identity | None) -> None:
        whose = (
            "The access key was revoked"
            if identity is None
            else f"The key {identity.name} has the role {identity.role}"
        )
        super().__init__(f"{whose}; control of the stages needs {_ROLE}.", "Use a key with this role.")


class _Malformed(BathyscopeError):
    """A message that is no command."""

    kind = "validation"

    def __init__(self, text: str) -> None:
        super().__init__(text, "Correct it; the API guide states the commands.")


async def _note(socket: WebSocket, identity: Identity, wanted: ControlRequest | None, status: int) -> None:
    """One audit line for each control: its single moves are events, and may be a hundred a second."""
    audit: AuditTrail = socket.app.state.audit
    body = None if wanted is None else wanted.model_dump_json().encode()
    await audit.note(identity, sender(socket.scope, socket.headers), "WEBSOCKET", _PATH, body, status)


async def _carry_out(socket: WebSocket, engine: EngineClient, own: str) -> None:
    """Receive commands until the client leaves or control is taken away."""
    while True:
        text = await socket.receive_text()
        number: Any = None
        try:
            command = ControlCommand.model_validate_json(text)
            number = command.id
            values = {name: value for name, value in as_engine_values(command).items() if value is not None}
            result = await engine.request("control.change", {"id": own, **values}, _CHANGE_TIMEOUT_S)
            answer = {"id": number, **result}
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in fault["loc"]) or "The command"
            rule = fault["msg"].removeprefix("Value error, ").rstrip(".")
            answer = {"id": _number(text), "problem": _problem(_Malformed(f"{place}: {rule}."))}
        except (EngineAway, EngineRefusal) as refusal:
            answer = {"id": number, "problem": _problem(refusal)}
        await socket.send_text(json.dumps(answer))


async def _renew(socket: WebSocket, engine: EngineClient, own: str, owner: Callable[[], Identity | None]) -> None:
    """Tell the engine that the client is there; close the socket when control was taken away or the key revoked."""
    while True:
        await asyncio.sleep(_RENEW_S)
        identity = owner()
        if identity is None or not allows(identity.role, _ROLE):
            await _end(engine, own)
            await _refuse(socket, _LesserRole(identity))
            return
        try:
            await engine.request("control.renew", {"id": own})
        except EngineAway:
            continue
        except EngineRefusal as refusal:
            await _refuse(socket, refusal)
            return


async def _end(engine: EngineClient, own: str) -> None:
    try:
        await engine.request("control.end", {"id": own})
    except (EngineAway, EngineRefusal):
        return  # the engine takes control back by itself


async def _refuse(socket: WebSocket, error: BathyscopeError) -> None:
    try:
        await socket.send_text(json.dumps({"id": None, "problem": _problem(error)}))
        await socket.close(CONTROL_REFUSED, error.problem[:120].encode()[:120].decode(errors="ignore"))
    except (RuntimeError, WebSocketDisconnect):
        return


def _problem(error: BathyscopeError) -> Any:
    return json.loads(bytes(problem(error.kind, error.problem, error.remedy).body))


def _number(text: str) -> Any:
    """The number of a command that breaks a rule."""
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return values.get("id") if isinstance(values, dict) else None
