"""From an image to a network's input, with the geometry of what is done to it."""
