"""Hyper-parameter search: ELEVATER's grid, and Parzen estimators."""
