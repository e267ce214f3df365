"""Adapting a model to a user's data: heads, strategies, hyper-parameter search. Runs in job workers only."""
