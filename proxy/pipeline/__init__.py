"""The one path of a request: attempts, timers, target health, one end."""
