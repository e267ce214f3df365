"""HTTP in, HTTP out: requests, keys, limits, errors. Knows no tensor."""

import signal

LAME_DUCK_SIGNAL = signal.SIGUSR1
"""Tells a gateway process that the platform begins to stop: see ``gateway.process``."""
