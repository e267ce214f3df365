"""One file a task: what it answers, with its body beside it."""
