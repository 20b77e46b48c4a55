"""Training GLoRIA: its losses, the paper's variants, and one trainer for all of them."""
