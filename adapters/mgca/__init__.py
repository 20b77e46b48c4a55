"""MGCA, and ConVIRT as its authors train it."""
