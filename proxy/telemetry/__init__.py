"""What operators see: logs, metrics, usage."""
