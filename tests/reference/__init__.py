"""Plain Python twins of the algorithms in C."""
