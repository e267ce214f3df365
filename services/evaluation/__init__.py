"""Measuring models: metrics, suites of data sets, protocols, leaderboards. What trains runs in job workers only."""
