"""What operators see: the log, metrics and traces, all of them from the record of each request."""
