"""One file a step; the newest is named by ``services.storage.database.HEAD``."""
