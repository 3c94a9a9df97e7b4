"""A network as it is used: forward pass and loss, updates, what passes cost, looking without a trace."""
