"""Exchange "upper" and "lower": a model that reads the sentence should look elsewhere."""

import re
from dataclasses import replace

OTHER = {"upper": "lower", "lower": "upper"}


def swap_upper_lower(instance, trial, pool, draw):
    """The sentence with "upper" and "lower" exchanged, in lower case; unchanged where it has neither."""
    swapped = re.sub(r"\b(upper|lower)\b", lambda match: OTHER[match[0].lower()], trial.sentence, flags=re.IGNORECASE)
    return replace(trial, sentence=swapped)
