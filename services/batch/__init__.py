"""The batch job: lines of requests in, lines of answers out, in order."""
