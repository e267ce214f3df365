"""Going out to addresses that callers name: the guard against request forgery, and a connector that cannot skip it."""
