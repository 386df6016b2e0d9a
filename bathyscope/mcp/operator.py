"""The client of the tools that move: its key is checked before its first request, and the audit names its origin."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context

from bathyscope.client import AsyncClient
from bathyscope.remote.problems import ServiceError

__all__ = ["Operator"]

_ROLES = ("operate", "administer")


class Operator:
    """Clients with the operate key, one for each program that speaks to the MCP server.

    Parameters
    ----------
    address, key : str
        Of the service.
    program : str
        What the audit names, followed by the name of the MCP client.
    """

    def __init__(self, address: str, key: str, program: str) -> None:
        self._address = address
        self._key = key
        self._program = program
        self._clients: dict[str, AsyncClient] = {}

    async def client(self, context: Context[Any, Any]) -> AsyncClient:
        """The client for the requests of a tool.

        Raises
        ------
        ServiceError
            When the service does not accept the key, the key does not allow to operate, or the service asks for none.
        """
        parameters = context.session.client_params
        caller = "unknown client" if parameters is None else parameters.client_info.name
        program = f"{self._program}, {caller}"
        if program not in self._clients:
            client = AsyncClient(self._address, self._key, program=program)
            try:
                await _check(client)
            except BaseException:
                await client.close()
                raise
            self._clients[program] = client
        return self._clients[program]

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()


async def _check(client: AsyncClient) -> None:
    try:
        found = await client.access()
    except ServiceError as error:
        if error.status != 401:
            raise
        raise ServiceError(
            f"The service at {client.address} does not accept the operate key.",
            "Give a valid key as --operate-key or BATHYSCOPE_OPERATE_KEY; make one with: "
            "bathyscope key add NAME --role operate.",
            kind="access-key",
            status=401,
        ) from error
    if not found["key_needed"]:
        raise ServiceError(
            f"The service at {client.address} asks for no access key, so the operate key proves nothing.",
            "On the computer of the service, make a key with: bathyscope key add NAME --role operate. Give it here.",
            kind="access-key",
        )
    if found["role"] not in _ROLES:
        raise ServiceError(
            f"The key {found['who']!r} has the role {found['role']}; tools that move need the role operate.",
            "Make another key with: bathyscope key add NAME --role operate.",
            kind="role",
            status=403,
        )
