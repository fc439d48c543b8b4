"""The REST interface of a hub, in its two generations, as a client speaks it."""
