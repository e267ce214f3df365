"""Suites of data sets as YAML files, and how their data are found, fetched and prepared."""
