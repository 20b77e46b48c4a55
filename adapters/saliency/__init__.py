"""How a map is made from what a network computes: plain functions, for adapters to call."""
