"""The two generations of the REST interface that the hub answers."""
