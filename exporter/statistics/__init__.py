"""Statistics as pure functions of counts and sums: no I/O, nothing known of models, windows or metrics."""
