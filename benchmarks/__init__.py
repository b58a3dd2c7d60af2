"""Side-by-side measurements: the service and the core against what they are to be compared with."""
