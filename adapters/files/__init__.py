"""Finding, reading and writing files of weights, and what lies beside them; nothing in them is ever run."""
