"""Statistics as pure functions of counts and sums: no I/O, nothing known of models, windows or metrics.

All take leading axes (windows, groups, …) and broadcast over them. NaN says that a value cannot be computed.
"""
