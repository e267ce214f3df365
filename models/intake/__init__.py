"""How weights come in: sources, checkpoints, conversion, import of users' own models, the trial run."""
