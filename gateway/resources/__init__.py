"""One module a resource; each has a ``router`` that ``gateway.app`` includes by name."""
