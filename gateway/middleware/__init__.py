"""What surrounds every request, from the outside in: its clock and log, its size, its key, its rate."""
