"""Requests joined into batches: a bounded queue, priorities, deadlines, how long a batch takes."""
