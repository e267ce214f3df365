"""What a benchmark came to: records, tables, plots, leaderboards, the winner. The gateway reads some of it."""
