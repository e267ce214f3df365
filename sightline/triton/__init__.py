"""A local tritonserver: found, given the platform's repository, started, watched, repaired."""
