"""What the launcher asks of the database: work for :func:`sightline.launcher.aside.aside`."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from services.errors import Kind, Problem
from services.settings import Settings
from services.storage.database import connect
from services.storage.database import upgrade as upgrade_schema
from services.storage.keys import KeyStore


def upgrade(settings: Settings) -> bool:
    """Bring the schema up to date. Raises ``database-unusable``."""
    try:
        upgrade_schema(settings.database)
    except SQLAlchemyError as error:
        raise Problem(
            Kind.UNAVAILABLE,
            "database-unusable",
            "The database cannot be used",
            str(getattr(error, "orig", None) or error).strip(),
            remedy="Is it up, and is SIGHTLINE_DATABASE_URL right? Without that variable a file in the data directory "
            "is used.",
        ) from error
    return True


def has_key(settings: Settings) -> bool:
    """Look whether there is any API key."""
    upgrade(settings)
    engine = connect(settings.database)
    try:
        return KeyStore(engine).any()
    finally:
        engine.dispose()
