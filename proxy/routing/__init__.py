"""Which targets answer a request, and why. Pure: no I/O, no clock."""
