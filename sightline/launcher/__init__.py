"""Starts the platform on one machine: processes, sockets, the run directory."""
