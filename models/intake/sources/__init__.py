"""Where weights come from: pinned archives, fetched and checked."""
