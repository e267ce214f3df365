"""The ``sightline`` command: one module a group of commands. They import what they need when they run."""
