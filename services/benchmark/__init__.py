"""Measuring models: metrics, suites of data sets, protocols. Runs in job workers only."""
