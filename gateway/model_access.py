"""Who may ask about a model, and who may change one: to others it is not there."""

from __future__ import annotations

from fastapi import Request

from gateway.context import Context, context_of
from gateway.middleware.keys import allow
from gateway.request.request_context import Caller
from services.runtime.problems import model_not_found


def require_seen(context: Context, caller: Caller, name: str) -> None:
    """Refuse a model, loaded or not, that is not there for ``caller``. Raises ``model-not-found``."""
    if all(status.name != name for status in context.backend.index()):
        raise model_not_found(name)
    context.owners.require(caller.viewer, name)


def allow_change(request: Request, name: str) -> Caller:
    """The caller of ``request`` if it may load, unload, share and remove a model: its owner, or the scope ``admin``.

    Raises ``model-not-found`` and ``scope-missing``.
    """
    caller, context = allow(request, "infer"), context_of(request)
    require_seen(context, caller, name)
    return caller if may_change(context, caller, name) else allow(request, "admin")


def may_change(context: Context, caller: Caller, name: str) -> bool:
    """Whether it is the model of the caller, who may have jobs, or the caller an administrator; never a job itself."""
    return caller.may("admin") or (caller.may("jobs") and context.owners.owns(caller.viewer, name))
