"""Files that a user or a stranger can hand in, damaged at random; :mod:`fuzz` and ``test_fuzzing.py`` run them."""
