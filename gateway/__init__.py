"""HTTP in, HTTP out: requests, keys, limits, errors. Knows no tensor."""
