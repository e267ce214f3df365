"""``make demo``: the platform answers about real photos, and every answer is checked."""
