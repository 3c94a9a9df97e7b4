"""What may happen to a training picture beyond flips and crops: moves, colours, filters, published policies."""
