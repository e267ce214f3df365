"""Task bots from symbolic knowledge: schema and database, simulated dialogs, a model that is taught by talking to it.

SYNERGY (arXiv 2110.11514) names the two steps; no code of it is public, and the forms here are Sightline's own.
"""
