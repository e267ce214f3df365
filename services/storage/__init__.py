"""What must outlive a process: the SQL database (keys, jobs) and the artifact store."""
